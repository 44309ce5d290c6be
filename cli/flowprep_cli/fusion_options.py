"""What commands of `fusion-train` share: options, and a line of progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

SET_HELP = (
    "Set something else than the preset, as train.batch_size=32, or fused.train.rates=1e-4 for one network. "
    "Can be given several times."
)


def device_option(command: F) -> F:
    """`--device`."""
    return click.option(
        "--device", metavar="NAME", default="auto", show_default=True, help="auto, cpu, cuda, or cuda:N."
    )(command)


def data_argument(command: F) -> F:
    """The store DATA."""
    return click.argument("data", type=click.Path(path_type=Path))(command)


def parsed_weights(weights: str | None) -> list[float] | None:
    """Numbers of `--weights`, None where it was not given."""
    from flowprep.errors import SettingsError

    if weights is None:
        return None
    try:
        return [float(part) for part in weights.split(":")]
    except ValueError:
        raise SettingsError(f"--weights takes numbers such as 1:1.5, got {weights!r}") from None


def progress_line(row: Mapping[str, Any]) -> str:
    """A line of the training log."""
    if "val_top1" in row:
        text = f"held-out top-1 {100 * row['val_top1']:.2f} %"
        return f"epoch {row['epoch']}: {text}{' (of the test list)' if row['val_on'] == 'test' else ''}"
    towers = ", ".join(f"{name[5:]} {value:.3f}" for name, value in row.items() if name.startswith("loss_"))
    return (
        f"epoch {row['epoch']}, step {row['step']}: loss {towers}; rate {row['rate']:g}; "
        f"{row['clips_per_second']:.1f} clips/s, {100 * row['wait_share']:.0f} % of it waiting for data"
    )
