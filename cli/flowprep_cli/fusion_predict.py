"""`fusion-train predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowprep_cli.fusion_options import device_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusion_train.predict import Failure, Prediction, Predictor

_BAR = 30


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
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def predict(
    *,
    inputs: tuple[Path, ...],
    checkpoints: tuple[Path, ...],
    weights: str | None,
    on: str,
    split: str | None,
    ids: tuple[str, ...],
    data: Path | None,
    backend: str | None,
    top: int,
    scores: Path | None,
    layer: str | None,
    features_out: Path,
    film: Path | None,
    device: str,
    as_json: bool,
) -> int:
    """Say which class the videos INPUTS are of: files, folders of files, or one store.

    Frames and flow of a file are made as those that the network was trained on. A video that cannot be read, or is too
    short, gets its sentence and the others go on; the exit code is 1 then.
    """
    from flowprep.errors import SettingsError
    from flowprep.stores import open_store
    from flowprep_cli.fusion_fuse import parsed_weights
    from fusion_train.predict import (  # fmt: skip
        Failure,
        Predictor,
        find_videos,
        is_store,
        predictions_of_files,
        predictions_of_store,
    )
    from fusion_train.runtime import started

    of_store = any(map(is_store, inputs))
    _check(inputs, of_store=of_store, store_only={"--split": split, "--video-id": ids, "--scores": scores}, film=film)
    shares = parsed_weights(weights)
    with started(device) as runtime:
        predictor = Predictor(checkpoints, runtime, data=data, backend=backend, weights=shares, on=on, layer=layer)
        store = open_store(inputs[0]) if of_store else None
        if store is not None:
            chosen, part = predictor.stored(store, split=split, ids=ids)
            num_videos, found = len(chosen), predictions_of_store(predictor, store, chosen)
        else:
            videos = find_videos(inputs)
            num_videos, found = len(videos), predictions_of_files(predictor, videos)
        if film is not None and num_videos != 1:
            raise SettingsError(f"--video is of one video, these are {num_videos}; give one file, or --video-id")
        if not as_json:
            _note(predictor.notes)
        done: list[Prediction] = []
        failures: list[Failure] = []
        for item in found:
            if isinstance(item, Failure):
                failures.append(item)
                click.echo(item.reason, err=True)
                continue
            prediction, stores = item
            done.append(prediction)
            if not as_json:
                _show(prediction, predictor.classes, top)
            if film is not None:
                from fusion_train.running import write_running_film

                write_running_film(film, predictor, stores, prediction)
                click.echo(str(film), err=True)
        if layer is not None and done:
            origin = {"inputs": [str(path) for path in inputs], "skipped": [failure.source for failure in failures]}
            predictor.features_of(done, origin=origin).save(features_out)
            click.echo(str(features_out), err=True)
        if store is not None and scores is not None and done:
            predictor.table_of(done, store, part=part).save(scores)
            click.echo(str(scores), err=True)
    if as_json:
        click.echo(json.dumps(_json(predictor, done, failures, top), indent=2))
    return 1 if failures else 0


def _check(inputs: Sequence[Path], *, of_store: bool, store_only: dict[str, Any], film: Path | None) -> None:
    from flowprep.errors import SettingsError

    if of_store and len(inputs) > 1:
        raise SettingsError("a store is predicted alone; give it without other INPUTS")
    for name, value in store_only.items():
        if value and not of_store:
            raise SettingsError(f"{name} is for a store, and {inputs[0]} is none")
    if film is not None and film.suffix.lower() != ".mp4":
        raise SettingsError(f"{film}: the name of the film must end in .mp4")


def _note(notes: Sequence[str]) -> None:
    for note in notes:
        click.echo(f"Note: {note}", err=True)


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


def _json(predictor: Predictor, done: Sequence[Prediction], failures: Sequence[Failure], top: int) -> dict[str, Any]:
    names = predictor.classes
    return {
        "checkpoints": [
            {"path": str(member.path), "sha256": member.sha256, "weight": weight}
            for member, weight in zip(predictor.members, predictor.weights, strict=True)
        ],
        "on": predictor.on,
        "classes": list(names),
        "notes": predictor.notes,
        "videos": [
            {
                "id": one.video_id,
                "source": one.source,
                "label": None if one.label is None else names[one.label],
                "top": [{"class": names[k], "score": float(one.scores[k]),
                         "probability": float(one.probabilities[k])} for k in one.top(top)],
                "scores": [float(value) for value in one.scores],
                "towers": [{name: [float(value) for value in values] for name, values in found.items()}
                           for found in one.towers],
            }
            for one in done
        ],
        "failed": [{"source": failure.source, "reason": failure.reason} for failure in failures],
    }  # fmt: skip
