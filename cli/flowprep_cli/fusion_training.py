"""`fusion-train train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from flowprep_cli.fusion_options import (
    SET_HELP,
    data_argument,
    device_option,
    init_from_option,
    progress_line,
    weights_options,
    with_weights,
)


@click.command(short_help="Train one network.")
@data_argument
@click.option("--preset", metavar="NAME", required=True, help="Named settings.")
@click.option("--network", type=click.Choice(["spatial", "temporal", "fused"]), required=True, help="Which network.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of checkpoints and logs.")
@click.option("--split", metavar="NAME", default="1", show_default=True, help="Official split.")
@click.option("--set", "sets", metavar="A.B=V", multiple=True, help=SET_HELP)
@weights_options
@init_from_option
@device_option
def train(
    *, data: Path, preset: str, network: str, out: Path, split: str, sets: tuple[str, ...],
    weights: str | None, random_fc: bool, init_from: tuple[Path, ...], device: str,
) -> int:  # fmt: skip
    """Train one network of a preset on the store DATA, or go on with what the folder --out has begun.

    A fused network starts from single streams that are trained: --init-from RUN/spatial/network.pt --init-from
    RUN/temporal/network.pt; or use `fusion-train run`. Last layers for other classes are not taken over.
    """
    import dataclasses

    from flowprep.stores import open_store
    from fusion_train.checkpoint import Checkpoint
    from fusion_train.initial import alone_from, known_of, networks_in
    from fusion_train.overrides import overridden
    from fusion_train.protocols import full_settings
    from fusion_train.runtime import started
    from fusion_train.train import LAST
    from fusion_train.train import train as train_network

    settings = overridden(full_settings(preset, network), with_weights(sets, weights, random_fc), stage=network)
    last = out / LAST
    known = known_of(Checkpoint.load(last, mapped=True).settings) if init_from and last.exists() else None
    settings = alone_from(settings, network, networks_in(init_from, known))
    settings = dataclasses.replace(settings, train=dataclasses.replace(settings.train, split=split))
    with open_store(data) as store, started(device, deterministic=settings.train.deterministic) as runtime:

        def report(row: Mapping[str, Any]) -> None:
            click.echo(progress_line(row), err=True)

        path = train_network(store, settings, out, runtime=runtime, report=report)
        if runtime.is_main:
            click.echo(path)
    return 0
