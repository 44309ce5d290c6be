"""What one trained network or several say of a video, which is given as a store.

Each video is evaluated by itself: its scores do not depend on its neighbours. Where videos come from: `predict_inputs`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from flowprep.config import BACKENDS, ExtractSettings
from flowprep.errors import DatasetError, SettingsError
from flowprep.stores import Store, open_store
from flowprep.stores.splitsfile import read_splits
from fusion_train.checkpoint import Checkpoint, data_fingerprint, file_sha256
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.splits import num_seen, read_parts, seen_sentence
from fusion_train.evaluate import network_of, score
from fusion_train.features import FeatureTable, Tap, find_layer, tapped
from fusion_train.heldout import caution
from fusion_train.late_fusion import shares_of, softmax, weighted_mean
from fusion_train.models.two_stream import Network
from fusion_train.runtime import Runtime
from fusion_train.scores import ScoreTable
from fusion_train.training import streams_of

Scores = NDArray[np.float32]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """A trained network of a prediction, on the device."""

    path: Path
    sha256: str
    checkpoint: Checkpoint
    network: Network
    content: ExtractSettings | None
    """How frames and flow of a file are made: streams that this network does not use are left out."""

    def dataset(self, store: Store, video_id: str) -> ClipDataset:
        """The video as this network is evaluated on it. Raises DatasetError where it is too short for a clip."""
        settings = self.checkpoint.settings
        streams = streams_of(settings.model)
        try:
            return ClipDataset(store, [video_id], settings.data, streams=streams)
        except DatasetError:
            clip = store.clip(video_id)
            counts = f"{clip.num_frames} frames and {clip.num_flows} flow fields"
            raise DatasetError(f"{video_id} is too short for a clip ({counts}); give a longer video") from None

    def known_content(self) -> ExtractSettings:
        """How frames and flow of a file are made. Raises SettingsError where the checkpoint does not say that."""
        if self.content is None:
            raise SettingsError(
                f"{self.path} does not say how its frames and flow were made, since it was written by an older "
                "version; give the store that it was trained on as --data STORE"
            )
        if self.content.store.adopted:
            raise SettingsError(
                f"{self.path} was trained on frames and flow that another tool had made, with settings that are not "
                "known; give a store that `flowprep extract` has made as --data STORE"
            )
        return self.content


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What is said of a video: `scores` (C,) before the softmax, `probabilities` (C,), and the parts of the mean.

    `towers` has the scores of each tower of each checkpoint, in the order of the checkpoints. `label` is that of a
    stored video, else None. `features` (C',) are of the layer that was asked for.
    """

    video_id: str
    source: str
    scores: Scores
    probabilities: NDArray[np.float64]
    towers: Sequence[Mapping[str, Scores]]
    label: int | None = None
    features: Scores | None = None

    def top(self, count: int) -> list[int]:
        """Places of the classes with the most, best first; of equal ones the first."""
        return [int(place) for place in np.argsort(-self.scores, kind="stable")[:count]]

    def to_json(self, classes: Sequence[str], top: int) -> dict[str, Any]:
        """All but the features, with the first `top` classes named."""
        best = [
            {"class": classes[k], "score": float(self.scores[k]), "probability": float(self.probabilities[k])}
            for k in self.top(top)
        ]
        return {
            "id": self.video_id,
            "source": self.source,
            "label": None if self.label is None else classes[self.label],
            "top": best,
            "scores": self.scores.tolist(),
            "towers": [{name: values.tolist() for name, values in found.items()} for found in self.towers],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A video without a prediction, and the sentence why."""

    source: str
    reason: str


class Predictor:
    """Trained networks of the same classes, and how their scores are joined.

    The scores of a network are the mean of its towers', and those of several networks the weighted mean of theirs, as
    in `late_fusion`.
    """

    def __init__(
        self,
        checkpoints: Sequence[Path],
        runtime: Runtime,
        *,
        data: Path | None = None,
        backend: str | None = None,
        weights: Sequence[float] | None = None,
        on: str = "scores",
        layer: str | None = None,
    ) -> None:
        """Load the networks.

        Args:
            checkpoints: Files of trained networks.
            runtime: This process.
            data: A store to take the content settings from, instead of the checkpoints'.
            backend: Flow backend instead of that of the content settings.
            weights: One a checkpoint; equal ones where None.
            on: What is averaged, `scores` or `softmax`.
            layer: Of which features are taken, of the one checkpoint.

        Raises:
            SettingsError: Classes differ, or a weight or layer is wrong.
            MissingDataError, StoreError: A file is not there or damaged.
        """
        if not checkpoints:
            raise SettingsError("a prediction takes one checkpoint or more, got none")
        if layer is not None and len(checkpoints) > 1:
            raise SettingsError(f"features are of one network, got {len(checkpoints)} checkpoints")
        if weights is not None and len(weights) != len(checkpoints):
            raise SettingsError(f"--weights takes one number a checkpoint, {len(checkpoints)} here; got {len(weights)}")
        self.runtime, self.on, self.backend = runtime, on, backend
        self.weights = shares_of(weights, len(checkpoints))
        self.notes: list[str] = []
        """What a reader of the predictions should know."""
        given = None
        if data is not None:
            with open_store(data) as store:
                given = store.settings
        self.members = [self._member(path, given) for path in checkpoints]
        self.classes = self.members[0].checkpoint.classes
        for member in self.members[1:]:
            if member.checkpoint.classes != self.classes:
                raise SettingsError(f"{self.members[0].path} and {member.path} are of other classes; join none of them")
        self.layer = None if layer is None else find_layer(self.members[0].network, layer)

    def _member(self, path: Path, given: ExtractSettings | None) -> Member:
        checkpoint = Checkpoint.load(path)
        content = given
        if content is None and checkpoint.content is not None:
            content = ExtractSettings.from_json(checkpoint.content)
        return Member(
            path=path,
            sha256=file_sha256(path),
            checkpoint=checkpoint,
            network=network_of(checkpoint, path).to(self.runtime.device),
            content=None if content is None else self._of_file(content, streams_of(checkpoint.settings.model)),
        )

    def _of_file(self, content: ExtractSettings, streams: Sequence[str]) -> ExtractSettings:
        """Content settings without what the network does not see, and with the backend that was asked for."""
        store = dataclasses.replace(content.store, rgb="rgb" in streams, flow="flow" in streams)
        flow = dataclasses.replace(content.flow, backward=False)
        if self.backend is not None and store.flow and self.backend != flow.backend:
            if flow.variant is None or flow.variant not in BACKENDS.get(self.backend, ()):
                same = " or ".join(name for name, variants in BACKENDS.items() if flow.variant in variants)
                raise SettingsError(
                    f"--backend {self.backend} does not compute the flow that the network was trained on, which is "
                    f"that of {flow.backend}; {f'give {same}' if same else 'leave it out'}"
                )
            baseline = flow.cpu_baseline if self.backend == "native" else None
            self._note(f"Flow is computed by {self.backend}; the network was trained on that of {flow.backend}.")
            flow = dataclasses.replace(flow, backend=self.backend, cpu_baseline=baseline)
        if dict(content.algorithms) != dict(ExtractSettings().algorithms):
            self._note("Stages of the extraction have changed since the data of the network was made.")
        return dataclasses.replace(content, store=store, flow=flow)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def predict(self, stores: Sequence[Store], video_id: str, *, label: int | None = None) -> Prediction:
        """A prediction of one video, given as a store for each network. Raises DatasetError where it is too short."""
        towers: list[dict[str, Scores]] = []
        features = None
        for member, store in zip(self.members, stores, strict=True):
            dataset = member.dataset(store, video_id)
            settings = dataclasses.replace(member.checkpoint.settings.evaluate, videos_at_once=1)
            with contextlib.ExitStack() as stack:
                tap: Tap | None = None
                if self.layer is not None:
                    tap = stack.enter_context(tapped(member.network, self.layer))
                found = score(member.network, dataset, settings, self.runtime)
                features = None if tap is None else tap.pop()
            towers.append({tower: values[video_id] for tower, values in found.items()})
        scores = self.joined([{name: values[None] for name, values in found.items()} for found in towers])[0]
        chances = scores.astype(np.float64) if self.on == "softmax" else softmax(scores[None])[0]
        return Prediction(
            video_id=video_id,
            source=str(stores[0].path),
            scores=scores,
            probabilities=chances,
            towers=towers,
            label=label,
            features=features,
        )

    def joined(self, towers: Sequence[Mapping[str, Scores]]) -> Scores:
        """Scores (N, C) of the towers of each network as those of all; probabilities where `on` is softmax."""
        if self.on == "softmax":  # towers are averaged as probabilities too
            shares = [share / len(t) for share, t in zip(self.weights, towers, strict=True) for _ in t]
            return weighted_mean([values for t in towers for values in t.values()], shares, on="softmax")
        return weighted_mean([weighted_mean(list(t.values())) for t in towers], self.weights)

    def features_of(self, predictions: Sequence[Prediction], *, origin: Mapping[str, Any]) -> FeatureTable:
        """The features of predictions, which were made with a layer."""
        assert self.layer is not None
        vectors = [prediction.features for prediction in predictions if prediction.features is not None]
        return FeatureTable(
            layer=self.layer,
            checkpoint_sha256=self.members[0].sha256,
            ids=[prediction.video_id for prediction in predictions],
            features=np.stack(vectors),
            origin=origin,
        )

    def table_of(self, predictions: Sequence[Prediction], store: Store, *, part: str) -> ScoreTable:
        """Scores of stored videos, as `fusion-train evaluate` writes them."""
        names = [f"{share:.3g} {m.checkpoint.settings.model.network}" for share, m in self._weighed()]
        return ScoreTable(
            name=" + ".join(names) if len(names) > 1 else self.members[0].checkpoint.settings.model.network,
            part=part,
            manifest_sha256=data_fingerprint(store),
            ids=[prediction.video_id for prediction in predictions],
            labels=np.array([prediction.label for prediction in predictions], np.int64),
            scores=np.stack([prediction.scores for prediction in predictions]),
            classes=self.classes,
            origin={
                "late_fusion": self.on,
                "of": [{"checkpoint_sha256": m.sha256, "weight": share, "settings": m.checkpoint.settings.to_json()}
                       for share, m in self._weighed()],
            },
        )  # fmt: skip

    def _weighed(self) -> list[tuple[float, Member]]:
        return list(zip(self.weights, self.members, strict=True))

    def stored(self, store: Store, *, split: str | None, ids: Sequence[str]) -> tuple[Sequence[str], str]:
        """Which videos of a store are meant, and what that part is called: `ids`, else the test list of a split.

        Raises SettingsError if the store has other classes or no such split, UnknownVideoError for an unknown id.
        """
        if read_splits(store.path).classes != self.classes:
            raise SettingsError(f"{self.members[0].path} is of other classes than {store.path}; give its own data set")
        if sentence := caution({"held_out": m.checkpoint.settings.train.val} for m in self.members):
            self._note(sentence)
        if ids:
            for video_id in ids:
                store.clip(video_id)
            return list(dict.fromkeys(ids)), "chosen"
        split = split or self.members[0].checkpoint.settings.train.split
        test, part = read_parts(store, split, validation="none").test, f"test {split}"
        for options in (member.checkpoint.settings.train for member in self.members):
            if num := num_seen(store, options, test):
                self._note(seen_sentence(num, len(test), part, options.split))
        return test, part
