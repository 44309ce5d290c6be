"""What a store says about itself as a whole, and what of that is proven.

A file at the top is proven where it has the SHA-256 that `SHA256SUMS` says, a shard also where it has the one of its
packed rows, which carry their own. Settings and list that are lost are taken from what is proven.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from flowprep.config import ExtractSettings
from flowprep.errors import MissingDataError, looking
from flowprep.records import Listing, Row, canonical_json
from flowprep.resume import parse_settings
from flowprep.stores.manifest import header_line, read_manifest
from flowprep.stores.packed import read_packed
from flowprep.stores.places import CHECKSUMS, MANIFEST, SPLITS, TIMING, shard_location
from flowprep.stores.savedlist import read_list
from flowprep.stores.shardfile import read_index
from flowprep.verify.files import UNTRUSTED, Files
from flowprep.verify.findings import Finding, Remedy
from flowprep.verify.listing import listing_of_manifest
from flowprep.verify.manifest import ManifestLines

BOOKS = ".flowprep"
SETTINGS = f"{BOOKS}/settings.json"
LIST = f"{BOOKS}/list.jsonl"
_BLOCK = 4 << 20  # bytes that are read at a time
_SUM = re.compile(rb"([0-9a-f]{64})  ([^\n]+)\n")


@final
@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of a store before its videos are looked at.

    `sums` is what `SHA256SUMS` says, `digests` has the SHA-256 of the files at the top that can be read. `has_books` is
    False for a store that was copied without its `.flowprep`. `list_is_own` is False where `listing` is that of the
    manifest.
    """

    files: Files
    settings: ExtractSettings
    listing: Listing
    finished: bool
    has_books: bool
    list_is_own: bool
    sums: Mapping[str, str]
    digests: Mapping[str, str]
    manifest: ManifestLines | None

    @property
    def out(self) -> Path:
        """The store."""
        return self.files.out

    @property
    def is_tree(self) -> bool:
        """True for a tree of JPEG files."""
        return self.settings.store.format == "jpeg"

    @property
    def is_adopted(self) -> bool:
        """True for images of another tool, which cannot be made again, and lie in a tree among what is not ours."""
        return self.settings.store.adopted

    @property
    def num_shards(self) -> int:
        """Shards that the list needs; 0 for a tree."""
        return 0 if self.is_tree else -(-len(self.listing.videos) // self.settings.store.shard_videos)

    def members(self, shard: int) -> range:
        """List indices of the videos of a shard."""
        size = self.settings.store.shard_videos
        return range(shard * size, min((shard + 1) * size, len(self.listing.videos)))

    def is_proven(self, name: str) -> bool:
        """True if a file at the top has the SHA-256 that `SHA256SUMS` says."""
        return name in self.digests and self.sums.get(name) == self.digests[name]

    @property
    def splits_are_lost(self) -> bool:
        """True if nothing says what the splits are."""
        return not self.list_is_own and not self.is_proven(SPLITS)

    @property
    def why_unprovable(self) -> str:
        """Why nothing of the store can be made again: a clause; "" if it can."""
        if not self.has_books and not self.is_proven(MANIFEST):
            return f"there is no .flowprep, and {MANIFEST} is not proven by {CHECKSUMS}"
        if self.splits_are_lost:
            return f"neither its list nor {SPLITS}, which has the splits too, can be believed"
        return ""

    def manifest_row(self, index: int) -> Row | None:
        """What the manifest says of a video; None if nothing that can be read."""
        return None if self.manifest is None else self.manifest.row(index)


def gather(out: Path, findings: list[Finding]) -> Evidence | None:
    """Read what a store says about itself. What is wrong with that is added to `findings`.

    None if nothing says with which settings, or of which videos it was made; the findings say what is lost.
    Raises MissingDataError if there is no such folder, or it is no store.
    """
    with looking():
        is_folder = out.is_dir()
    if not is_folder:
        raise MissingDataError(f"there is no store {out}; `flowprep extract` makes one")
    files = Files(out)
    if not any(files.exists(name) for name in (MANIFEST, BOOKS, CHECKSUMS)):
        raise MissingDataError(f"{out} is not a flowprep store; `flowprep extract` makes one")
    has_books = files.problem(BOOKS, folder=True) is None
    finished = any(files.exists(name) for name in (MANIFEST, CHECKSUMS, "run.json"))
    sums = _read_sums(files, findings) if finished else {}
    digests = dict(_digests(files, (MANIFEST, SPLITS), findings)) if finished else {}
    is_proven = MANIFEST in digests and sums.get(MANIFEST) == digests[MANIFEST]
    settings = _decide_settings(files, findings, sums, has_books=has_books, is_proven=is_proven)
    if settings is None:
        return None
    if settings.store.format == "jpeg" and finished:
        digests.update(_digests(files, (TIMING,), findings))
    splits_proven = SPLITS in digests and sums.get(SPLITS) == digests[SPLITS]
    listing, problem = _read_listing(files) if has_books else (None, None)
    list_is_own = listing is not None
    if listing is None and MANIFEST in digests and (is_proven or not has_books):
        with contextlib.suppress(*UNTRUSTED):
            listing = listing_of_manifest(files, settings, splits_proven=splits_proven)
    if problem is not None:
        kind, text = problem
        if listing is None or not splits_proven:
            text += "; if you know how the store was made, move the file away and run that command again"
        remedy = Remedy.LIST if listing is not None and splits_proven else Remedy.NONE
        findings.append(Finding(kind=kind, path=LIST, text=text, remedy=remedy))
    if listing is None:
        if not has_books:
            findings.append(Finding(kind="damaged", path=MANIFEST, text="its rows cannot be read"))
        return None
    manifest = None
    if MANIFEST in digests:
        manifest = ManifestLines(files, settings, {video.id: index for index, video in enumerate(listing.videos)})
    if not has_books and not is_proven:
        text = f"is not proven by {CHECKSUMS}, and there is no .flowprep that says what it must be"
        findings.append(Finding(kind="damaged", path=MANIFEST, text=text))
    return Evidence(
        files=files,
        settings=settings,
        listing=listing,
        finished=finished,
        has_books=has_books,
        list_is_own=list_is_own,
        sums=sums,
        digests=digests,
        manifest=manifest,
    )


def _read_sums(files: Files, findings: list[Finding]) -> dict[str, str]:
    sums: dict[str, str] = {}
    problem = files.problem(CHECKSUMS)
    if problem is None:
        try:
            for number, line in enumerate(b"".join(files.blocks(CHECKSUMS)).splitlines(keepends=True), 1):
                found = _SUM.fullmatch(line)
                name = found[2].decode("utf-8", "surrogateescape") if found else ""
                if found and name not in sums:
                    sums[name] = found[1].decode()
                elif problem is None:
                    problem = "damaged", f"line {number} is not a checksum of a file, or of one that stands above"
            if not sums and problem is None:
                problem = "damaged", "has no lines"
        except OSError as error:
            problem = "unreadable", f"cannot be read: {error}"
    if problem is not None:
        findings.append(Finding(kind=problem[0], path=CHECKSUMS, text=problem[1], remedy=Remedy.TOP))
    return sums


def _digests(files: Files, names: tuple[str, ...], findings: list[Finding]) -> list[tuple[str, str]]:
    digests = []
    for name in names:
        problem = files.problem(name)
        try:
            if problem is None:
                digests.append((name, files.sha256(name)))
        except OSError as error:
            problem = "unreadable", f"cannot be read: {error}"
        if problem is not None:
            findings.append(Finding(kind=problem[0], path=name, text=problem[1], remedy=Remedy.TOP))
    return digests


def _decide_settings(
    files: Files, findings: list[Finding], sums: Mapping[str, str], *, has_books: bool, is_proven: bool
) -> ExtractSettings | None:
    """The settings that hold: of a proven manifest, else of a proven shard, else the store's own.

    Its own hold if their checksum proves them. Those of a store that has none yet hold only if no manifest contradicts
    them, or the manifest is proven but for its header. Without `.flowprep` the manifest has the only ones there are.
    """
    header = _header_settings(files)
    if not has_books:
        if header is None:
            text = "has no header with the settings of the store"
            findings.append(Finding(kind="damaged", path=MANIFEST, text=text))
        return header
    own, own_is_proven, problem = _own_settings(files)
    chosen = header if is_proven else _shard_settings(files)
    if chosen is None:
        chosen = own
        if own is not None and not own_is_proven and header not in (None, own) and not _prove(files, own, sums):
            chosen, problem = None, ("disagrees", f"says other settings than {MANIFEST}, and neither of them is proven")
    elif own is not None and own != chosen:
        problem = "disagrees", "says other settings than the store was made with"
    if problem is not None:
        remedy = Remedy.SETTINGS if chosen is not None else Remedy.NONE
        findings.append(Finding(kind=problem[0], path=SETTINGS, text=problem[1], remedy=remedy))
    return chosen


def _prove(files: Files, settings: ExtractSettings, sums: Mapping[str, str]) -> bool:
    """True if the manifest would have its checksum if its header said these settings."""
    digest = hashlib.sha256()
    with files.path(MANIFEST).open("rb") as file:
        num_videos = sum(1 for _ in file) - 1
        file.seek(0)
        file.readline()
        digest.update(f"{header_line(settings, num_videos)}\n".encode())
        while block := file.read(_BLOCK):
            digest.update(block)
    return sums.get(MANIFEST) == digest.hexdigest()


def _own_settings(files: Files) -> tuple[ExtractSettings | None, bool, tuple[str, str] | None]:
    """The settings in the books, whether their checksum proves them, and what is wrong with the file."""
    problem = files.problem(SETTINGS)
    if problem is not None:
        return None, False, problem
    try:
        data = b"".join(files.blocks(SETTINGS))
        content, is_proven = parse_settings(data)
        settings = ExtractSettings.from_json(content)
        is_as_written = is_proven or data.removesuffix(b"\n") == canonical_json(settings.to_json()).encode()
        return settings, is_proven, None if is_as_written else ("damaged", "is not as it was written")
    except UNTRUSTED as error:
        return None, False, ("damaged", f"has no settings that can be read: {error}")


def _header_settings(files: Files) -> ExtractSettings | None:
    try:
        return read_manifest(files.path(MANIFEST))[0] if files.problem(MANIFEST) is None else None
    except UNTRUSTED:
        return None


def _shard_settings(files: Files) -> ExtractSettings | None:
    """What the first shard says that its packed rows prove."""
    if files.problem(f"{BOOKS}/packed", folder=True) is not None:
        return None
    for rows in sorted(files.path(f"{BOOKS}/packed").glob("[0-9]*[0-9].jsonl")):
        try:
            place = shard_location(int(rows.stem))
            if files.problem(place) is None and read_packed(rows).file_sha256 == files.sha256(place):
                data: Any = json.loads(read_index(files.path(place)).settings_json)
                return ExtractSettings.from_json(data)
        except UNTRUSTED:
            continue
    return None


def _read_listing(files: Files) -> tuple[Listing | None, tuple[str, str] | None]:
    problem = files.problem(LIST)
    if problem is None:
        try:
            return read_list(files.out).listing, None
        except UNTRUSTED:
            problem = "damaged", "does not have the checksum in its last line, or is no list"
    return None, problem
