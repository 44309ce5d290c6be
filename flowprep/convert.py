"""`flowprep convert`: a finished store in another layout or as shards. JPEG bytes are copied, never decoded.

The new store is made by the publishing of a run, from the same rows and in the same order. Hence it is the one that
`extract` would have made with these settings, to the byte, and `extract` can go on with it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence, Set
from pathlib import Path

from flowprep import commit, driver, machine, resume
from flowprep.conclusion import conclude, write_run_json
from flowprep.config import ExtractSettings, RunSettings
from flowprep.convert_source import SourceRows, list_of, mtimes_of
from flowprep.convert_video import Converter
from flowprep.errors import MissingDataError, SettingsError, looking
from flowprep.first_image import FirstImages
from flowprep.interruption import Interruption
from flowprep.inthreads import do_videos
from flowprep.listener import Listener, Quiet
from flowprep.packer import Packer
from flowprep.publisher import open_publisher
from flowprep.records import Listing, Row, Video
from flowprep.stores import Store, check_listing, open_store
from flowprep.stores.places import adopted_mark, id_hash
from flowprep.summary import Summary, summarise


def convert(
    source: Path | str,
    out: Path | str,
    *,
    format: str,
    layout: str = "flowprep",
    shard_videos: int | None = None,
    videos: Path | str | None = None,
    quality: int | None = None,
    run: RunSettings | None = None,
    listener: Listener | None = None,
    interruption: Interruption | None = None,
) -> Summary:
    """Make the store `out` of all that is in the store `source`; run again to resume.

    `shard_videos` is that of the source where it is None. `videos` is the folder of the videos, for the first image of
    each, which layout tsn has not, and `quality` the JPEG quality of these where the source was adopted. Videos that
    are damaged in the source fail, and are tried again the next time. Of `run`, jobs, durability, strict and takeover
    count.

    Raises:
        MissingDataError, StoreError: there is no such store, or it is not finished or damaged as a whole.
        SettingsError, DatasetError: the layout cannot hold it, or `out` is something else; nothing has been done.
        RunStoppedError: the disk is full or fails; what is finished is kept.
    """
    started, out, run, heard = time.perf_counter(), Path(out), run or RunSettings(), listener or Quiet()
    interruption = interruption or Interruption()
    with open_store(source) as store:
        rows = SourceRows(store)
        saved = list_of(store, rows)
        settings = target_settings(store.settings, format=format, layout=layout, shard_videos=shard_videos)
        check_listing(settings, saved.listing.videos)
        _check_places(store.path, out)
        first_images = _first_images(store, settings, videos, quality)
        checked = resume.check(out, settings, saved.listing, target="OUT")
        for note in saved.listing.notes:
            heard.note(note)
        open_publisher(out, settings, durability=run.durability)  # a folder that cannot be written is wrong use
        with driver.Driver(out, None, takeover=run.takeover):
            resume.begin(out, settings, saved, checked=checked)
            converter = Converter(
                store,
                out,
                settings,
                durability=run.durability,
                first_images=first_images,
                mtime_ns_of=mtimes_of(store),
            )
            summary = _convert_all(out, settings, saved.listing, rows, converter, run, heard, interruption)
            summary = dataclasses.replace(summary, seconds=round(time.perf_counter() - started, 3))
            if not summary.interrupted:
                write_run_json(out, summary)
    return summary


def target_settings(
    settings: ExtractSettings, *, format: str, layout: str = "flowprep", shard_videos: int | None = None
) -> ExtractSettings:
    """The settings of a store in another form. Raises SettingsError where the layout cannot hold it."""
    store = dataclasses.replace(
        settings.store, format=format, layout=layout, shard_videos=shard_videos or settings.store.shard_videos
    )
    return dataclasses.replace(settings, store=store)


def _convert_all(
    out: Path,
    settings: ExtractSettings,
    listing: Listing,
    rows: Sequence[Row],
    converter: Converter,
    run: RunSettings,
    heard: Listener,
    interruption: Interruption,
) -> Summary:
    videos = listing.videos
    commit.remove_leftovers(out)
    todo = [index for index, row in enumerate(rows) if not converter.is_done(videos[index], index, row)]
    _drop_aside(out, videos, set(todo))
    packer = Packer(out, settings, videos, durability=run.durability)
    packer.expect(todo)
    progress = do_videos(
        out,
        videos,
        todo,
        lambda index: converter.convert(videos[index], index, rows[index]),
        jobs=run.jobs or machine.num_cores(),
        heard=heard,
        interruption=interruption,
        after=lambda outcome: packer.finished(outcome.list_index),
        rest=lambda stopped: packer.pack_rest(range(len(videos)), stopped),
    )
    if not progress.complete:
        progress.counts.complete(len(videos))
        return summarise(out, listing, progress.counts, progress.tally, interrupted=True)
    publisher = open_publisher(out, settings, durability=run.durability)
    return conclude(out, settings, listing, publisher, progress.tally, strict=run.strict)


def _drop_aside(out: Path, videos: Sequence[Video], todo: Set[int]) -> None:
    """Delete what is aside of videos that are final, as a run does."""
    if names := commit.names_aside(out):
        for index, video in enumerate(videos):
            if index not in todo and id_hash(video.id) in names:
                commit.drop_aside(out, id_hash(video.id))


@looking()
def _check_places(source: Path, out: Path) -> None:
    there, here = source.resolve(), out.resolve()
    if there == here or there in here.parents or here in there.parents:
        raise SettingsError(f"the new store {out} and the store {source} must not lie in one another; give another OUT")
    if adopted_mark(out).exists():
        raise SettingsError(f"{out} is a tree of another tool, which was adopted; give another OUT")


def _first_images(
    store: Store, settings: ExtractSettings, videos: Path | str | None, quality: int | None
) -> FirstImages | None:
    """What makes the images that the source has not and the new store must have."""
    is_tsn = settings.store.format == "jpeg" and settings.store.layout == "tsn"
    if not store.first_image or is_tsn or not settings.store.rgb:
        return None
    if videos is None:
        form = f"layout {settings.store.layout}" if settings.store.format == "jpeg" else "shards"
        raise SettingsError(
            f"{store.path} has layout tsn, which leaves out the first image of each video, and {form} must have it; "
            "give --videos, the folder of the videos"
        )
    if not Path(videos).is_dir():
        raise MissingDataError(f"there is no folder {videos}; give that of the videos with --videos")
    return FirstImages(Path(videos), store.settings, quality)
