"""Resizing against Pillow, and mirroring, on batches made by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from fusion_train.data.augment import network_inputs, resize, resize_in_float
from fusion_train.data.batch import ClipBatch, Crops
from fusion_train.data.canvas import Canvases

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def picture(seed: int, height: int = 60, width: int = 80, channels: int = 4) -> NDArray[np.uint8]:
    """Noise, blurred a little, so that there are edges and overshoots."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 3 + 1, width // 3 + 1, channels), np.uint8)
    return np.ascontiguousarray(noise.repeat(3, 0).repeat(3, 1)[:height, :width])


def by_pillow(image: NDArray[np.uint8], size: tuple[int, int], interpolation: str) -> NDArray[np.uint8]:
    """Each channel (H, W, C) by itself, to (C, H, W)."""
    planes = [
        np.asarray(Image.fromarray(image[..., c]).resize(size[::-1], RESAMPLING[interpolation]))
        for c in range(image.shape[2])
    ]
    return np.stack(planes)


def make_crops(first: tuple[int, int, int], num_channels: int, seed: int, code: int | None = None) -> Crops:
    """Crops of 50x60 of video a in wider strips, then of 40x70 of video b: noise, or all of one code."""
    sizes, columns = ((50, 66), (40, 70)), (slice(2, 62), slice(0, 70))
    crops = Crops.empty(Canvases(), np.diff(first).tolist(), sizes, columns, num_channels)
    assert crops.first == first
    noise = np.random.default_rng(seed).integers(0, 256, len(crops.pixels), np.uint8)
    crops.pixels.copy_(torch.from_numpy(noise))
    if code is not None:
        crops.pixels.fill_(code)
    return crops


def make_batch(seed: int = 0, **changes: object) -> ClipBatch:
    """Two videos with crops of unlike size; clips of T = 2, L = 3 that share fields."""
    batch = ClipBatch(
        ids=("a", "b"),
        video=torch.tensor([0, 1]),
        labels=torch.tensor([3, 4]),
        times=torch.tensor([[2, 3], [5, 5]]),
        flips=(False, True),
        rgb=make_crops((0, 2, 3), 3, seed),
        rgb_index=torch.tensor([[0, 1], [2, 2]]),
        flow=make_crops((0, 2, 4), 4, seed + 1),
        flow_index=torch.tensor([[[0, 1, 2], [1, 2, 3]], [[4, 5, 6], [4, 5, 6]]]),
        output_size=(48, 48),
        flip_sum=256,
        interpolation="bicubic",
    )
    return dataclasses.replace(batch, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(48, 48), (60, 48), (48, 80), (90, 100)])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("way", [resize, resize_in_float])
def test_resizing_is_pillows(interpolation: str, size: tuple[int, int], channels: int, way: object) -> None:
    """To two codes, mostly none: fixed-point weights and float32 do not round alike."""
    image = picture(1, channels=channels)
    expected = by_pillow(image, size, interpolation).astype(int)
    found = way(torch.from_numpy(image).permute(2, 0, 1)[None], size, interpolation)  # type: ignore[operator]
    assert found.dtype == torch.uint8
    difference = np.abs(found[0].numpy().astype(int) - expected)
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.04


def test_both_ways_of_resizing_take_the_rows_first() -> None:
    """Pillow takes the columns first where that is less work, and then other overshoots are cut off."""
    image = torch.from_numpy(picture(1)).permute(2, 0, 1)[None]
    ways = [way(image, (33, 120), "bicubic").int() for way in (resize, resize_in_float)]
    assert (ways[0] - ways[1]).abs().max() <= 2


def test_nothing_is_done_to_an_image_of_the_right_size() -> None:
    image = torch.from_numpy(picture(2)).permute(2, 0, 1)[None]
    assert torch.equal(resize(image, (60, 80), "bicubic"), image)
    assert torch.equal(resize_in_float(image, (60, 80), "bicubic"), image)


def test_inputs_are_the_resized_crops_in_the_order_of_the_network() -> None:
    batch = make_batch(flips=(False, False))
    rgb, flow = network_inputs(batch)
    assert rgb is not None
    assert flow is not None
    assert batch.rgb is not None
    assert batch.flow is not None
    assert (rgb.shape, flow.shape) == ((2, 2, 3, 48, 48), (2, 2, 6, 48, 48))
    assert rgb.dtype == flow.dtype == torch.float32
    images, fields = batch.rgb.videos(), batch.flow.videos()
    for clip in range(2):
        for chunk in range(2):
            image = images[clip][batch.rgb_index[clip, chunk] - batch.rgb.first[clip]]
            expected = resize(image.permute(2, 0, 1)[None], (48, 48), "bicubic")[0]
            assert torch.equal(rgb[clip, chunk], expected.float())
            for k, field in enumerate(batch.flow_index[clip, chunk].tolist()):
                planes = fields[clip][field // 2 - batch.flow.first[clip], ..., 2 * (field % 2) : 2 * (field % 2) + 2]
                found = flow[clip, chunk, 2 * k : 2 * k + 2]
                expected = resize(planes.permute(2, 0, 1)[None], (48, 48), "bicubic")[0]
                assert (found - expected).abs().max() <= 1  # two channels are not resized by the kernel of four


@pytest.mark.parametrize("flip_sum", [256, 254, 255])
def test_a_mirrored_clip(flip_sum: int) -> None:
    rgb, flow = network_inputs(make_batch(flips=(False, False)))
    mirrored_rgb, mirrored_flow = network_inputs(make_batch(flip_sum=flip_sum))
    assert rgb is not None
    assert flow is not None
    assert mirrored_rgb is not None
    assert mirrored_flow is not None
    assert torch.equal(mirrored_rgb[0], rgb[0])
    assert torch.equal(mirrored_flow[0], flow[0])
    assert torch.equal(mirrored_rgb[1], rgb[1].flip(-1))
    assert torch.equal(mirrored_flow[1, :, 0::2], flip_sum - flow[1, :, 0::2].flip(-1))
    assert torch.equal(mirrored_flow[1, :, 1::2], flow[1, :, 1::2].flip(-1))


@pytest.mark.parametrize("zero", [128, 127])
def test_zero_flow_stays_zero_and_mirroring_twice_changes_nothing(zero: int) -> None:
    codes = torch.arange(256, dtype=torch.float32)
    mirrored = 2 * zero - codes
    assert torch.equal(2 * zero - mirrored, codes)
    still = make_crops((0, 2, 4), 4, 0, code=zero)
    _, flow = network_inputs(make_batch(flow=still, flip_sum=2 * zero, flips=(True, True)))
    assert flow is not None
    assert set(flow.unique().tolist()) == {zero}
    _, authors = network_inputs(make_batch(flow=still, flip_sum=255, flips=(True, True)))
    assert authors is not None
    assert set(authors[:, :, 0::2].unique().tolist()) == {255 - zero}


def test_a_mirrored_stack_is_the_stack_of_the_mirrored_video() -> None:
    """u of a mirrored picture is the mirrored u with the other sign: with codes about 128 that is 256 - u."""
    u = torch.arange(64.0, 192.0).repeat(8, 1)  # codes of a flow that grows to the right
    moved = (u - 128).flip(-1).neg() + 128
    assert torch.equal(256 - u.flip(-1), moved)


def test_half_precision_is_exact() -> None:
    whole, half = (network_inputs(make_batch(), dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    for a, b in zip(whole, half, strict=True):
        assert a is not None
        assert b is not None
        assert torch.equal(a, b.float())


def test_inputs_that_are_held_are_not_written_to_again() -> None:
    held = [value for value in network_inputs(make_batch(0)) if value is not None]
    part = held[1][1, 0, 3]
    before = [value.clone() for value in held], part.clone()
    for seed in range(1, 4):
        network_inputs(make_batch(seed))
    assert all(torch.equal(a, b) for a, b in zip(held, before[0], strict=True))
    del held
    for seed in range(1, 4):
        network_inputs(make_batch(seed))
    assert torch.equal(part, before[1])


def test_memory_is_used_again_when_nobody_holds_it() -> None:
    canvases = Canvases()
    first = canvases.empty([1000])
    address = first.data_ptr()
    part = first[10:20].view(2, 5)
    del first
    assert canvases.empty([10]).data_ptr() != address, "a part of it is held"
    array = part.numpy()
    del part
    assert canvases.empty([10]).data_ptr() != address, "an array of it is held"
    del array
    again = canvases.empty([3, 50], torch.float32)
    assert (again.data_ptr(), again.shape, again.dtype) == (address, (3, 50), torch.float32)
    assert canvases.empty([2000]).data_ptr() != address
    assert canvases.empty([0, 4]).shape == (0, 4)


def test_some_clips_of_a_batch_are_as_all_of_it() -> None:
    batch = make_batch()
    whole = network_inputs(batch)
    for k in range(2):
        for a, b in zip(whole, network_inputs(batch.clips(k, k + 1)), strict=True):
            assert a is not None
            assert b is not None
            assert torch.equal(a[k : k + 1], b)
    assert batch.clips(1, 2).labels.tolist() == [4]


def test_a_stream_that_is_not_there_is_none() -> None:
    rgb, flow = network_inputs(make_batch(flow=None))
    assert rgb is not None
    assert flow is None
    assert network_inputs(make_batch(rgb=None))[0] is None
