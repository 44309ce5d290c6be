"""`fusion-train predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowprep.config import RunSettings
from flowprep_cli.fusion_options import device_option, parsed_weights
from flowprep_cli.options import settings_from, settings_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusion_train.predict import Prediction

_BAR = 30
_NO_MATTER = ("jobs", "device", "durability", "retry", "strict", "part", "takeover")
"""Settings of a run that the reading of single files has not."""


@click.command(short_help="Classes of videos, by trained networks.")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--checkpoint", "checkpoints", multiple=True, required=True, type=click.Path(path_type=Path),
              help="A trained network. Can be given several times: their scores are averaged.")  # fmt: skip
@click.option("--weights", metavar="A:B", help="One a checkpoint. [default: equal]")
@click.option("--on", type=click.Choice(["scores", "softmax"]), default="scores", show_default=True,
              help="What is averaged: scores before the softmax, or probabilities.")  # fmt: skip
@click.option("--split", metavar="NAME", help="Of a store: the test list of this split. [default: of the training]")
@click.option("--video-id", "ids", multiple=True, metavar="ID",
              help="Of a store: this video. Can be given several times.")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path),
              help="A store with the settings of frames and flow. [default: those in the checkpoint]")  # fmt: skip
@click.option("--backend", metavar="NAME", help="Another flow backend than that of the training data.")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Classes that are printed.")
@click.option("--scores", type=click.Path(path_type=Path),
              help="Of a store: write the scores to this file, as `fusion-train evaluate` does.")  # fmt: skip
@click.option("--features", "layer", metavar="LAYER", help="Write what this layer puts out, by video id.")
@click.option("--features-out", type=click.Path(path_type=Path), default=Path("features.npz"), show_default=True,
              help="The file of the features.")  # fmt: skip
@click.option("--video", "film", type=click.Path(path_type=Path),
              help="Of one video: write frame, flow and running scores as a film (.mp4).")  # fmt: skip
@settings_options("run", RunSettings, without=_NO_MATTER)
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def predict(
    *,
    weights: str | None,
    checkpoints: tuple[Path, ...],
    top: int,
    device: str,
    as_json: bool,
    **values: Any,
) -> int:
    """Say which class the videos INPUTS are of: files, folders of files, or one store.

    Frames and flow of a file are made as those that the network was trained on. A video that cannot be read, or is too
    short, gets its sentence and the others go on; the exit code is 1 then.
    """
    from fusion_train.predict import Failure, Predictor
    from fusion_train.predict_run import PredictListener, PredictRequest
    from fusion_train.predict_run import predict as run
    from fusion_train.runtime import started

    class Shown(PredictListener):
        classes: Sequence[str] = ()

        def began(self, predictor: Predictor) -> None:
            self.classes = predictor.classes
            for note in () if as_json else predictor.notes:
                click.echo(f"Note: {note}", err=True)

        def predicted(self, prediction: Prediction) -> None:
            if not as_json:
                _show(prediction, self.classes, top)

        def failed(self, failure: Failure) -> None:
            click.echo(failure.reason, err=True)

        def written(self, path: Path) -> None:
            click.echo(str(path), err=True)

    request = PredictRequest(
        checkpoints=checkpoints,
        weights=parsed_weights(weights),
        run=settings_from("run", RunSettings, values),
        **{name: value for name, value in values.items() if not name.startswith("run__")},
    )
    with started(device) as runtime:
        done = run(request, runtime, Shown())
    if as_json:
        click.echo(json.dumps(done.to_json(top), indent=2))
    return 1 if done.failures else 0


def _show(prediction: Prediction, classes: Sequence[str], top: int) -> None:
    """Bars of the first classes, one line each; on a terminal in colour."""
    from rich.console import Console
    from rich.markup import escape

    from flowprep_cli.progress import printable

    console = Console(highlight=False, soft_wrap=True)
    truth = f"  (is {classes[prediction.label]})" if prediction.label is not None else ""
    console.print(f"[bold]{escape(printable(prediction.video_id))}[/bold]{escape(truth)}")
    places = prediction.top(top)
    width = max(len(classes[place]) for place in places)
    for place in places:
        share = float(prediction.probabilities[place])
        full = round(_BAR * share)
        bar = f"[green]{'█' * full}[/green][dim]{'·' * (_BAR - full)}[/dim]"
        console.print(f"  {escape(classes[place].ljust(width))}  {bar} {100 * share:6.2f} %")
