"""Results as tables on stdout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flowprep.bench import BenchResult
from flowprep.describe import Description
from flowprep.devicetimes import DeviceTimes
from flowprep.stagetimes import StageTimes
from flowprep_cli.progress import printable, size_text


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and texts in two columns: wrapped on a terminal, one line a row elsewhere."""
    console = Console(highlight=False)
    if not console.is_terminal:
        width = max(len(name) for name, _ in rows)
        print(*(f"{name:<{width}}  {text}" for name, text in rows), sep="\n")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in rows:
        table.add_row(f"[bold]{escape(name)}[/bold]", escape(text))
    console.print(table)


def show_description(found: Description) -> None:
    """Print what a store holds."""
    settings = found.settings
    store, flow, size = settings.store, settings.flow, settings.resize
    parameters = ", ".join(f"{name}={value}" for name, value in flow.parameters.items())
    rule = f"short side {size.short_side}" if size.short_side else f"{size.width}x{size.height}"
    if size.short_side is None and size.width is None:
        rule = "as the videos"
    if store.adopted:
        rule = "as adopted"
    streams = ", ".join(f"{stream} {size_text(count)}" for stream, count in found.stream_bytes.items())
    classes = "1 class" if found.num_classes == 1 else f"{found.num_classes} classes"
    computed = f"{' '.join(filter(None, (flow.backend, flow.variant)))} ({parameters})"
    measured = f"{100 * found.saturated_share:.3f} % of pixels saturated, mean {found.mean_magnitude_px:.3f} px"
    if store.adopted:
        computed, measured = "by another tool", "saturation and mean are not known"
    quantised = f"bound {settings.quantise.bound_px:g} px, {settings.quantise.rounding}; {measured}"
    print_rows(
        [
            ("store", f"{found.path}: {store.format}, layout {store.layout}, dataset {settings.dataset}"),
            ("videos", f"{found.num_videos}: {_counts(found.states)}; {classes}"),
            ("reasons", _counts(found.reasons) or "none"),
            ("frames", f"{found.num_frames} images, {found.num_flows} flows of step {flow.step}"),
            ("size", f"{rule}: {_counts(found.sizes, 5)}"),
            ("bytes", streams or "0 B"),
            ("flow", computed if store.flow else "none"),
            ("quantised", quantised if store.flow else "none"),
        ]
    )


def _counts(counts: Mapping[str, int], most: int = 100) -> str:
    named = [f"{count} {name}" for name, count in list(counts.items())[:most]]
    return ", ".join(named) + (f" and {len(counts) - most} more" if len(counts) > most else "")


def show_bench(result: BenchResult) -> None:
    """Print what `flowprep bench` measured: a line a pair, then the sums."""
    comparison, size = result.comparison, result.dataset
    measured = [result.measured, *([comparison.other] if comparison else [])]
    header = ["pair", "size", *(f"{one.title} ms" for one in measured)]
    if comparison:
        header += ["ratio", "median px", "mean px", "max px", "equal codes"]
    lines = [header]
    for k, pair in enumerate(result.pairs):
        line = [f"{printable(pair.video)} {pair.index}", f"{pair.width}x{pair.height}"]
        line += [f"{1000 * one.pair_seconds[k]:.1f}" for one in measured]
        if comparison:
            found = comparison.differences[k]
            lengths = [f"{value:.5f}" for value in (found.median_px, found.mean_px, found.max_px)]
            line += [f"{comparison.ratios[k]:.1f}", *lengths, f"{100 * found.equal_codes:.2f} %"]
        lines.append(line)
    print_columns(lines)
    print()
    work = f"the flow alone of {size.name}, {size.num_videos} videos of {size.mean_frames} frames"
    rows = [("hours", f"for {work}: pairs x mean time of a pair / {result.jobs} jobs")]
    rows += [
        (one.title, f"{1000 * one.median_seconds:.1f} ms a pair (median), {_hours_text(one.hours)}") for one in measured
    ]
    if comparison:
        lower, median, upper = comparison.ratio_quartiles
        faster = f"{result.measured.title} is {median:.1f} times as fast (quartiles {lower:.1f} to {upper:.1f})"
        setup = f"OpenCV {result.opencv_version}, one thread each, {result.num_repeats} repeats in turns"
        rows += [("ratio", faster), ("compared with", setup)]
    print_rows(rows)


def show_stages(found: StageTimes) -> None:
    """Print what `flowprep bench` measured of all stages: a line a stage, then what follows."""
    from flowprep.stagetimes import STAGES

    lines = [["stage", "ms a frame", "of it processor", "share"]]
    lines += [
        [
            f"{time.stage}: {STAGES[time.stage]}",
            f"{1000 * time.seconds:.2f}",
            f"{1000 * time.cpu_seconds:.2f}",
            f"{100 * time.share:.1f} %",
        ]
        for time in found.stages
    ]
    lines.append(
        [
            f"{'a worker' if found.device else 'all'}",
            f"{1000 * found.frame_seconds:.2f}",
            f"{1000 * found.cpu_seconds:.2f}",
            "",
        ]
    )
    print()
    print_columns(lines)
    print()
    rate = found.jobs_frames_per_second
    work = f"{found.hours:.1f} hours" if found.hours >= 1 else f"{60 * found.hours:.0f} minutes"
    disk = f"reads {size_text(found.source_bytes * rate)}/s, writes {size_text(found.stored_bytes * rate)}/s"
    rows = [
        ("measured", f"{found.num_frames} frames of {found.num_videos} videos, all stages, one process"),
        ("bound by", found.bound_by),
        *_device_rows(found.device),
        ("one worker" if found.device else "one process", f"{found.frames_per_second:.1f} frames/s"),
        (f"{found.jobs} jobs", f"{rate:.1f} frames/s if memory and disk keep up ({disk})"),
        ("whole run", f"{work} for {found.dataset} with {found.jobs} jobs, all stages"),
    ]
    print_rows([*rows, *(("note", note) for note in found.notes), *(("advice", text) for text in found.advice)])


def _device_rows(device: DeviceTimes | None) -> Iterator[tuple[str, str]]:
    """A row a side of a run on devices: its rate, and that of each of its stages if there were no other."""
    if device is None:
        return
    for name, rate, stages in (
        ("device", device.device_frames_per_second, device.device),
        ("workers", device.workers_frames_per_second, device.workers),
    ):
        parts = ", ".join(f"{stage} {value:.0f}" for stage, value in stages.items())
        yield name, f"{rate:.1f} frames/s ({parts})"
    batch = f"{device.num_pairs} pairs of {device.width}x{device.height}"
    yield "batch", f"{batch}, on {device.num_devices} device{'s' if device.num_devices > 1 else ''}"


def print_columns(lines: Sequence[Sequence[str]], *, num_words: int = 1) -> None:
    """Print a table with its header line, the first `num_words` columns left and the others right, without wrapping."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.ljust(width) if place < num_words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells))


def _hours_text(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
