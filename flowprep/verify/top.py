"""The files at the top of a store: each is what list and records make it, and has its line in `SHA256SUMS`."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flowprep.records import canonical_json
from flowprep.stores.manifest import split_json
from flowprep.stores.packed import file_sha256
from flowprep.stores.places import CHECKSUMS, MANIFEST, SPLITS, TIMING, row_path, shard_location
from flowprep.stores.rowfile import read_row_file
from flowprep.stores.timingfile import write_timing
from flowprep.verify.evidence import Evidence
from flowprep.verify.files import UNTRUSTED
from flowprep.verify.findings import Finding, Remedy
from flowprep.verify.looked import Looked


def check_top(evidence: Evidence, looked: Looked) -> Iterator[Finding]:
    """Compare the files at the top of a finished store with what they must be."""
    yield from _run_json(evidence)
    if evidence.splits_are_lost:
        text = "is not proven, and there is no list that says what it must be"
        yield Finding(kind="damaged", path=SPLITS, text=text)
    if is_behind(evidence, looked):
        for name in (SPLITS, TIMING):
            if name in evidence.digests and evidence.sums and not evidence.is_proven(name):
                yield _wrong(name, "damaged", f"does not have the checksum that {CHECKSUMS} says")
        return
    good: dict[str, bool | None] = {SPLITS: _is_good_splits(evidence)}
    if evidence.has_books:  # else the manifest is what all else is compared with
        problems = [] if evidence.manifest is None else [*evidence.manifest.problems, *looked.lines]
        if not evidence.is_proven(MANIFEST):
            yield from problems
        good[MANIFEST] = None if not problems and looked.num_uncompared else not problems
    for name, digest in evidence.digests.items():
        if (name == SPLITS and evidence.splits_are_lost) or (name == MANIFEST and not evidence.has_books):
            continue  # which has been said
        if name == TIMING and not evidence.is_proven(name):
            good[name] = _timing_digest(evidence) == digest
        yield from _about_sum(evidence, name, good.get(name))
    for place, digest in looked.sums.items():
        if evidence.sums and evidence.sums.get(place) != digest:
            text = f"says another checksum of {place}" if place in evidence.sums else f"has no line of {place}"
            yield _wrong(CHECKSUMS, "disagrees", text)
    known = {*evidence.digests, MANIFEST, SPLITS, *([TIMING] if evidence.is_tree else [])}
    for name in evidence.sums.keys() - known - {shard_location(shard) for shard in range(evidence.num_shards)}:
        yield _wrong(CHECKSUMS, "added", f"has a line of {name}, which is no file of this store")


def is_behind(evidence: Evidence, looked: Looked) -> bool:
    """True if a run has changed videos since the manifest, which is proven, was written."""
    if evidence.manifest is None or not evidence.is_proven(MANIFEST) or not evidence.has_books:
        return False
    return bool(looked.lines) or len(evidence.listing.videos) > evidence.manifest.num_videos


def _about_sum(evidence: Evidence, name: str, is_good: bool | None) -> Iterator[Finding]:
    """Which of a file and its line in `SHA256SUMS` is wrong. `is_good` is None where nothing else tells."""
    if evidence.sums and name not in evidence.sums:
        yield _wrong(CHECKSUMS, "missing", f"has no line of {name}")
    if evidence.is_proven(name) or name not in evidence.sums:
        if is_good is False and name != MANIFEST:
            yield _wrong(name, "disagrees", "is not what the list and the records of the store make it")
    elif is_good:
        yield _wrong(CHECKSUMS, "disagrees", f"says another checksum of {name}, whose content is as it must be")
    elif name != MANIFEST or is_good is None:  # else the lines that are wrong have been named
        yield _wrong(name, "damaged", f"does not have the checksum that {CHECKSUMS} says")


def _is_good_splits(evidence: Evidence) -> bool | None:
    """Whether splits.json is what the list says; None if that list is made from it."""
    if not evidence.list_is_own:
        return None
    listing = evidence.listing
    line = canonical_json(split_json(listing.dataset, listing.classes, listing.splits)) + "\n"
    return hashlib.sha256(line.encode()).hexdigest() == evidence.digests.get(SPLITS)


def _timing_digest(evidence: Evidence) -> str:
    """SHA-256 of timing.h5 as the row files make it; "" if they do not. The file itself is not read as HDF5."""
    ids: list[str] = []
    frames: list[int] = []
    try:
        for video in evidence.listing.videos:
            path = row_path(evidence.out, video.id)
            if path.exists() and (row := read_row_file(path).row).state.stored:
                ids.append(row.id)
                frames.append(row.frames)
        times = (list(read_row_file(row_path(evidence.out, video)).pts_seconds) for video in ids)
        with tempfile.TemporaryDirectory(prefix="flowprep-verify-") as folder:
            write_timing(Path(folder, TIMING), ids, frames, times)
            return file_sha256(Path(folder, TIMING))
    except (*UNTRUSTED, AssertionError):
        return ""


def _run_json(evidence: Evidence) -> Iterator[Finding]:
    """`run.json` differs from run to run; all that can be said is whether it is one."""
    name = "run.json"
    problem = evidence.files.problem(name)
    if problem is not None and problem[0] == "missing" and not evidence.has_books:
        return  # left out of a copy, as .flowprep was
    if problem is None:
        try:
            if isinstance(json.loads(b"".join(evidence.files.blocks(name))), dict):
                return
            problem = "damaged", "is not a JSON object"
        except UNTRUSTED as error:
            problem = "damaged", f"is not a JSON object: {error}"
    yield _wrong(name, *problem)


def _wrong(path: str, kind: str, text: str) -> Finding:
    return Finding(kind=kind, path=path, text=text, remedy=Remedy.TOP)
