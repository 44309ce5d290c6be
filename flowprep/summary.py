"""How a run ended: states and reasons counted, and what the counts mean for the exit code."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from flowprep.datasets import missing_by_class_and_split
from flowprep.device.load import Load, load_notes
from flowprep.records import Listing, Row, State, Video

INTERRUPTED = 3
"""Exit code of a run that was stopped, as `RunStoppedError` has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a run ended. `states` and `reasons` count videos of the whole list, or of the part, not of this run alone.

    `missing` counts missing videos by (class, split and part), one video once for each split that it is in; `failed`
    names the other ones that are not stored; `reasons_by_state` counts for each state apart. `builds` counts the videos
    that each build of the flow backend has computed (`FlowBackend.build`), in this run and those before it, by the
    journals; it is empty where the run has not ended the list. `devices` says of each that computed flow now how long
    it was busy and waited for frames, and which side that says bounds the run. `part` is I/N; `interrupted` says that a
    signal has ended the run early.
    """

    out: Path
    num_videos: int
    num_done_now: int
    num_frames_now: int
    num_flows_now: int
    seconds: float
    states: Mapping[str, int]
    reasons: Mapping[str, int]
    failed: tuple[Row, ...]
    reasons_by_state: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    missing: tuple[tuple[str, str, int], ...] = ()
    missing_by_class: Mapping[str, int] = field(default_factory=dict)
    num_unlisted: int = 0
    num_duplicates: int = 0
    builds: Mapping[str, int] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    part: str | None = None
    interrupted: bool = False
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object; the rows of failed videos as id, path and reasons."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        data["out"] = str(self.out)
        data["failed"] = [
            {"id": row.id, "path": row.path, "reasons": [dataclasses.asdict(reason) for reason in row.reasons]}
            for row in self.failed
        ]
        return data


@dataclass(slots=True)
class Tally:
    """What one run has done itself."""

    num_videos: int = 0
    num_frames: int = 0
    num_flows: int = 0
    seconds: float = 0.0
    loads: dict[str, Load] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Count a video."""
        self.num_videos += 1
        self.num_frames += row.frames
        self.num_flows += row.flows


@final
class Counts:
    """Counts states and reasons of rows one by one, so that 10^6 rows are never held at once."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.reasons_by_state: dict[str, Counter[str]] = defaultdict(Counter)
        self.failed: list[Row] = []
        self.missing: list[Video] = []

    def add(self, video: Video, row: Row) -> None:
        """Count a video. Failures are kept one by one, but for those that the list alone decides."""
        self.states[str(row.state)] += 1
        codes = [reason.code for reason in row.reasons]
        self.reasons.update(codes)
        if codes:
            self.reasons_by_state[str(row.state)].update(codes)
        if codes == ["missing"]:
            self.missing.append(video)
        elif not row.state.stored and row.state is not State.PENDING and video.problem is None:
            self.failed.append(row)

    def passing(self, videos: Sequence[Video], rows: Iterator[Row]) -> Iterator[Row]:
        """The same rows, counted."""
        for video, row in zip(videos, rows, strict=True):
            self.add(video, row)
            yield row

    def complete(self, num_videos: int) -> None:
        """Count as pending what has not been counted of so many videos."""
        if (num_pending := num_videos - self.states.total()) > 0:
            self.states[str(State.PENDING)] += num_pending


def summarise(
    out: Path,
    listing: Listing,
    counts: Counts,
    tally: Tally,
    *,
    strict: bool = False,
    builds: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
    part: str | None = None,
    interrupted: bool = False,
) -> Summary:
    """The summary of a run over a list, or over a part of it, of which `counts` has every video."""
    missing = dataclasses.replace(listing, videos=tuple(counts.missing))
    return Summary(
        out=out,
        num_videos=counts.states.total(),
        num_done_now=tally.num_videos,
        num_frames_now=tally.num_frames,
        num_flows_now=tally.num_flows,
        seconds=tally.seconds,
        states=dict(counts.states),
        reasons=dict(counts.reasons),
        failed=tuple(counts.failed),
        reasons_by_state={state: dict(reasons) for state, reasons in sorted(counts.reasons_by_state.items())},
        missing=tuple(missing_by_class_and_split(missing)),
        missing_by_class=dict(Counter(video.class_name for video in counts.missing).most_common()),
        num_unlisted=len(listing.unlisted),
        num_duplicates=listing.num_duplicates,
        builds=dict(sorted((builds or {}).items())),
        devices={name: load.to_json() for name, load in tally.loads.items() if load.busy_seconds > 0},
        notes=(*notes, *load_notes(tally.loads)),
        part=part,
        interrupted=interrupted,
        exit_code=INTERRUPTED if interrupted else _exit_code(counts.states, strict=strict),
    )


def _exit_code(states: Mapping[str, int], *, strict: bool) -> int:
    bad = [State.FAILED, State.QUARANTINED, State.PENDING, *([State.FLAGGED] if strict else [])]
    return 1 if any(states.get(str(state)) for state in bad) else 0
