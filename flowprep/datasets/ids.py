"""Ids that no two videos share on any file system, and their folder names."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from flowprep.errors import DatasetError
from flowprep.records import Video

MAX_FOLDER_BYTES = 200
"""Longest folder name: file systems allow 255 bytes, and temporary names and attempts need the rest."""

STORE_FILES = frozenset({"manifest.jsonl", "splits.json", "run.json", "timing.h5", "sha256sums"})
"""Names at the root of a store that are not folders of videos."""

_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f/\\%:*?"<>|\ud800-\udfff]|^[.-]|[. ]\Z')
_CUT_ESCAPE = re.compile(rb"%[0-9A-F]?\Z")


def finish_ids(videos: Iterable[Video]) -> tuple[Video, ...]:
    """The videos in their order, with ids that stay apart where case and Unicode form do not count.

    Ids that are equal after NFC and case folding all get `~` and 8 hex digits of the SHA-256 of their relative path's
    bytes; where these are segments of one path, its times are hashed too. The same is done where only the folders of
    a tree would meet, or one would lie inside another. Other ids are left alone.

    Raises DatasetError if two entries differ in nothing (listings drop repeated lines before).
    """
    done = list(videos)
    originals = [video.id for video in done]
    for attempt in range(3):
        meeting = _meeting(done)
        if not meeting:
            return tuple(done)
        num_by_path = Counter(done[index].path for index in meeting)
        for index in meeting:
            video = done[index]
            source = raw_bytes(video.path)
            if video.segment is not None and num_by_path[video.path] > 1:
                source += f"\0{video.segment.start_seconds!r}\0{video.segment.end_seconds!r}".encode()
            if attempt:  # the first hash was not enough: one path under two ids
                source += b"\0" + raw_bytes(originals[index])
            suffix = hashlib.sha256(source).hexdigest()[:8]
            done[index] = dataclasses.replace(video, id=f"{originals[index]}~{suffix}")
    video = done[min(_meeting(done))]
    raise DatasetError(f"the id {video.id!r} of {video.path!r} is used for two equal entries; give them other ids")


def _meeting(videos: list[Video]) -> list[int]:
    """Indices of the videos whose id or folder meets that of another one, in order."""
    meeting = _repeated(fold(video.id) for video in videos) | _repeated(fold(video_folder(video)) for video in videos)
    class_folders = {fold(_not_reserved(folder_name(name))) for name in {video.class_name for video in videos} if name}
    if class_folders:
        for index, video in enumerate(videos):
            if not video.class_name and fold(video_folder(video)) in class_folders:
                meeting.add(index)
    return sorted(meeting)


def _repeated(keys: Iterable[str]) -> set[int]:
    """Indices of the keys that occur more than once."""
    first: dict[str, int] = {}
    repeated = set()
    for index, key in enumerate(keys):
        earlier = first.setdefault(key, index)
        if earlier != index:
            repeated |= {earlier, index}
    return repeated


def video_folder(video: Video) -> str:
    """The folder of a video in a tree: `<class>/<video>`, or `<video>` where there is no class.

    An id that begins with its class and a slash does not repeat it; any other slash is percent-encoded, so that the
    folder is never deeper. Names of the store's own files are not used.
    """
    if not video.class_name:
        return _not_reserved(folder_name(video.id))
    own = video.id.removeprefix(video.class_name + "/")
    return f"{_not_reserved(folder_name(video.class_name))}/{folder_name(own)}"


def folder_name(text: str) -> str:
    r"""One safe part of a path for any text.

    Control characters, bytes that are not UTF-8, any of `/ \ % : * ? " < > |`, a leading dot or dash and a trailing
    dot or blank are percent-encoded, byte by byte as in URLs: `urllib.parse.unquote_to_bytes` gives the text's bytes
    back. Names of more than `MAX_FOLDER_BYTES` are cut and end in `~` and 16 hex digits of the SHA-256 of the text;
    those are not reversible. An empty text becomes `%`.
    """
    name = _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in raw_bytes(found[0])), text) or "%"
    encoded = name.encode()
    if len(encoded) <= MAX_FOLDER_BYTES:
        return name
    suffix = "~" + hashlib.sha256(raw_bytes(text)).hexdigest()[:16]
    start = _CUT_ESCAPE.sub(b"", encoded[: MAX_FOLDER_BYTES - len(suffix)])
    return start.decode(errors="ignore") + suffix


def fold(text: str) -> str:
    """A form that is equal for texts that differ only in case or in how Unicode composes their characters."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def raw_bytes(text: str) -> bytes:
    """The bytes that a path or id stands for: surrogate escapes are the bytes they came from."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate out of a JSON file, which never was a byte
        return text.encode("utf-8", "surrogatepass")


def _not_reserved(name: str) -> str:
    if fold(name) not in STORE_FILES:
        return name
    return name.replace(".", "%2E") if "." in name else f"%{ord(name[0]):02X}{name[1:]}"
