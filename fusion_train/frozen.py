"""Training on maps: what frozen layers make of each frame is computed once, for all networks that share these layers.

In the paper all convolutions below the fusion are frozen, so every epoch computes the same maps again unless crops
differ. Where clips are whole images that are not mirrored, `train` and `evaluate` take the maps instead.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping, Sequence

import torch

from flowprep.errors import SettingsError
from fusion_train.data.augment import network_inputs
from fusion_train.data.canvas import Canvases
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.loader import empty_batch
from fusion_train.data.maps import FrozenMaps
from fusion_train.models.two_stream import Network

NAMES = {"rgb": "spatial", "flow": "temporal"}
"""The stream of a network that takes a stream of a store."""


def frozen_maps(
    network: Network,
    stream: str,
    *,
    training: ClipDataset,
    evaluation: ClipDataset,
    num_passes: int,
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
) -> FrozenMaps:
    """Maps of all frames that training on one data set and evaluation on another come by.

    Args:
        network: Its `frozen` says how many layers of the stream these are of.
        stream: Of the store, `rgb` or `flow`.
        training: Of images. Its settings say whether the stream is blank; all frames then have the same map.
        evaluation: Likewise; may have the same videos.
        num_passes: So many passes of training, from the first.
        seeds: Of the trainings.
        device: Where the layers run. Maps are kept on the CPU.

    Raises:
        SettingsError: The network has no frozen layer there, or images are of several sizes.
    """
    name = NAMES[stream]
    num_layers = network.frozen[name]
    if not num_layers:
        raise SettingsError(f"the {name} stream has no frozen layer; set `model.backprop_to` to at or fusion")
    network = network.to(device).eval()
    rows: dict[tuple[str, int], int] = {}
    wanted: list[tuple[ClipDataset, int, list[int]]] = []
    is_blank = training.settings.blank == stream
    for dataset in (training, evaluation):
        for index, video in enumerate(dataset.videos):
            if dataset is training:
                times = _training_times(dataset, index, num_passes=num_passes, seeds=seeds)
            else:
                times = sorted(set(dataset.plan_evaluation(index).times.flatten().tolist()))
            times = [time for time in times if (video.id, time) not in rows]
            for time in times:
                rows[video.id, time] = 0 if is_blank else len(rows)
            wanted.append((dataset, index, times))
    sizes = {dataset.plan_frames(index, times).output_size for dataset, index, times in wanted}
    if len(sizes) > 1:
        raise SettingsError(f"maps of frozen layers are of images of one size, and these are of {len(sizes)}")
    if is_blank:
        wanted = [(dataset, index, times[:1]) for dataset, index, times in wanted[:1]]
    values, done = torch.empty(0), 0
    for dataset, index, times in wanted:
        if not times:
            continue
        images = _frames(dataset, index, times, stream).to(device)
        with torch.no_grad():
            maps = network.streams[name].run(images, len(images), 0, num_layers)
        if not done:
            values = torch.empty(1 if is_blank else len(rows), *maps.shape[1:])
        values[done : done + len(maps)] = maps.cpu()
        done += len(maps)
    return FrozenMaps(
        values=values,
        rows=rows,
        image_size=sizes.pop(),
        num_layers=num_layers,
        fingerprint=fingerprint(network, name, num_layers),
    )


def _training_times(dataset: ClipDataset, index: int, *, num_passes: int, seeds: Sequence[int]) -> list[int]:
    """All times of a video that have a chunk in so many passes of training."""
    found: set[int] = set()
    for seed, epoch in itertools.product(seeds, range(num_passes)):
        found.update(dataset.plan_training(index, seed=seed, epoch=epoch).times.flatten().tolist())
    return sorted(found)


def _frames(dataset: ClipDataset, index: int, times: Sequence[int], stream: str) -> torch.Tensor:
    """One stream of frames of a video, (N, channels, H, W)."""
    plan = dataset.plan_frames(index, times)
    batch = empty_batch(dataset, [plan], Canvases())
    if stream == "rgb":
        assert batch.rgb is not None
        dataset.decode(plan, batch.rgb.strips()[0].numpy(), None)
        images = network_inputs(dataclasses.replace(batch, flow=None))[0]
    else:
        assert batch.flow is not None
        dataset.decode(plan, None, batch.flow.strips()[0].numpy())
        images = network_inputs(dataclasses.replace(batch, rgb=None))[1]
    assert images is not None
    return images.flatten(0, 1)


def fingerprint(network: Network, name: str, num_layers: int) -> str:
    """SHA-256 of what the first layers of a stream are: names, weights and the input's normalisation."""
    stream = network.streams[name]
    digest = hashlib.sha256()
    for module in ("input", *(layer.name for layer in stream.layers[:num_layers])):
        digest.update(module.encode())
        for tensor in getattr(stream, module).state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def give_maps(network: Network, maps: Mapping[str, FrozenMaps] | None) -> None:
    """Tell a network that it gets these maps, or images.

    Raises:
        SettingsError: They are of other layers than the network has frozen.
    """
    network.passed = {}
    for stream, given in (maps or {}).items():
        name = NAMES[stream]
        num_frozen = network.frozen[name]
        if given.num_layers > num_frozen or given.fingerprint != fingerprint(network, name, given.num_layers):
            raise SettingsError(
                f"the maps of {stream} are not of the {num_frozen} layers that this network has frozen in its {name} "
                "stream; compute them with its own weights"
            )
        network.passed[name] = given.num_layers
