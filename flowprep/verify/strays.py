"""What lies in a store and belongs to nothing in it, and links, wherever they are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator

from flowprep.stores.places import CHECKSUMS, MANIFEST, SHARDS, SPLITS, TIMING, id_hash, shard_location
from flowprep.verify.evidence import BOOKS, Evidence
from flowprep.verify.findings import Finding, Remedy

_OWN_FILES = frozenset({"settings.json", "list.jsonl", "overwriting", "adopted"})
_OWN_FOLDERS = frozenset({"staging", "aside", "journal", "drivers", "rows", "commits", "packed"})
_UNREAD = frozenset({"staging", "aside", "journal", "drivers"})
"""Folders of `.flowprep` whose content means nothing to a reader of the store."""

_PACKED = re.compile(r"([0-9]{5,})(\.next)?\.jsonl")
_RECORD = re.compile(r"([0-9a-f]{64})\.(json|clip)")


def find_strays(evidence: Evidence, video_folders: Collection[str]) -> list[Finding]:
    """All strays. `video_folders` are those that have been looked at, or may be there: each is left out."""
    # Where another tool's tree lies, what else is there is nobody's business.
    findings = [] if evidence.is_adopted and evidence.is_tree else list(_top(evidence, set(video_folders)))
    if evidence.has_books:
        findings += _books(evidence)
    elif evidence.files.exists(BOOKS):
        text = "must be a folder of the store itself; remove the link, or put the folder in its place"
        findings.append(Finding(kind="link", path=BOOKS, text=text, remedy=Remedy.BY_HAND))
    return findings


def _top(evidence: Evidence, expected: set[str]) -> Iterator[Finding]:
    files = {MANIFEST, SPLITS, CHECKSUMS, "run.json", *([TIMING] if evidence.is_tree else [])}
    above = {folder[:end] for folder in expected for end, letter in enumerate(folder) if letter == "/"}
    shards = {shard_location(shard) for shard in range(evidence.num_shards)}
    if not evidence.is_tree:
        above.add(SHARDS)
    waiting = [""]
    while waiting:
        for entry, place in _entries(evidence, waiting.pop()):
            if place in expected or place in files or place in shards:
                continue  # looked at by its own check, which does not believe that it is a file or folder either
            if place == BOOKS:
                continue
            if place in above and entry.is_dir(follow_symlinks=False):
                waiting.append(place)
            else:
                yield _stray(entry, place)


def _books(evidence: Evidence) -> Iterator[Finding]:
    ids = {id_hash(video.id) for video in evidence.listing.videos}
    num_shards = evidence.num_shards

    def is_packed(name: str, _: str) -> bool:
        found = _PACKED.fullmatch(name)
        return found is not None and int(found[1]) < num_shards

    def is_record(name: str, folder: str) -> bool:
        found = _RECORD.fullmatch(name)
        return found is not None and found[1][:2] == folder[-2:] and (not ids or found[1] in ids)

    checks: dict[str, Callable[[str, str], bool]] = {"rows": is_record}
    if not evidence.is_tree:
        checks |= {"packed": is_packed, "commits": is_record}
    for entry, place in _entries(evidence, BOOKS):
        if entry.name in _OWN_FILES:
            continue
        if entry.name not in _OWN_FOLDERS or not entry.is_dir(follow_symlinks=False):
            yield _stray(entry, place, cannot_move=entry.name in ("staging", "aside", "drivers"))
        elif entry.name not in _UNREAD:
            yield from _records(evidence, place, checks.get(entry.name, lambda _name, _folder: False))


def _records(evidence: Evidence, top: str, is_ours: Callable[[str, str], bool]) -> Iterator[Finding]:
    """What is not ours in a folder of records, and in the folders by hash inside it."""
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        for entry, place in _entries(evidence, folder):
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder and folder == top and re.fullmatch("[0-9a-f]{2}", entry.name) and not top.endswith("packed"):
                waiting.append(place)
            elif is_folder or not is_ours(entry.name, folder):
                yield _stray(entry, place)


def _entries(evidence: Evidence, folder: str) -> Iterator[tuple[os.DirEntry[str], str]]:
    """What is in a folder, by name, with its place."""
    try:
        with os.scandir(evidence.files.path(folder)) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not entry.name.startswith(".nfs"):  # what NFS keeps of an open file
                    yield entry, f"{folder}/{entry.name}" if folder else entry.name
    except OSError:
        return  # said where its files are looked at


def _stray(entry: os.DirEntry[str], place: str, *, cannot_move: bool = False) -> Finding:
    if cannot_move:
        text = "must be a folder of the store itself; remove it"
        return Finding(kind="link", path=place, text=text, remedy=Remedy.BY_HAND)
    if entry.is_symlink():
        return Finding(kind="link", path=place, text="is a symbolic link", remedy=Remedy.ASIDE)
    return Finding(kind="added", path=place, text="belongs to nothing in the store", remedy=Remedy.ASIDE)
