"""The linear SVM of bilinear fusion as the end of a training: features of the training list, and the machine's weights.

The SVM becomes the network's last layer, so a checkpoint and an evaluation know nothing of it. Its decision function is
linear, so the mean over a video's clips of its logits is that of the video's mean feature, which it is fitted on.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from flowprep.stores import Store
from fusion_train.config import FusionSettings
from fusion_train.data.augment import network_inputs
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.loader import ClipLoader
from fusion_train.frozen import give_maps
from fusion_train.models.svm import fit_linear_svm, set_svm
from fusion_train.models.two_stream import FusedNetwork, Network
from fusion_train.outage import device_memory
from fusion_train.rowfile import RowFile, mapped_rows
from fusion_train.runtime import Runtime


def has_svm(settings: FusionSettings) -> bool:
    """Whether a network ends in an SVM."""
    model = settings.model
    return model.network == "fused" and model.fusion == "bilinear" and settings.train.bilinear_classifier == "svm"


def trains_by_descent(network: Network, settings: FusionSettings) -> bool:
    """Whether anything is left to gradient descent: not if the SVM's layer is all that is not frozen."""
    svm = network.bilinear_classifier if isinstance(network, FusedNetwork) and has_svm(settings) else None
    replaced = set() if svm is None else {id(parameter) for parameter in svm.parameters()}
    return any(parameter.requires_grad and id(parameter) not in replaced for parameter in network.parameters())


def fit_classifier(
    network: FusedNetwork, store: Store, ids: Sequence[str], settings: FusionSettings, folder: Path, runtime: Runtime
) -> float:
    """Fit the SVM on videos and put it into the network, on all processes. Returns its accuracy on these videos.

    Each video is seen as `train.num_val_clips` clips of whole frames. Features of 512 x 512 are a megabyte a video, so
    they lie in `folder` meanwhile, in a file a process, which the first must see. The first fits the SVM; the others
    wait, as long as it takes, and get its error if it fails.

    Raises:
        SettingsError: A class has no video.
        BackendUnavailableError: scikit-learn is not installed.
        RunStoppedError: The disk is full, or the first process does not see the files of the others.
    """
    data = dataclasses.replace(settings.data, num_test_clips=settings.train.num_val_clips, test_flip=False)
    dataset = ClipDataset(store, ids, data)
    labels = torch.tensor([video.label for video in dataset.videos])
    assert network.bilinear_classifier is not None
    give_maps(network, None)  # a training on maps has those of its own clips; here are images
    shape = len(dataset), network.bilinear_classifier.in_channels
    own = _part(folder, runtime.rank)

    @device_memory("take a machine with more memory, or set `train.bilinear_classifier` to softmax")
    def fit() -> float:
        with RowFile(own, shape[1], anew=False) as rows:
            for rank, theirs in parts:
                if rank:
                    rows.take(_part(folder, rank), theirs)
        features = torch.from_numpy(mapped_rows(own, shape))
        train = settings.train
        weights, biases = fit_linear_svm(
            features, labels, num_classes=network.num_classes, cost=train.svm_cost, seed=train.seed
        )
        set_svm(network, weights, biases)
        return float(((features @ weights.T + biases).argmax(1) == labels).float().mean())

    try:
        with RowFile(own, shape[1]) as rows:
            places = _fill(rows, network, dataset, settings, runtime)
        parts = runtime.gathered([(runtime.rank, places)])  # after this all files are written
        accuracy = runtime.of_first(fit)
    finally:
        with contextlib.suppress(OSError):  # those of a run that was killed too, with more processes perhaps
            for path in folder.glob(".features.*") if runtime.is_main else [own]:
                path.unlink(missing_ok=True)
    runtime.send_weights(network)
    return accuracy


def _part(folder: Path, rank: int) -> Path:
    """The features of the videos of one process, and in the end of the first one's all; Note [a file a process]."""
    return folder / f".features.{rank}"


@device_memory("take a device with more memory that is free")
@torch.no_grad()
def _fill(
    rows: RowFile, network: FusedNetwork, dataset: ClipDataset, settings: FusionSettings, runtime: Runtime
) -> list[int]:
    """The mean feature of each video of this process, at the video's place in the data set. Returns these places."""
    evaluation = settings.evaluate
    loader = ClipLoader(
        dataset,
        batch_size=evaluation.videos_at_once,
        training=False,
        rank=runtime.rank,
        world_size=runtime.world_size,
        num_threads=evaluation.num_threads,
        pin_memory=runtime.device.type == "cuda",
    )
    places = {video.id: place for place, video in enumerate(dataset.videos)}
    written = []
    network.eval()
    for batch in loader:
        rgb, flow = network_inputs(batch, runtime.device)
        assert rgb is not None
        assert flow is not None
        sums = torch.zeros(len(batch.ids), rows.num_columns, dtype=torch.float64)
        for clip in range(len(batch)):
            sums[batch.video[clip]] += _feature(network, rgb[clip : clip + 1], flow[clip : clip + 1])
        for place, video_id in enumerate(batch.ids):
            rows.write(places[video_id], (sums[place] / (batch.video == place).sum()).float().numpy())
            written.append(places[video_id])
    return written


def _feature(network: FusedNetwork, rgb: Tensor, flow: Tensor) -> Tensor:
    """Of one clip: the mean over the time steps that are left, float64 (D,)."""
    return network.bilinear_features(rgb, flow)[0].mean(0).double().cpu()
