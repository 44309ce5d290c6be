"""From stores of every form to batches: which JPEG is where, splits, groups, what is left out."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.clip_store import HEIGHT, WIDTH, Spec, code, shards, tree, ucf_specs, ucf_splits, write_clip_store
from helpers.shared_data import SPLITS, needs_shared
from numpy.typing import NDArray

from flowprep.config import LAYOUTS, ExtractSettings, StoreSettings
from flowprep.datasets.hmdb51 import _lists as hmdb51_lists
from flowprep.errors import DatasetError, MissingDataError, SettingsError, StoreError
from flowprep.stores import open_store
from flowprep.stores.splitsfile import read_splits
from fusion_train.config import DataSettings, TrainSettings
from fusion_train.data.augment import network_inputs
from fusion_train.data.batch import ClipBatch
from fusion_train.data.canvas import Canvases
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.loader import empty_batch
from fusion_train.data.splits import group_of, held_out, parts_of_training, read_parts

SMALL = DataSettings(num_chunks=3, crop_size=32, tau_max=4, test_tau=4, num_test_clips=2)
SPECS = [Spec("v_Archery_g01_c01", 30), Spec("v_Biking_g01_c01", 25, (40, 72)), Spec("v_Archery_g02_c01", 13)]
KINDS = {"shards": shards(), "truncate": shards("truncate"), **{name: tree(name) for name in LAYOUTS}}


@pytest.fixture(scope="module", params=KINDS)
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ClipDataset:
    out = write_clip_store(tmp_path_factory.mktemp("store") / "s", KINDS[request.param], SPECS)
    store = open_store(out)
    return ClipDataset(store, [spec.id for spec in SPECS], SMALL)


@pytest.fixture(scope="module")
def ucf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    specs = [*ucf_specs(), Spec("v_Biking_g01_c09", 0), Spec("v_Biking_g06_c09", 0)]
    return write_clip_store(tmp_path_factory.mktemp("ucf") / "s", shards(), specs, ucf_splits(specs))


def decoded(dataset: ClipDataset, plans: list[Any]) -> ClipBatch:
    batch = empty_batch(dataset, plans, Canvases())
    for crops in (batch.rgb, batch.flow):
        if crops is not None:
            crops.pixels.fill_(255)  # a code that no plane has
    for k, plan in enumerate(plans):
        images = None if batch.rgb is None else batch.rgb.strips()[k].numpy()
        fields = None if batch.flow is None else batch.flow.strips()[k].numpy()
        dataset.decode(plan, images, fields)
    return batch


def check_contents(dataset: ClipDataset, batch: ClipBatch) -> None:
    """Every chunk's image and fields have the codes of their time, u of mirrored clips the opposite one."""
    rgb, flow = network_inputs(batch)
    assert rgb is not None
    assert flow is not None
    assert flow.shape[2] == 20
    for clip, video in enumerate(batch.video.tolist()):
        number = [spec.id for spec in SPECS].index(batch.ids[video].rsplit("/", 1)[-1])
        last = dataset.store.clip(batch.ids[video]).num_flows - 1
        for chunk, time in enumerate(batch.times[clip].tolist()):
            # JPEG keeps a flat plane to the code; colour to a few.
            assert (rgb[clip, chunk] - code(number, "rgb", time)).abs().max() <= 3
            for k in range(10):
                index = min(max(time - 5 + k, 0), last)
                u, v = code(number, "flow_x", index), code(number, "flow_y", index)
                if batch.flips[clip]:
                    u = 2 * dataset.flow_zero - u
                assert (flow[clip, chunk, 2 * k] - u).abs().max() <= 1
                assert (flow[clip, chunk, 2 * k + 1] - v).abs().max() <= 1


def test_training_clips_hold_the_frames_of_their_times(dataset: ClipDataset) -> None:
    for epoch in range(3):
        plans = [dataset.plan_training(k, seed=1, epoch=epoch) for k in range(3)]
        batch = decoded(dataset, plans)
        assert batch.output_size == (32, 32)
        check_contents(dataset, batch)
        assert batch.labels.tolist() == [0, 1, 0]


def test_evaluation_takes_whole_images_and_their_mirror_images(dataset: ClipDataset) -> None:
    for k, spec in enumerate(SPECS):
        batch = decoded(dataset, [dataset.plan_evaluation(k)])
        assert batch.rgb is not None
        assert batch.rgb.sizes == (spec.size,)
        assert batch.output_size == (spec.size[0], min(spec.size[1], 64))
        assert batch.flips == (False, True) * 2
        assert torch.equal(batch.times[0::2], batch.times[1::2])
        check_contents(dataset, batch)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_trees_of_other_tools_are_read_as_they_lie(tmp_path: Path, layout: str) -> None:
    """Of the five layouts one is our own, without what makes a store of it."""
    out = write_clip_store(tmp_path / "s", tree(layout), SPECS)
    for path in out.iterdir():
        if not any(path.rglob("*.jpg")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with open_store(out, layout=layout, bound_px=15, rounding="truncate", step=1) as store:
        dataset = ClipDataset(store, store.ids, SMALL)
        assert (dataset.flow_zero, dataset.bound_px, len(dataset)) == (127, 15, 3)
        check_contents(dataset, decoded(dataset, [dataset.plan_training(k, seed=0, epoch=0) for k in range(3)]))


def test_zero_and_bound_come_from_the_store(dataset: ClipDataset) -> None:
    rounding = dataset.store.settings.quantise.rounding
    assert dataset.flow_zero == {"round": 128, "truncate": 127}[rounding]
    assert dataset.flip_sum == 2 * dataset.flow_zero
    assert dataset.bound_px == 20
    authors = ClipDataset(dataset.store, ["v_Archery_g01_c01"], DataSettings(protocol="authors"))
    assert authors.flip_sum == 255


def test_each_jpeg_is_decoded_once(dataset: ClipDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[tuple[str, str, int]] = Counter()
    real = dataset.store.images

    def images(video_id: str, stream: str, indices: Sequence[int]) -> Any:
        asked.update((video_id, stream, index) for index in indices)
        return real(video_id, stream, indices)

    monkeypatch.setattr(dataset.store, "images", images)
    for plan in (dataset.plan_training(2, seed=0, epoch=0), dataset.plan_evaluation(0)):
        asked.clear()
        decoded(dataset, [plan])
        assert set(asked.values()) == {1}
        assert len(asked) == len(plan.images) + 2 * len(plan.flows)
        assert len(plan.flows) < plan.flow_index.size


@pytest.mark.parametrize("width", [46, 200])
def test_crops_are_those_parts_of_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Kept with the rest of their rows, or without where that would be much."""
    size = (48, width)

    def noise(stream: str, index: int) -> NDArray[np.uint8]:
        channels = (3,) if stream == "rgb" else ()
        return np.random.default_rng([len(stream), ord(stream[-1]), index]).integers(0, 256, size + channels, np.uint8)

    with open_store(write_clip_store(tmp_path / "s", shards(), [Spec("v_Archery_g01_c01", 30, size)])) as store:
        monkeypatch.setattr(store, "images", lambda video_id, stream, indices: (noise(stream, k) for k in indices))
        dataset = ClipDataset(store, store.ids, SMALL)
        for epoch in range(4):
            plan = dataset.plan_training(0, seed=0, epoch=epoch)
            batch = decoded(dataset, [plan])
            assert batch.rgb is not None
            assert batch.flow is not None
            assert plan.strip.width == (46 if width == 46 else plan.crop.width)
            rows = slice(plan.crop.top, plan.crop.top + plan.crop.height)
            columns = slice(plan.crop.left, plan.crop.left + plan.crop.width)
            (images,), (fields,) = batch.rgb.videos(), batch.flow.videos()
            for k, index in enumerate(plan.images):
                assert np.array_equal(images[k].numpy(), noise("rgb", index)[rows, columns])
            for k, index in enumerate(plan.flows):
                for axis, stream in enumerate(("flow_x", "flow_y")):
                    plane = fields[k // 2, ..., 2 * (k % 2) + axis]
                    assert np.array_equal(plane.numpy(), noise(stream, index)[rows, columns])


def test_draws_depend_on_seed_epoch_and_id_alone(dataset: ClipDataset) -> None:
    backwards = ClipDataset(dataset.store, [spec.id for spec in reversed(SPECS)], SMALL)
    seen = []
    for seed, epoch in itertools.product((0, 1), (0, 1)):
        plan = dataset.plan_training(0, seed=seed, epoch=epoch)
        other = backwards.plan_training(2, seed=seed, epoch=epoch)
        assert (plan.id, plan.crop, plan.flips) == (other.id, other.crop, other.flips)
        assert np.array_equal(plan.times, other.times)
        seen.append((plan.crop, plan.flips, tuple(plan.times.ravel())))
    assert len(set(seen)) == 4


def test_one_stream_alone(dataset: ClipDataset) -> None:
    spatial = ClipDataset(dataset.store, ["v_Archery_g01_c01"], SMALL, streams=["rgb"])
    batch = decoded(spatial, [spatial.plan_training(0, seed=0, epoch=0)])
    assert (batch.rgb is not None, batch.flow) == (True, None)
    plan = ClipDataset(dataset.store, ["v_Archery_g01_c01"], SMALL, streams=["flow"]).plan_evaluation(0)
    assert (plan.images, len(plan.flows) > 0) == ((), True)


def test_short_videos_are_left_out_and_named(tmp_path: Path) -> None:
    specs = [Spec("v_Archery_g01_c01", 1), Spec("v_Archery_g01_c02", 2)]
    with open_store(write_clip_store(tmp_path / "s", shards(), specs)) as store:
        dataset = ClipDataset(store, [spec.id for spec in specs], SMALL)
        assert ([video.id for video in dataset.videos], dataset.skipped) == (
            ["v_Archery_g01_c02"],
            ("v_Archery_g01_c01",),
        )
        decoded(dataset, [dataset.plan_training(0, seed=0, epoch=0)])
        with pytest.raises(DatasetError, match=r"none of the 1 videos from .* has a clip"):
            ClipDataset(store, ["v_Archery_g01_c01"], SMALL)
        assert len(ClipDataset(store, ["v_Archery_g01_c01"], SMALL, streams=["rgb"])) == 1


def test_streams_that_are_not_there(tmp_path: Path, dataset: ClipDataset) -> None:
    settings = ExtractSettings(store=StoreSettings(flow=False))
    with open_store(write_clip_store(tmp_path / "s", settings, SPECS)) as store:
        with pytest.raises(StoreError, match="has no stream flow; extract it, or train the other"):
            ClipDataset(store, [SPECS[0].id], SMALL)
        assert len(ClipDataset(store, [SPECS[0].id], SMALL, streams=["rgb"])) == 1
    for streams in (["depth"], []):
        with pytest.raises(SettingsError, match="`streams` must be some of rgb, flow"):
            ClipDataset(dataset.store, [SPECS[0].id], SMALL, streams=streams)


# -- splits and groups -------------------------------------------------------------------------------------------------


def test_parts_of_a_split(ucf: Path) -> None:
    with open_store(ucf) as store:
        parts = read_parts(store, "1", share=0.25)
        assert len(parts.train) + len(parts.validation) == 16
        assert len(parts.test) == 8
        assert parts.num_not_stored == {"train": 1, "test": 1}
        groups = [{(video_id.split("_")[1], group_of(video_id, "")) for video_id in ids}
                  for ids in (parts.train, parts.validation, parts.test)]  # fmt: skip
        assert all(not a & b for a, b in itertools.combinations(groups, 2))
        assert {name for name, _ in groups[1]} == {"Archery", "Biking"}
        assert len(parts.validation) == 4
        assert read_parts(store, "1", share=0.25) == parts
        assert len({read_parts(store, "1", share=0.25, seed=seed).validation for seed in range(9)}) > 3
        order = list(store.ids)
        assert list(parts.train) == sorted(parts.train, key=order.index)


def test_other_validations(ucf: Path) -> None:
    with open_store(ucf) as store:
        none, test = (read_parts(store, "1", validation=name) for name in ("none", "test"))
        assert (len(none.train), none.validation) == (16, ())
        assert (len(test.train), test.validation) == (16, test.test)
        with pytest.raises(SettingsError, match="`validation` must be one of groups, none, test, got 'random'"):
            read_parts(store, "1", validation="random")
        with pytest.raises(SettingsError, match=r"has no split '4'; it has 1$"):
            read_parts(store, "4")


@pytest.mark.parametrize(
    ("num_groups", "num_clips", "message"),
    [
        (1, 2, r"since each class has a single one; set `train.val` to none, which trains on all with fixed rates$"),
        (2, 2, r"since they are too large for a share of 0.1; set `train.val` to none.*, or raise `train.val_share`$"),
    ],
)
def test_nothing_that_can_be_held_out_is_said(tmp_path: Path, num_groups: int, num_clips: int, message: str) -> None:
    specs = ucf_specs(num_groups + 1, num_clips)
    splits = ucf_splits(specs, first_test_group=num_groups + 1)
    with open_store(write_clip_store(tmp_path / "s", shards(), specs, splits)) as store:
        with pytest.raises(SettingsError, match=message):
            parts_of_training(store, TrainSettings())
        for options in (TrainSettings(val="none"), TrainSettings(val="test")):
            assert len(parts_of_training(store, options).train) == 2 * num_groups * num_clips
        assert read_parts(store, "1").validation == ()  # evaluation on the test list needs none


def test_a_part_val_is_tested_on_where_the_test_has_no_labels_and_held_out_otherwise(tmp_path: Path) -> None:
    specs = ucf_specs(2, 1)
    ids = [spec.id for spec in specs]
    splits = {"1": {"train": (*ids[:2],), "val": (ids[2],), "test": (ids[3],)}}
    out = write_clip_store(tmp_path / "s", shards(), specs, splits)
    text = (out / "splits.json").read_text()
    with open_store(out) as store:
        parts = read_parts(store, "1")
        assert (parts.train, parts.validation, parts.test) == ((*ids[:2],), (ids[2],), (ids[3],))
        assert read_parts(store, "1", validation="none").validation == ()
        assert read_parts(store, "1", validation="test").validation == (ids[3],)
        (out / "splits.json").write_text(text.replace("ucf101", "kinetics"))
        for validation, apart in (("none", ()), ("test", (ids[2],))):
            parts = read_parts(store, "1", validation=validation)
            assert (parts.train, parts.validation, parts.test) == ((*ids[:2],), apart, (ids[2],))
        (out / "splits.json").write_text(text.replace(f',"test":["{ids[3]}"]', "").replace(f'"test":["{ids[3]}"],', ""))
        assert read_parts(store, "1", validation="none").test == (ids[2],)


def test_splits_that_are_empty_or_damaged(tmp_path: Path) -> None:
    specs = [*ucf_specs(1, 1), Spec("v_Biking_g09_c01", 0)]
    splits = {"1": {"train": (specs[0].id,), "test": (specs[2].id,)}}
    out = write_clip_store(tmp_path / "s", shards(), specs, splits)
    with open_store(out) as store:
        with pytest.raises(DatasetError, match=r"split 1 of .* has no stored video in its part 'test'"):
            read_parts(store, "1")
        for text, message in (
            ("{", "does not hold splits"),
            ("[]", "does not hold splits"),
            ('{"format":1,"dataset":"x","classes":[1],"splits":{}}', "1 is not a text"),
            ('{"format":2,"dataset":"x","classes":[],"splits":{}}', "format 2; this version reads format 1"),
        ):
            (out / "splits.json").write_text(text)
            with pytest.raises(StoreError, match=message):
                read_parts(store, "1")
        (out / "splits.json").write_text('{"format":1,"dataset":"x","classes":[],"splits":{}}')
        with pytest.raises(DatasetError, match=r"has no split .*: the official lists were not there; extract"):
            read_parts(store, "1")
        (out / "splits.json").write_text('{"format":1,"dataset":"folder","classes":[],"splits":{}}')
        with pytest.raises(DatasetError, match="are in no part; extract with --splits FILE"):
            read_parts(store, "1")
        (out / "splits.json").unlink()
        with pytest.raises(MissingDataError, match=r"there is no .*splits\.json; run `flowprep extract` again"):
            read_splits(out)


@pytest.mark.parametrize(
    ("video_id", "class_name", "group"),
    [
        ("v_HandStandPushups_g17_c03", "HandstandPushups", "g17"),
        ("SoccerJuggling/v_SoccerJuggling_g23_c01", "SoccerJuggling", "g23"),
        ("wave/RATRACE_wave_f_nm_np1_fr_goo_37", "wave", "RATRACE"),
        ("cartwheel/Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6", "cartwheel", "Turnk_r_Pippi_Michel"),
        ("catch/10_f_cm_np1_fr_bad_2_catch_u_nm_np1_ba_goo_0", "catch", "10_f_cm_np1_fr_bad_2"),
        ("R6llTwEh07w_000010_000020", "using segway", "R6llTwEh07w"),
        ("166766", "Poking something", "166766"),
        ("~weird", "", "~weird"),
    ],
)
def test_groups(video_id: str, class_name: str, group: str) -> None:
    assert group_of(video_id, class_name) == group


def test_held_out_groups_are_whole_and_worth_their_share() -> None:
    generator = np.random.default_rng(0)
    keys = {
        f"{c}/{g}/{k}": (f"class{c}", f"g{g}")
        for c in range(101)
        for g in range(18)
        for k in range(generator.integers(4, 8))
    }
    for seed in range(3):
        chosen = held_out(keys, share=0.1, seed=seed)
        assert 0.095 < len(chosen) / len(keys) < 0.105
        assert {keys[name] for name in chosen} & {keys[name] for name in keys if name not in chosen} == set()
        assert {keys[name][0] for name in keys} == {keys[name][0] for name in chosen}
    assert held_out(dict(reversed(keys.items())), share=0.1, seed=2) == chosen
    pairs = {f"{c}{g}{k}": (c, g) for c in "abc" for g in "uvwxy" for k in "12"}
    assert held_out(pairs, share=0.1, seed=0) == {"au1", "au2", "cx1", "cx2"}
    assert held_out({"a": ("c", "g"), "b": ("c", "g")}, share=0.9, seed=0) == frozenset()


@needs_shared
@pytest.mark.parametrize("split", ["1", "2", "3"])
def test_official_lists_keep_groups_apart(split: str) -> None:
    """All 6766 names of HMDB51 are understood, and no group of a class is in both parts; so it is with UCF101."""
    parts: dict[str, set[tuple[str, str]]] = {"1": set(), "2": set()}
    for path, class_name, number in hmdb51_lists(SPLITS / "hmdb51" / "testTrainMulti_7030_splits"):
        for line in path.read_text().splitlines() if number == split else ():
            name, flag = line.strip().rsplit(" ", 1)
            group = group_of(f"{class_name}/{name.strip().removesuffix('.avi')}", class_name)
            assert "/" not in group
            parts.setdefault(flag, set()).add((class_name, group))
    assert len(parts["1"]) > 1000
    assert parts["1"] & parts["2"] == set()
    lists = {}
    for part in ("train", "test"):
        lines = (SPLITS / "ucf101" / f"{part}list0{split}.txt").read_text().split("\n")
        names = [line.split()[0] for line in lines if line.strip()]
        lists[part] = {(name.split("/")[0], group_of(name.removesuffix(".avi"), "")) for name in names}
    assert {group for _, group in lists["train"]} == {f"g{k:02d}" for k in range(1, 26)} - {g for _, g in lists["test"]}


def test_sizes_of_the_helper_are_unlike() -> None:
    assert {spec.size for spec in SPECS} == {(HEIGHT, WIDTH), (40, 72)}
