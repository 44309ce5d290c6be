"""Batches in their order: ranks, resuming, errors, threads that end."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.clip_store import Spec, shards, ucf_specs, write_clip_store
from hypothesis import given
from hypothesis import strategies as st

from flowprep.errors import SettingsError, StoreError
from flowprep.stores import Store, open_store
from fusion_train.config import DataSettings
from fusion_train.data import loader as loaders
from fusion_train.data.augment import network_inputs
from fusion_train.data.batch import ClipBatch
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.loader import ClipLoader
from fusion_train.data.order import evaluation_batches, training_batch, training_order

SMALL = DataSettings(num_chunks=2, crop_size=16, stack_length=4, tau_max=3, test_tau=3, num_test_clips=2)
SPECS = [*ucf_specs(5, 2), Spec("v_Biking_g08_c01", 12, (40, 40)), Spec("v_Biking_g08_c02", 12, (40, 40))]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(write_clip_store(tmp_path_factory.mktemp("loader") / "s", shards(), SPECS)) as store:
        yield store


@pytest.fixture(scope="module")
def dataset(store: Store) -> ClipDataset:
    return ClipDataset(store, list(store.ids), SMALL)


def training(dataset: ClipDataset, batch_size: int = 4, **others: Any) -> ClipLoader:
    return ClipLoader(dataset, batch_size=batch_size, training=True, **others)


def same(a: ClipBatch, b: ClipBatch) -> bool:
    """Equal in everything that reaches a network."""
    plain = [
        field.name
        for field in dataclasses.fields(a)
        if field.name not in ("rgb", "flow") and not isinstance(getattr(a, field.name), torch.Tensor)
    ]
    tensors = [*zip(network_inputs(a), network_inputs(b), strict=True), (a.labels, b.labels), (a.times, b.times)]
    return all(getattr(a, name) == getattr(b, name) for name in plain) and all(
        x is not None and y is not None and torch.equal(x, y) for x, y in tensors
    )


# -- order -------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.integers(0, 9))
def test_ranks_together_see_what_one_process_sees(num_videos: int, batch_size: int, world: int, epoch: int) -> None:
    order = training_order([f"v{k}" for k in range(num_videos)], seed=0, epoch=epoch)
    assert sorted(order) == list(range(num_videos))
    for batch in range(num_videos // (batch_size * world)):
        whole = training_batch(order, batch, batch_size=batch_size * world, rank=0, world_size=1)
        parts = [training_batch(order, batch, batch_size=batch_size, rank=r, world_size=world) for r in range(world)]
        assert list(itertools.chain(*parts)) == whole


def test_passes_have_orders_of_their_own() -> None:
    ids = [f"v{k}" for k in range(40)]
    orders = {tuple(training_order(ids, seed=seed, epoch=epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    backwards = training_order(ids[::-1], seed=0, epoch=0)
    assert [39 - k for k in backwards] == training_order(ids, seed=0, epoch=0)


@given(st.lists(st.sampled_from([(4, 5), (6, 5)]), max_size=40), st.integers(1, 5), st.integers(1, 4))
def test_evaluation_has_every_video_once(sizes: list[tuple[int, int]], batch_size: int, world: int) -> None:
    ranks = [evaluation_batches(sizes, batch_size=batch_size, rank=r, world_size=world) for r in range(world)]
    assert sorted(itertools.chain(*itertools.chain(*ranks))) == list(range(len(sizes)))
    for places in itertools.chain(*ranks):
        assert 1 <= len(places) <= batch_size
        assert len({sizes[k] for k in places}) == 1


# -- passes ------------------------------------------------------------------------------------------------------------


def test_a_pass_does_not_depend_on_threads(dataset: ClipDataset) -> None:
    one = list(training(dataset, num_threads=1, num_ahead=1))
    many = list(training(dataset, num_threads=7, num_ahead=5))
    assert len(one) == len(training(dataset)) == 5
    assert all(itertools.starmap(same, zip(one, many, strict=True)))
    ids = [video_id for batch in one for video_id in batch.ids]
    assert len(set(ids)) == len(ids) == 20  # of 22: two are left over


def test_batches_of_one_are_parts_of_large_ones(dataset: ClipDataset) -> None:
    """A video's clip does not depend on its batch, nor on what shares the canvas."""
    large = {k: batch for batch in training(dataset, 11) for k in enumerate(batch.ids)}
    for single in training(dataset, 1):
        (place, batch) = next((k[0], batch) for k, batch in large.items() if k[1] == single.ids[0])
        for a, b in zip(network_inputs(batch), network_inputs(single), strict=True):
            assert a is not None
            assert b is not None
            assert torch.equal(a[place], b[0])


def test_evaluation_counts_every_video_once_over_the_ranks(dataset: ClipDataset) -> None:
    ids = []
    for rank in range(3):
        for batch in ClipLoader(dataset, batch_size=4, training=False, rank=rank, world_size=3):
            ids += batch.ids
            assert len(batch) == 4 * len(batch.ids)  # two clips and their mirror images
            assert batch.video.tolist() == [k for k in range(len(batch.ids)) for _ in range(4)]
    assert sorted(ids) == sorted(spec.id for spec in SPECS)


def test_the_next_pass_begins_by_itself_and_is_another(dataset: ClipDataset) -> None:
    loader = training(dataset)
    first, second = list(loader), list(loader)
    assert loader.state_dict()["epoch"] == 2
    assert [batch.ids for batch in first] != [batch.ids for batch in second]
    assert len(second) == len(first)


@pytest.mark.parametrize("num_done", [0, 1, 4, 5, 7])
def test_resuming_is_exact(dataset: ClipDataset, num_done: int) -> None:
    whole = training(dataset, seed=3)
    expected = [*whole, *whole]
    begun = training(dataset, seed=3)
    batches = (batch for _ in range(2) for batch in begun)
    state = begun.state_dict()
    for _ in range(num_done):
        next(batches)
        state = json.loads(json.dumps(begun.state_dict()))
    batches.close()
    resumed = training(dataset, seed=3, num_threads=1)
    resumed.load_state_dict(state)
    rest = [batch for _ in range(2 - state["epoch"]) for batch in resumed]
    assert all(itertools.starmap(same, zip(expected[num_done:], rest, strict=True)))


def test_resuming_with_another_number_of_processes(dataset: ClipDataset) -> None:
    state = training(dataset, 4).state_dict()
    training(dataset, 2, rank=1, world_size=2).load_state_dict(state)
    with pytest.raises(SettingsError, match="`global_batch_size` of the saved position is 4, here it is 8"):
        training(dataset, 8).load_state_dict(state)
    with pytest.raises(SettingsError, match="`seed` of the saved position is 0, here it is 1; resume with the same"):
        training(dataset, 4, seed=1).load_state_dict(state)


def test_time_that_is_waited_is_counted(dataset: ClipDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of our own: a video is decoded in a second, and what is done with a batch takes six."""
    now = 0.0
    real = ClipDataset.decode

    def slow(*arguments: Any) -> None:
        nonlocal now
        now += 1
        real(*arguments)

    monkeypatch.setattr(ClipDataset, "decode", slow)
    monkeypatch.setattr(loaders, "time", SimpleNamespace(perf_counter=lambda: now))
    loader = training(dataset, num_threads=1, num_ahead=1)
    assert loader.wait_share == 0
    for _ in loader:
        now += 6
    assert loader.wait_share == 4 / 10
    assert loader.seconds_total == 5 * 10
    batches = iter(loader)
    next(batches)
    assert loader.wait_share == 1
    now += 12
    assert loader.wait_share == 4 / 16, "also while the consumer has a batch"
    batches.close()


# -- faults ------------------------------------------------------------------------------------------------------------


def clip_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("clips")]


@pytest.mark.parametrize("error", [StoreError("'v' rgb 3: 0 bytes are not a JPEG image"), MemoryError("full")])
def test_an_error_of_a_thread_names_the_video(
    dataset: ClipDataset, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    order = [batch.ids for batch in training(dataset)]
    bad = order[2][1]
    real = ClipDataset.decode

    def failing(self: ClipDataset, plan: Any, *canvas: Any) -> None:
        if plan.id == bad:
            raise error
        real(self, plan, *canvas)

    monkeypatch.setattr(ClipDataset, "decode", failing)
    loader = training(dataset)
    batches = iter(loader)
    assert [next(batches).ids for _ in range(2)] == order[:2]
    with pytest.raises(type(error)) as caught:
        next(batches)
    assert f"while the clips of video {bad!r} were decoded" in caught.value.__notes__
    assert loader.state_dict()["batch"] == 2
    assert clip_threads() == []


def test_a_pass_that_is_left_ends_its_threads(dataset: ClipDataset) -> None:
    loader = training(dataset, num_threads=3, num_ahead=4)
    batches = iter(loader)
    next(batches)
    assert clip_threads()
    batches.close()  # type: ignore[attr-defined]
    assert clip_threads() == []
    assert loader.state_dict()["batch"] == 1
    assert len(list(loader)) == 4


def test_only_so_many_batches_are_begun(dataset: ClipDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    real = ClipDataset.decode

    def counted(self: ClipDataset, plan: Any, *canvas: Any) -> None:
        begun.append(plan.id)
        real(self, plan, *canvas)

    monkeypatch.setattr(ClipDataset, "decode", counted)
    batches = iter(training(dataset, num_ahead=2))
    next(batches)
    time.sleep(0.1)
    assert len(begun) <= 8
    batches.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"rank": 2, "world_size": 2}, "`rank` must be from 0 to `world_size` - 1 = 1, got 2"),
        ({"num_threads": -1}, "`num_threads` must be at least 0"),
        ({"batch_size": 12, "world_size": 2}, "at most the 22 videos of the training list, got 12 x 2"),
    ],
)
def test_wrong_numbers(dataset: ClipDataset, options: dict[str, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        training(dataset, **options)


def test_damaged_bytes_name_video_stream_and_index(tmp_path: Path) -> None:
    out = write_clip_store(tmp_path / "s", shards(), ucf_specs(1, 1))
    with open_store(out) as store:
        start = np.flatnonzero(np.frombuffer((out / "shards/00000.h5").read_bytes(), np.uint8) == 0xD8)
        data = bytearray((out / "shards/00000.h5").read_bytes())
        for at in start:
            if data[at - 1] == 0xFF:
                data[at - 1 : at + 1] = b"\0\0"
        (out / "shards/00000.h5").write_bytes(data)
        with pytest.raises(StoreError, match=r"'v_(Archery|Biking)_g01_c01' \w+ \d+: \d+ bytes are not a JPEG image"):
            list(training(ClipDataset(store, list(store.ids), SMALL), 1))
