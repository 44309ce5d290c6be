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


def weights_options(command: F) -> F:
    """`--weights` and `--random-fc`, as texts of `--set`."""
    command = click.option(
        "--random-fc", is_flag=True, help="Do not load fc6 and fc7, which torchvision-features has not."
    )(command)
    return click.option(
        "--weights", metavar="NAME",
        help="Initial weights of both streams: torchvision, torchvision-features, none (random), or a file: .mat, .pt, "
        ".pth, .npz. [default: the preset's]",
    )(command)  # fmt: skip


def with_weights(sets: tuple[str, ...], weights: str | None, random_fc: bool) -> tuple[str, ...]:
    """The texts of `--set` with what those two say before them, so that a stream may be set otherwise."""
    both = () if weights is None else (f"model.spatial_weights={weights}", f"model.temporal_weights={weights}")
    return (*both, *(("model.random_fc=true",) if random_fc else ()), *sets)


def init_from_option(command: F) -> F:
    """`--init-from`."""
    return click.option(
        "--init-from", metavar="CHECKPOINT", multiple=True, type=click.Path(path_type=Path),
        help="Start a stream from a trained network, of another data set too; of a fused one, both and the fusion's "
        "filter. Can be given several times.",
    )(command)  # fmt: skip


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
    if "initial" in row:
        return str(row["initial"])
    if "changed" in row:
        return "; ".join(f"{name}: {was} so far, {now} from here on" for name, (was, now) in row["changed"].items())
    if "svm_train_top1" in row:
        text = f"SVM: top-1 {100 * row['svm_train_top1']:.2f} % of the training list"
        return text + (f", held out {100 * row['val_top1']:.2f} %" if "val_top1" in row else "")
    if "val_top1" in row:
        text = f"held-out top-1 {100 * row['val_top1']:.2f} %"
        return f"epoch {row['epoch']}: {text}{' (of the test list)' if row['val_on'] == 'test' else ''}"
    towers = ", ".join(f"{name[5:]} {value:.3f}" for name, value in row.items() if name.startswith("loss_"))
    return (
        f"epoch {row['epoch']}, step {row['step']}: loss {towers}; rate {row['rate']:g}; "
        f"{row['clips_per_second']:.1f} clips/s, {100 * row['wait_share']:.0f} % of it waiting for data"
    )
