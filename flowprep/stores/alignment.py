"""Whether the images and flows of another tool's tree are as many, and numbered, as its layout demands.

Each video is judged for itself; where most videos contradict the layout or step in the same way, these were stated
wrongly, and nothing is read at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flowprep.config import ExtractSettings
from flowprep.errors import SettingsError
from flowprep.records import Reason
from flowprep.stores.inventory import FoundVideo, Series, Span
from flowprep.stores.layouts import Layout, layout_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Counts of a video, why it cannot be used if so, and what else is to be said of it."""

    frames: int
    flows: int
    failures: tuple[Reason, ...]
    flags: tuple[Reason, ...]


def first_number(layout: Layout, stream: str) -> int:
    """The number in the name of a stream's first file."""
    if layout.name != "denseflow":
        return 1
    return layout.step if stream.startswith("back_") else 0


def series_of(layout: Layout, stream: str) -> Series:
    """The series that is a stream of the store: denseflow tells flow of several steps apart."""
    return stream, layout.step if layout.name == "denseflow" and stream != "rgb" else 1


def num_flows_of(layout: Layout, num_frames: int) -> int:
    """How many flows a video with so many stored images has."""
    return num_frames if layout.first_image else max(num_frames - layout.step, 0)


def judge(found: FoundVideo, settings: ExtractSettings) -> Judged:
    """Compare a video's files with the layout."""
    layout = layout_of(settings)
    spans = {stream: found.spans.get(series_of(layout, stream)) for stream in settings.streams}
    num = {stream: span.num if span else 0 for stream, span in spans.items()}
    frames = num.get("rgb", 0)
    flows = min((count for stream, count in num.items() if stream != "rgb"), default=0)
    failures = [*_gaps(layout, spans)] or [*_unequal(num)]
    flags: list[Reason] = []
    if not failures and settings.store.flow:
        failures, flags = _compare(layout, frames if settings.store.rgb else None, flows)
    elif not failures and not frames:
        failures = [Reason("counts", "there is no image")]
    if found.num_others:
        more = f" and {found.num_others - len(found.others)} more" if found.num_others > len(found.others) else ""
        flags.append(Reason("other_files", f"{', '.join(found.others)}{more} do not belong to layout {layout.name}"))
    return Judged(frames=frames, flows=flows, failures=tuple(failures), flags=tuple(flags))


def _gaps(layout: Layout, spans: dict[str, Span | None]) -> Iterator[Reason]:
    for stream, span in spans.items():
        if span is None:
            continue
        first = first_number(layout, stream)
        if (num_missing := span.last - first + 1 - span.num) or span.first != first:
            yield Reason(
                "gap",
                f"{stream} has {span.num} files numbered {span.first} to {span.last} where {layout.name} begins with "
                f"{first}: {num_missing} missing",
            )


def _unequal(num: dict[str, int]) -> Iterator[Reason]:
    flow = {stream: count for stream, count in num.items() if stream != "rgb"}
    if len(set(flow.values())) > 1:
        yield Reason("counts", ", ".join(f"{count} files of {stream}" for stream, count in flow.items()))


def _compare(layout: Layout, frames: int | None, flows: int) -> tuple[list[Reason], list[Reason]]:
    """Failures and flags by the numbers of images (None where none are stored) and flows."""
    expected = flows if frames is None else num_flows_of(layout, frames)
    text = f"{frames} images and {flows} flows where layout {layout.name} has {expected} flows of step {layout.step}"
    if frames is None and not flows:
        return [Reason("counts", "there is no flow")], []
    if frames == 0 or flows > expected or (not flows and expected):
        return [Reason("counts", text)], []
    if flows < expected:
        return [], [Reason("counts", f"{text}; the last ones are missing")]
    return [], [] if flows else [Reason("too_short", f"{frames} images have no flow of step {layout.step}")]


def check_as_a_whole(videos: Sequence[FoundVideo], settings: ExtractSettings) -> None:
    """Raise SettingsError where more than half of the videos contradict layout or step in the same way."""
    layout = layout_of(settings)
    _check_first_numbers(layout, videos, settings.streams)
    if not (settings.store.rgb and settings.store.flow):
        return
    offsets: Counter[int] = Counter()
    for found in videos:
        images, flows = (found.spans.get(series_of(layout, stream)) for stream in ("rgb", "flow_x"))
        if images and flows:
            offsets[images.num - flows.num] += 1
    if not offsets:
        return
    offset, count = offsets.most_common(1)[0]
    expected = 0 if layout.first_image else layout.step
    if offset == expected or 2 * count <= len(videos):
        return
    raise SettingsError(
        f"{count} of {len(videos)} videos have {_offset_text(offset)} where layout {layout.name} with step "
        f"{layout.step} has {_offset_text(expected)}; {_cure(layout, offset)}"
    )


def _offset_text(offset: int) -> str:
    if offset == 0:
        return "as many flows as images"
    return f"{abs(offset)} {'flow' if abs(offset) == 1 else 'flows'} {'fewer' if offset > 0 else 'more'} than images"


def _cure(layout: Layout, offset: int) -> str:
    if offset < 0 or (offset == 0 and layout.name in ("mmaction2", "feichtenhofer")):
        return "images are missing at the end, or at the beginning"
    if offset == 0:
        return "where image k is the target of flow k the layout is tsn"
    if layout.first_image:
        return f"where image k is the source of flow k the layout is flowprep, with step {offset}"
    if layout.name in ("flowprep", "denseflow"):
        return f"the step seems to be {offset}"
    return "give the layout that has made it"


def _check_first_numbers(layout: Layout, videos: Sequence[FoundVideo], streams: Sequence[str]) -> None:
    for stream in streams:
        spans = [found.spans.get(series_of(layout, stream)) for found in videos]
        firsts = Counter(span.first for span in spans if span)
        first, count = firsts.most_common(1)[0] if firsts else (0, 0)
        expected = first_number(layout, stream)
        if first != expected and 2 * count > len(videos):
            names = {0: "denseflow", 1: "flowprep or tsn"}
            hint = f"; the layout may be {names[first]}" if first in names and stream != "back_x" else ""
            raise SettingsError(
                f"in {count} of {len(videos)} videos {stream} begins with number {first} where layout {layout.name} "
                f"begins with {expected}{hint}"
            )
