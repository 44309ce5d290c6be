"""`fusion-train bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowprep_cli.fusion_options import SET_HELP, device_option

if TYPE_CHECKING:
    from fusion_train.bench import BenchResult


@click.command(short_help="Measure how fast a network trains here, and what bounds it.")
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option("--preset", metavar="NAME", required=True, help="Named settings.")
@click.option("--network", type=click.Choice(["spatial", "temporal", "fused"]), default="fused", show_default=True,
              help="Which network.")  # fmt: skip
@click.option("--steps", metavar="N", type=click.IntRange(min=1), default=10, show_default=True,
              help="Steps that are measured.")  # fmt: skip
@click.option("--warm-up", metavar="N", type=click.IntRange(min=0), default=3, show_default=True,
              help="Steps before them.")  # fmt: skip
@click.option("--peak", metavar="TFLOPS", type=click.FloatRange(min=0, min_open=True),
              help="What the device can do at most, where that is not known.")  # fmt: skip
@click.option("--set", "sets", metavar="A.B=V", multiple=True, help=SET_HELP)
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def bench(
    *, data: Path | None, preset: str, network: str, steps: int, warm_up: int, peak: float | None,
    sets: tuple[str, ...], device: str, as_json: bool,
) -> int:  # fmt: skip
    """Measure the training of a preset's network from random weights, with data from memory.

    Shows clips a second, the operations of a clip, and what that is of the device's peak (MFU). With a store DATA the
    loader alone and the training from the store are measured too, and which of them bounds it. Nothing is written.
    """
    import contextlib

    from flowprep.stores import open_store
    from fusion_train.bench import measure, num_classes_of
    from fusion_train.overrides import overridden
    from fusion_train.protocols import full_settings
    from fusion_train.runtime import started

    settings = overridden(full_settings(preset, network), sets, stage=network)
    opened = contextlib.nullcontext(None) if data is None else open_store(data)
    with opened as store, started(device, deterministic=settings.train.deterministic) as runtime:

        def tell(text: str) -> None:
            if runtime.is_main:
                click.echo(f"{text} ..", err=True)

        result = measure(
            settings,
            num_classes=num_classes_of(preset),
            runtime=runtime,
            num_steps=steps,
            num_warm_up=warm_up,
            store=store,
            peak=None if peak is None else peak * 1e12,
            tell=tell,
        )
        if runtime.is_main:
            if as_json:
                click.echo(json.dumps({"preset": preset, **result.to_json()}, indent=2))
            else:
                _show(preset, result)
    return 0


def _show(preset: str, result: BenchResult) -> None:
    from flowprep_cli.tables import print_columns

    train, data = result.settings.train, result.settings.data
    click.echo(
        f"{preset} {result.settings.model.network} on {result.device}: {train.precision}, steps of {train.batch_size} "
        f"clips, {train.videos_at_once} at once; T = {data.num_chunks}, {data.crop_size} px"
    )
    rates = {"from memory": result.from_memory}
    if result.with_data is not None:
        rates |= {"loader alone": result.with_data.loader, "from the store": result.with_data.training}
    lines = [["clips/s", "median", "least", "most"]]
    for name, rate in rates.items():
        lines.append([name, f"{rate.median:.2f}", f"{rate.least:.2f}", f"{rate.most:.2f}"])
    print_columns(lines)
    done = result.from_memory.median * result.flops_per_clip
    click.echo(
        f"{result.flops_per_clip / 1e9:.1f} GFLOP a clip, {done / 1e12:.2f} TFLOP/s: "
        + (
            "the device's peak is not known, give it with --peak"
            if result.mfu is None or result.peak_flops is None
            else f"{100 * result.mfu:.1f} % of its {result.peak_flops / 1e12:.0f} (MFU)"
        )
    )
    click.echo(
        f"{result.num_trained:,} of {result.num_parameters:,} parameters are trained; "
        f"most memory {result.memory_bytes / 1e9:.2f} GB"
    )
    if result.with_data is not None:
        waited = f"{100 * result.with_data.wait_share:.0f} % of the time waiting for data"
        threads = result.with_data.num_threads
        click.echo(
            f"the network bounds a training from this store: {waited}"
            if result.bound == "network"
            else f"the loader bounds a training from this store: {waited}; it has {threads} threads, and would need "
            f"about {result.threads_needed}, each on a core"
        )
