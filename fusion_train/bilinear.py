"""The linear SVM of bilinear fusion as the end of a training: features of the training list, and the machine's weights.

The SVM becomes the network's last layer, so a checkpoint and an evaluation know nothing of it. Its decision function is
linear, so the mean over a video's clips of its logits is that of the video's mean feature, which it is fitted on.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowprep.stores import Store
from fusion_train.config import FusionSettings
from fusion_train.data.augment import network_inputs
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.loader import ClipLoader
from fusion_train.frozen import give_maps
from fusion_train.models.svm import fit_linear_svm, set_svm
from fusion_train.models.two_stream import FusedNetwork, Network
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
    they lie in a file of `folder` meanwhile, which all processes must see.

    Raises:
        SettingsError: A class has no video.
        BackendUnavailableError: scikit-learn is not installed.
    """
    data = dataclasses.replace(settings.data, num_test_clips=settings.train.num_val_clips, test_flip=False)
    dataset = ClipDataset(store, ids, data)
    labels = torch.tensor([video.label for video in dataset.videos])
    assert network.bilinear_classifier is not None
    give_maps(network, None)  # a training on maps has those of its own clips; here are images
    shape = len(dataset), network.bilinear_classifier.in_channels
    accuracy = 0.0
    with _features_file(folder / ".features.npy", shape, runtime) as rows:
        _fill(rows, network, dataset, settings, runtime)
        if isinstance(rows, np.memmap):
            rows.flush()
        runtime.wait_for_all()
        if runtime.is_main:
            features = torch.from_numpy(rows)
            weights, biases = fit_linear_svm(
                features,
                labels,
                num_classes=network.num_classes,
                cost=settings.train.svm_cost,
                seed=settings.train.seed,
            )
            set_svm(network, weights, biases)
            accuracy = float(((features @ weights.T + biases).argmax(1) == labels).float().mean())
    runtime.send_weights(network)
    return accuracy


@torch.no_grad()
def _fill(
    rows: NDArray[np.float32], network: FusedNetwork, dataset: ClipDataset, settings: FusionSettings, runtime: Runtime
) -> None:
    """The mean feature of each video of this process, at the video's place in the data set."""
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
    network.eval()
    for batch in loader:
        rgb, flow = network_inputs(batch, runtime.device)
        assert rgb is not None
        assert flow is not None
        sums = torch.zeros(len(batch.ids), rows.shape[1], dtype=torch.float64)
        for clip in range(len(batch)):
            sums[batch.video[clip]] += _feature(network, rgb[clip : clip + 1], flow[clip : clip + 1])
        for place, video_id in enumerate(batch.ids):
            rows[places[video_id]] = (sums[place] / (batch.video == place).sum()).numpy()


def _feature(network: FusedNetwork, rgb: Tensor, flow: Tensor) -> Tensor:
    """Of one clip: the mean over the time steps that are left, float64 (D,)."""
    return network.bilinear_features(rgb, flow)[0].mean(0).double().cpu()


@contextlib.contextmanager
def _features_file(path: Path, shape: tuple[int, int], runtime: Runtime) -> Iterator[NDArray[np.float32]]:
    """float32 (N, D) in a file that the first process makes and removes."""
    if runtime.is_main:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(path, "w+", np.float32, shape).flush()
    runtime.wait_for_all()
    try:
        yield np.lib.format.open_memmap(path, "r+")
    finally:
        if runtime.is_main:
            path.unlink(missing_ok=True)
