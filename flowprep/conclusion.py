"""What ends a list: manifest, splits and checksums from the rows on disk, and `run.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from flowprep import commit, journal
from flowprep.config import ExtractSettings
from flowprep.publisher import Publisher
from flowprep.records import Listing, Row, State, Video
from flowprep.stores.finish import finish
from flowprep.summary import Counts, Summary, Tally, summarise


def conclude(
    out: Path, settings: ExtractSettings, listing: Listing, publisher: Publisher, tally: Tally, *, strict: bool = False
) -> Summary:
    """Write what a store has beside its videos, and sum up. A video without an outcome is `pending` in the manifest."""
    counts = Counts()
    finish(out, settings, listing, counts.passing(listing.videos, _rows(publisher, listing.videos)))
    builds = journal.num_videos_by_build(out)
    return summarise(
        out,
        listing,
        counts,
        tally,
        strict=strict,
        builds=builds,
        notes=(*listing.notes, *_mixture(builds)),
    )


def write_run_json(out: Path, summary: Summary) -> None:
    """Write what the manifest must not have: times, versions, and all counts."""
    commit.write_json(out / "run.json", {"versions": journal.versions(), **summary.to_json()})


def _rows(publisher: Publisher, videos: Sequence[Video]) -> Iterator[Row]:
    for index, video in enumerate(videos):
        yield publisher.read_row(video, index) or Row.unstored(video, State.PENDING)


def _mixture(builds: Mapping[str, int]) -> list[str]:
    """A note where unlike machines or versions have made one store."""
    if len(builds) < 2:
        return []
    return [f"flow was computed by {len(builds)} builds: {', '.join(sorted(builds))}; see docs/tvl1.md on their bits"]
