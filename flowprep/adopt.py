"""`flowprep adopt`: a tree of JPEG files that another tool has made becomes a store where it lies.

Only the books of a store are written into the tree (`.flowprep`, the manifest and what goes with it); no image is
touched, moved or made again. What no file tells, bound and rule of the flow, is asked for; what can be measured, the
zero level, is compared with what was said.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep import commit, driver, machine, resume, zerolevel
from flowprep.adopt_listing import check_classes, list_tree
from flowprep.adopt_video import check_video
from flowprep.conclusion import conclude, write_run_json
from flowprep.config import ExtractSettings, RunSettings
from flowprep.errors import SettingsError
from flowprep.interruption import Interruption
from flowprep.inthreads import Outcome, do_videos
from flowprep.listener import Listener, Quiet
from flowprep.publisher import Publisher, open_publisher
from flowprep.records import Listing, Row
from flowprep.stores.alignment import check_as_a_whole
from flowprep.stores.foreign import Facts, foreign_settings, missing_fact
from flowprep.stores.inventory import Inventory, take_inventory
from flowprep.stores.places import CHECKSUMS, MANIFEST, adopted_mark, id_hash
from flowprep.stores.rowfile import Entry
from flowprep.stores.savedlist import SavedList, identity, list_lines, list_path, read_identities
from flowprep.summary import Summary, summarise
from flowprep.zerolevel import ZeroLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """How it ended, and the zero level that was measured (None without flow)."""

    summary: Summary
    zero: ZeroLevel | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**self.summary.to_json(), "zero_level": None if self.zero is None else self.zero.to_json()}


def adopt(
    path: Path | str,
    facts: Facts,
    *,
    dataset: str = "folder",
    splits: Path | None = None,
    trust_rounding: bool = False,
    run: RunSettings | None = None,
    listener: Listener | None = None,
    interruption: Interruption | None = None,
) -> Adopted:
    """Make the tree `path` a store. Run again after mending it: everything is then checked anew.

    `splits` is the folder of the official lists of `dataset`; videos that they name and the tree has not are `missing`.
    Of `run`, jobs, durability, strict and takeover count.

    Raises:
        MissingDataError: there is no such folder.
        SettingsError: a fact is missing or contradicts the tree, which is then as it was.
        RunStoppedError: the disk is full or fails.
    """
    root, run, heard = Path(path), run or RunSettings(), listener or Quiet()
    interruption = interruption or Interruption()
    started = time.perf_counter()
    _check_is_foreign(root)
    inventory = take_inventory(root, facts.layout)
    settings, zero = _settings(root, facts, inventory, dataset, trust=trust_rounding)
    listing = list_tree(root, dataset, splits, inventory.videos)
    check_classes(root, settings, listing)
    if not os.access(root, os.W_OK):
        raise SettingsError(
            f"{root} cannot be written, and a store's books lie beside its images; give write permission, or read it "
            f"without books: flowprep.open_store({str(root)!r}, layout={facts.layout!r}, ..)"
        )
    for note in (*listing.notes, *_notes(inventory, zero)):
        heard.note(note)
    publisher = open_publisher(root, settings, durability=run.durability)
    with driver.Driver(root, None, takeover=run.takeover):
        _begin(root, settings, SavedList(listing=listing, videos=None, splits=splits))
        summary = _check_all(root, settings, listing, inventory, publisher, run, heard, interruption)
        summary = dataclasses.replace(summary, seconds=round(time.perf_counter() - started, 3))
        if not summary.interrupted:
            write_run_json(root, summary)
    return Adopted(summary=summary, zero=zero)


def _check_is_foreign(root: Path) -> None:
    is_store = (root / MANIFEST).exists() or resume.settings_path(root).exists()
    if is_store and not adopted_mark(root).exists():
        raise SettingsError(f"{root} is a flowprep store already; there is nothing to adopt")


def _settings(
    root: Path, facts: Facts, inventory: Inventory, dataset: str, *, trust: bool
) -> tuple[ExtractSettings, ZeroLevel | None]:
    """The settings of the tree, checked against all of it, and its zero level."""
    assumed = facts if facts.rounding is not None else dataclasses.replace(facts, rounding="round")
    settings = foreign_settings(root, assumed, inventory, dataset=dataset)
    check_as_a_whole(inventory.videos, settings)
    if not settings.store.flow:
        return settings, None
    zero = zerolevel.measure(root, settings, inventory.videos)
    if facts.rounding is None:
        raise missing_fact(root, "rounding", f". {zero.text[0].upper()}{zero.text[1:]}")
    zerolevel.check(root, settings, zero, trust=trust)
    return settings, zero


def _notes(inventory: Inventory, zero: ZeroLevel | None) -> list[str]:
    notes = []
    if zero is not None:
        notes.append(f"{zero.text[0].upper()}{zero.text[1:]}.")
    if inventory.num_strays:
        named = ", ".join(inventory.strays)
        notes.append(f"{inventory.num_strays} files lie outside of the videos' folders, such as {named}.")
    if inventory.linked:
        notes.append(f"{len(inventory.linked)} links to folders were not followed, such as {inventory.linked[0]}.")
    return notes


def _begin(root: Path, settings: ExtractSettings, saved: SavedList) -> None:
    """Record settings and list. Rows that an interrupted adoption has left stay if they are of the same."""
    with commit.output_errors(root, video=False):
        commit.create_file(root, adopted_mark(root), b"")
        is_same = not (root / MANIFEST).exists() and _is_begun(root, settings, saved.listing)
        for name in (MANIFEST, CHECKSUMS):
            commit.remove_file(root / name, sync=True)
        if not is_same:
            commit.remove_tree(root / ".flowprep" / "rows")
        commit.remove_leftovers(root)
    commit.write_lines(resume.settings_path(root), resume.encode_settings(settings).decode().splitlines())
    commit.write_lines(list_path(root), list_lines(saved))


def _is_begun(root: Path, settings: ExtractSettings, listing: Listing) -> bool:
    try:
        there, _ = resume.parse_settings(resume.settings_path(root).read_bytes())
        return bool(there == settings.to_json()) and list(read_identities(root)) == list(map(identity, listing.videos))
    except (OSError, ValueError):  # also ours: StoreError is a ValueError, MissingDataError an OSError
        return False


def _check_all(
    root: Path,
    settings: ExtractSettings,
    listing: Listing,
    inventory: Inventory,
    publisher: Publisher,
    run: RunSettings,
    heard: Listener,
    interruption: Interruption,
) -> Summary:
    """Check the videos that have no row yet, and write the manifest."""
    found_at = {found.location: found for found in inventory.videos}
    videos = listing.videos

    def is_done(index: int) -> bool:
        row = publisher.read_row(videos[index], index)
        return row is not None and row.state.stored

    def check(index: int) -> Row:
        return check_video(root, settings, found_at[videos[index].path], videos[index])

    def publish(outcome: Outcome) -> None:
        row = outcome.row
        entry = Entry(row, outcome.list_index, [math.nan] * row.frames)
        with (
            commit.output_errors(root, video=False),
            commit.staged(root, id_hash(row.id)[:16], "adopt") as staging,
        ):
            publisher.publish_row_file(entry, staging)

    progress = do_videos(
        root,
        videos,
        [index for index, video in enumerate(videos) if video.problem is None and not is_done(index)],
        check,
        jobs=run.jobs or machine.num_cores(),
        heard=heard,
        interruption=interruption,
        after=publish,
    )
    if not progress.complete:
        progress.counts.complete(len(videos))
        return summarise(root, listing, progress.counts, progress.tally, interrupted=True)
    return conclude(root, settings, listing, publisher, progress.tally, strict=run.strict)
