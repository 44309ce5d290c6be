"""One call of `fusion-train predict`: what is asked for, the videos one after another, and what is written of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from flowprep.config import RunSettings
from flowprep.errors import SettingsError
from flowprep.stores import Store, open_store
from fusion_train.predict import Failure, Prediction, Predictor
from fusion_train.predict_inputs import find_videos, is_store, predictions_of_files, predictions_of_store
from fusion_train.running import write_running_film
from fusion_train.runtime import Runtime

_Found = tuple[Prediction, Sequence[Store]] | Failure


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PredictRequest:
    """Videos, networks, and files to write; see `Predictor` for how networks are joined.

    `inputs` are files and folders of files, or one store; `split`, `ids` and `scores` (a score table) are of a store
    alone. `layer` is that of the features, which `features_out` gets. `film` is of a single video. `run` limits the
    child that reads a file. Raises SettingsError where these contradict each other.
    """

    inputs: Sequence[Path]
    checkpoints: Sequence[Path]
    weights: Sequence[float] | None = None
    on: str = "scores"
    split: str | None = None
    ids: Sequence[str] = ()
    data: Path | None = None
    backend: str | None = None
    scores: Path | None = None
    layer: str | None = None
    features_out: Path = Path("features.npz")
    film: Path | None = None
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        if self.of_store and len(self.inputs) > 1:
            raise SettingsError("a store is predicted alone; give it without other INPUTS")
        for name, value in (("--split", self.split), ("--video-id", self.ids), ("--scores", self.scores)):
            if value and not self.of_store:
                raise SettingsError(f"{name} is for a store, and {self.inputs[0]} is none")
        if self.film is not None and self.film.suffix.lower() != ".mp4":
            raise SettingsError(f"{self.film}: the name of the film must end in .mp4")

    @property
    def of_store(self) -> bool:
        """Whether the videos are those of a store."""
        return any(map(is_store, self.inputs))


class PredictListener:
    """What is told while videos are predicted. This one does nothing with it."""

    def began(self, predictor: Predictor) -> None:
        """The networks are loaded, and the videos found."""

    def predicted(self, prediction: Prediction) -> None:
        """A video has its prediction."""

    def failed(self, failure: Failure) -> None:
        """A video has none."""

    def written(self, path: Path) -> None:
        """A file is complete."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predicted:
    """What came of a request."""

    predictor: Predictor
    predictions: Sequence[Prediction]
    failures: Sequence[Failure]

    def to_json(self, top: int) -> dict[str, Any]:
        """All of it, with the first `top` classes of each video named."""
        predictor, names = self.predictor, self.predictor.classes
        return {
            "checkpoints": [
                {"path": str(member.path), "sha256": member.sha256, "weight": weight}
                for member, weight in zip(predictor.members, predictor.weights, strict=True)
            ],
            "on": predictor.on,
            "classes": list(names),
            "notes": predictor.notes,
            "videos": [prediction.to_json(names, top) for prediction in self.predictions],
            "failed": [{"source": failure.source, "reason": failure.reason} for failure in self.failures],
        }


def predict(request: PredictRequest, runtime: Runtime, listener: PredictListener | None = None) -> Predicted:
    """Do a request. A video that cannot be predicted is a failure and costs no other anything.

    Raises SettingsError, MissingDataError, StoreError as `Predictor`, and as `predictions_of_files`.
    """
    heard = listener or PredictListener()
    predictor = Predictor(
        request.checkpoints,
        runtime,
        data=request.data,
        backend=request.backend,
        weights=request.weights,
        on=request.on,
        layer=request.layer,
    )
    if not request.of_store:
        videos = find_videos(request.inputs)
        _check_film(request, len(videos))
        heard.began(predictor)
        return _done(request, predictor, predictions_of_files(predictor, videos, request.run), heard)
    with open_store(request.inputs[0]) as store:
        chosen, part = predictor.stored(store, split=request.split, ids=request.ids)
        _check_film(request, len(chosen))
        heard.began(predictor)
        done = _done(request, predictor, predictions_of_store(predictor, store, chosen), heard)
        if request.scores is not None and done.predictions:
            predictor.table_of(done.predictions, store, part=part).save(request.scores)
            heard.written(request.scores)
    return done


def _check_film(request: PredictRequest, num_videos: int) -> None:
    if request.film is not None and num_videos != 1:
        raise SettingsError(f"--video is of one video, these are {num_videos}; give one file, or --video-id")


def _done(request: PredictRequest, predictor: Predictor, found: Iterator[_Found], heard: PredictListener) -> Predicted:
    """Take the videos as they come, with the film while the stores of one are open, and write the features."""
    predictions: list[Prediction] = []
    failures: list[Failure] = []
    for item in found:
        if isinstance(item, Failure):
            failures.append(item)
            heard.failed(item)
            continue
        prediction, stores = item
        predictions.append(prediction)
        heard.predicted(prediction)
        if request.film is not None:
            write_running_film(request.film, predictor, stores, prediction)
            heard.written(request.film)
    if request.layer is not None and predictions:
        skipped = [failure.source for failure in failures]
        origin = {"inputs": [str(path) for path in request.inputs], "skipped": skipped}
        predictor.features_of(predictions, origin=origin).save(request.features_out)
        heard.written(request.features_out)
    return Predicted(predictor=predictor, predictions=predictions, failures=failures)
