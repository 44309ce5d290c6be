"""Which row of the paper is which setting: networks, towers, evaluation, sizes, and what rows share. Trains nothing."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any, cast

import pytest

from flowprep.errors import SettingsError
from flowprep.stores import Store
from fusion_train.ablation_plan import AblationPlan, PlannedRow, plan_ablation
from fusion_train.ablation_rows import PAPER_ROWS, TABLES
from fusion_train.paper import ALL_SPLITS, REPORTED, reported
from fusion_train.stages import lasting_of_stage

FLOW_CONV1 = 96 * 49 * 17
"""What the paper's count has too much: 20 instead of 3 channels in the spatial conv1 of VGG-M."""
PRINTED = {row.name: row for row in PAPER_ROWS}


def store_of(folder: Path, dataset: str = "ucf101", num_classes: int = 101) -> Store:
    """No more than what planning reads: the splits."""
    splits = {name: {"train": [], "test": []} for name in ("1", "2", "3")}
    content = {"format": 1, "dataset": dataset, "classes": [f"c{k}" for k in range(num_classes)], "splits": splits}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "splits.json").write_text(json.dumps(content))
    return cast(Store, types.SimpleNamespace(path=folder))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_of(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def plan(store: Store) -> AblationPlan:
    return plan_ablation(store, tables=())


def by_name(plan: AblationPlan) -> dict[str, PlannedRow]:
    return {row.paper.name: row for row in plan.rows}


FUSED = [
    # table 1: two VGG-M, one tower, 2D
    ("1-max", "vggm", "vggm", "max", "relu5", "pool2d", False),
    ("1-concat", "vggm", "vggm", "concat", "relu5", "pool2d", False),
    ("1-bilinear", "vggm", "vggm", "bilinear", "relu5", "pool2d", False),
    ("1-sum", "vggm", "vggm", "sum", "relu5", "pool2d", False),
    ("1-conv", "vggm", "vggm", "conv", "relu5", "pool2d", False),
    ("2-relu2", "vggm", "vggm", "conv", "relu2", "pool2d", False),
    ("2-relu3", "vggm", "vggm", "conv", "relu3", "pool2d", False),
    ("2-relu4", "vggm", "vggm", "conv", "relu4", "pool2d", False),
    ("2-relu5", "vggm", "vggm", "conv", "relu5", "pool2d", False),
    ("2-relu5-fc8", "vggm", "vggm", "conv", "relu5,fc8", "pool2d", False),
    ("2-relu3-relu5-fc6", "vggm", "vggm", "conv", "relu3,relu5,fc6", "pool2d", False),
    # table 4: both towers
    ("4-conv2d-pool2d", "vgg16", "vggm", "conv", "relu5_3:relu5", "pool2d", True),
    ("4-conv2d-pool3d", "vgg16", "vggm", "conv", "relu5_3:relu5", "pool3d", True),
    ("4-conv3d-pool3d", "vgg16", "vggm", "conv", "relu5_3:relu5", "conv3d+pool3d", True),
    ("5-vgg16-vggm", "vgg16", "vggm", "conv", "relu5_3:relu5", "conv3d+pool3d", True),
    ("5-one-tower", "vgg16", "vgg16", "conv", "relu5_3", "conv3d+pool3d", False),
    ("5-vgg16", "vgg16", "vgg16", "conv", "relu5_3", "conv3d+pool3d", True),
]


@pytest.mark.parametrize(("name", "spatial", "temporal", "fusion", "at", "temporal_fusion", "keep_temporal"), FUSED)
def test_fused_rows(
    plan: AblationPlan, name: str, spatial: str, temporal: str, fusion: str, at: str, temporal_fusion: str,
    keep_temporal: bool,
) -> None:  # fmt: skip
    (network,) = by_name(plan)[name].networks
    model, data = network.settings.model, network.settings.data
    assert (model.network, model.spatial, model.temporal) == ("fused", spatial, temporal)
    assert (model.fusion, model.at, model.temporal_fusion) == (fusion, at, temporal_fusion)
    assert model.keep_temporal is keep_temporal
    assert model.conv_init == "gaussian"  # the identity of a 1x1 filter
    assert [one.name for one in network.starts_from] == [f"{spatial}-spatial", f"{temporal}-temporal"]
    assert (data.num_chunks, data.test_flip) == (5, True)
    assert data.num_test_clips == (10 if name.startswith("5") else 1)


@pytest.mark.parametrize(
    ("name", "networks"),
    [
        ("1-sum-softmax", ["vggm-spatial", "vggm-temporal"]),
        ("3-vggm-spatial", ["vggm-spatial"]),
        ("3-vgg16-spatial", ["vgg16-spatial"]),
        ("3-vggm-temporal", ["vggm-temporal"]),
        ("3-vgg16-temporal", ["vgg16-temporal"]),
        ("3-vggm-late-fusion", ["vggm-spatial", "vggm-temporal"]),
        ("3-vgg16-late-fusion", ["vgg16-spatial", "vgg16-temporal"]),
        ("5-late-fusion", ["vgg16-spatial", "vgg16-temporal"]),
    ],
)
def test_rows_of_streams_and_their_late_fusion(plan: AblationPlan, name: str, networks: list[str]) -> None:
    row = by_name(plan)[name]
    assert [one.name for one in row.networks] == networks
    for one in row.networks:
        assert one.name == f"{getattr(one.settings.model, one.settings.model.network)}-{one.settings.model.network}"
        assert (one.settings.data.num_chunks, one.settings.data.test_flip) == (1, True)
        assert one.settings.data.num_test_clips == (10 if name.startswith("5") else 5)


def test_all_rows_that_are_not_cited_are_checked_here(plan: AblationPlan) -> None:
    fused = {case[0] for case in FUSED}
    late = {row.paper.name for row in plan.rows if row.networks} - fused
    assert fused | late == {row.name for row in PAPER_ROWS if row.recipe is not None}
    assert len(late) == 8
    assert not any(row.left_out for row in plan.rows)


@pytest.mark.parametrize("name", [row.name for row in PAPER_ROWS if row.num_layers and row.recipe])
def test_layers_are_the_papers(plan: AblationPlan, name: str) -> None:
    row = by_name(plan)[name]
    more = {"1-bilinear": 1, "2-relu5-fc8": 1}  # the classifier; the second fusion filter. Both have a note
    assert row.num_layers is not None
    assert row.num_layers - more.get(name, 0) == row.paper.num_layers
    assert row.notes or name not in more


@pytest.mark.parametrize(
    ("name", "counted_otherwise"),
    [
        ("1-sum-softmax", 0),
        ("1-max", 0),
        ("1-concat", 0),
        ("1-sum", 0),
        ("1-conv", -512 * 512),
        ("2-relu4", 0),  # the one row for which the paper counts the whole filter
        ("2-relu5-fc8", -512 * 512 - 101 * (2 * 101 + 1)),  # one filter of two
    ],
)
def test_parameters_are_the_papers_when_counted_as_the_notes_say(
    plan: AblationPlan, name: str, counted_otherwise: int
) -> None:
    row = by_name(plan)[name]
    assert row.num_parameters is not None
    # The paper rounds some counts and cuts others.
    assert (row.num_parameters + FLOW_CONV1 + counted_otherwise) / 1e6 == pytest.approx(row.paper.millions, abs=0.01)
    assert row.notes


@pytest.mark.parametrize(("name", "channels"), [("2-relu2", 256), ("2-relu3", 512)])
def test_parameters_that_nobody_can_explain(plan: AblationPlan, name: str, channels: int) -> None:
    row = by_name(plan)[name]
    assert row.num_parameters is not None
    assert row.paper.millions is not None
    without_filter = row.num_parameters + FLOW_CONV1 - channels * (2 * channels + 1)
    assert row.paper.millions - without_filter / 1e6 == pytest.approx(0.48, abs=0.006)
    assert "0.48 M" in row.notes[0]


def test_parameters_of_the_large_networks(plan: AblationPlan) -> None:
    rows = by_name(plan)
    assert rows["5-vgg16"].num_parameters == 283_514_762
    assert rows["5-one-tower"].num_parameters == 163_555_109
    assert rows["1-conv"].num_parameters == rows["2-relu5"].num_parameters


def test_a_name_is_one_network_wherever_it_is(plan: AblationPlan) -> None:
    found: dict[str, Any] = {}
    for row in plan.rows:
        for one in row.all_networks:
            assert found.setdefault(one.name, lasting_of_stage(one.settings)) == lasting_of_stage(one.settings)
    kinds = [json.dumps(content, sort_keys=True) for content in found.values()]
    assert len(set(kinds)) == len(kinds)
    assert len(found) == 4 + 10 + 3 + 2  # streams, tables 1 and 2 with one in common, 4, and what 5 has beside that


def test_rows_share_across_tables(plan: AblationPlan) -> None:
    rows = by_name(plan)
    for first, second in (("1-conv", "2-relu5"), ("1-sum-softmax", "3-vggm-late-fusion"),
                          ("4-conv3d-pool3d", "5-vgg16-vggm")):  # fmt: skip
        assert [one.name for one in rows[first].networks] == [one.name for one in rows[second].networks]


def test_splits_are_the_first_or_all(plan: AblationPlan, store: Store) -> None:
    assert {row.splits for row in plan.rows if row.paper.table < 5} == {("1",)}
    assert {row.splits for row in plan.rows if row.paper.table == 5} == {("1", "2", "3")}
    assert {row.splits for row in plan_ablation(store, tables=(), split="2").rows} == {("2",)}
    assert {row.splits for row in plan_ablation(store, tables=[1], split="all").rows} == {("1", "2", "3")}


def test_figures_agree_with_those_of_the_presets() -> None:
    for dataset in ("ucf101", "hmdb51"):
        for backbone in ("vggm", "vgg16"):
            reported = REPORTED[f"{dataset}-{backbone}"]
            for what in ("spatial", "temporal", "late fusion"):
                row = PRINTED[f"3-{backbone}-{what.replace(' ', '-')}"]
                assert row.percent(dataset) == reported[what].percent
        assert PRINTED["4-conv3d-pool3d"].percent(dataset) == REPORTED[f"{dataset}-vgg16-vggm"]["fused"].percent
        assert PRINTED["5-vgg16"].percent(dataset) == REPORTED[f"{dataset}-vgg16"]["fused"].percent
        one_tower = REPORTED[f"{dataset}-vgg16"]["fused spatiotemporal"]
        assert PRINTED["5-one-tower"].percent(dataset) == one_tower.percent
    assert PRINTED["1-conv"].ucf101 == REPORTED["ucf101-vggm"]["fused"].percent
    assert PRINTED["1-conv"].ucf101 == PRINTED["2-relu5"].ucf101
    assert PRINTED["1-sum-softmax"].ucf101 == PRINTED["3-vggm-late-fusion"].ucf101


def test_names_are_unique_and_cells_have_the_tables_columns() -> None:
    assert len(PRINTED) == len(PAPER_ROWS) == 6 + 1 + 6 + 6 + 3 + 12
    for number in TABLES:
        assert len({tuple(row.cells) for row in PAPER_ROWS if row.table == number}) == 1


def test_hmdb51_has_its_own_figures_and_presets(tmp_path: Path) -> None:
    plan = plan_ablation(store_of(tmp_path, "hmdb51", 51), tables=())
    rows = by_name(plan)
    assert plan.paper_dataset == "hmdb51"
    assert rows["4-conv3d-pool3d"].paper.percent(plan.paper_dataset) == 58.63
    assert rows["1-conv"].paper.percent(plan.paper_dataset) is None
    assert rows["5-vgg16"].num_parameters == 283_105_062
    assert not any("8.11" in note for row in plan.rows for note in row.notes)


def test_other_data_has_the_networks_and_no_figures(tmp_path: Path) -> None:
    plan = plan_ablation(store_of(tmp_path, "folder", 4), tables=[1])
    assert plan.paper_dataset is None
    assert {row.paper.percent(plan.paper_dataset) for row in plan.rows} == {None}


def test_a_few_classes_in_the_layout_of_ucf101_are_said(tmp_path: Path, plan: AblationPlan) -> None:
    note = "The paper's figures are of 101 classes, this store has 4."
    few = plan_ablation(store_of(tmp_path, "ucf101", 4), tables=[1])
    assert all(row.notes[-1] == note for row in few.rows)
    assert not any("classes" in text for row in plan.rows for text in row.notes)


def test_a_preset_takes_the_place_of_all_networks(store: Store) -> None:
    rows = by_name(plan_ablation(store, tables=(), preset="debug"))
    left_out = {name: row.left_out for name, row in rows.items() if row.left_out}
    assert left_out == {
        "2-relu4": "debug has no layer that stands for relu4 of VGG-M",
        "3-vgg16-spatial": "with debug the same as 3-vggm-spatial",
        "3-vgg16-temporal": "with debug the same as 3-vggm-temporal",
        "3-vgg16-late-fusion": "with debug the same as 3-vggm-late-fusion",
        "5-vgg16": "with debug the same as 5-vgg16-vggm",
    }
    (network,) = rows["2-relu3-relu5-fc6"].networks
    assert network.settings.model.at == "relu2,relu3,fc4"
    assert {one.settings.model.spatial for row in rows.values() for one in row.all_networks} == {"debug"}


@pytest.mark.parametrize("preset", ["ucf101-resnet50", "ucf101-vgg16-vggm"])
def test_other_presets_can_take_their_place(store: Store, preset: str) -> None:
    rows = by_name(plan_ablation(store, tables=(), preset=preset))
    assert all(row.num_parameters or row.left_out for row in rows.values() if row.paper.recipe is not None)
    assert rows["1-conv"].num_parameters


def test_only_chooses_rows_and_their_tables(store: Store) -> None:
    plan = plan_ablation(store, tables=[], only=["4-conv2d-pool2d", "1-max"], num_seeds=3)
    assert plan.chosen == {"4-conv2d-pool2d", "1-max"}
    assert {row.paper.table for row in plan.rows} == {1, 4}
    assert plan.seeds == (0, 1, 2)


def test_settings_reach_the_networks_and_win(store: Store) -> None:
    plan = plan_ablation(
        store, tables=[1], sets=["train.batch_size=32", "fused.data.num_test_clips=3", "train.log_every=7"]
    )
    rows = by_name(plan)
    assert {one.settings.train.batch_size for row in plan.rows for one in row.all_networks} == {32}
    assert rows["1-max"].networks[0].settings.data.num_test_clips == 3
    assert rows["1-sum-softmax"].networks[0].settings.data.num_test_clips == 5
    assert plan.sets == ("train.batch_size=32", "fused.data.num_test_clips=3")  # logging may change from call to call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tables": [6]}, r"`table` must be one of 1, 2, 3, 4, 5, got 6"),
        ({"only": ["1-min"]}, r"no row '1-min' to run; there are 1-sum-softmax, 1-max"),
        ({"only": ["5-c3d"]}, r"no row '5-c3d' to run"),
        ({"num_seeds": 0}, r"`seeds` must be at least 1, got 0"),
        ({"sets": ["train.seed=4"]}, r"`train.seed` is what rows are made of, .* give --seeds"),
        ({"sets": ["fused.train.split=2"]}, r"`train.split` is what rows are made of, .* give --split"),
        ({"sets": ["fused.model.at=relu3"]}, r"`model.at` is what rows are made of, .* give --preset or --only"),
        ({"sets": ["train.batch=4"]}, r"no setting of train 'batch'"),
        ({"preset": "none"}, r"`preset` must be one of"),
        ({"split": "4"}, r"has no split '4'"),
    ],
)
def test_what_is_wrong_is_said(store: Store, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        plan_ablation(store, **{"tables": (), **arguments})


def test_the_documentation_has_every_row() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "ablations.md").read_text("utf-8")
    rows = text.split("\n## Which row is which\n")[1].split("\n## ")[0]
    found = [name for line in rows.splitlines() if line.startswith("| ") for name in line.split("|")[1].split(",")]
    assert sorted(name.strip() for name in found if "-" in name) == sorted(
        name for name, row in PRINTED.items() if row.recipe is not None
    )


def test_a_run_of_several_splits_stands_beside_means() -> None:
    """As table 5 prints them; what the paper has of split 1 alone says so."""
    for dataset in ("ucf101", "hmdb51"):
        for preset, row, printed in [
            ("vgg16", "late fusion", "5-late-fusion"), ("vgg16", "fused", "5-vgg16"),
            ("vgg16", "fused spatiotemporal", "5-one-tower"), ("vgg16-authors", "late fusion", "5-late-fusion"),
            ("vgg16-authors", "fused", "5-vgg16"), ("vgg16-vggm", "fused", "5-vgg16-vggm"),
        ]:  # fmt: skip
            found = reported(f"{dataset}-{preset}", 3)[row]
            assert (found.percent, found.of) == (PRINTED[printed].percent(dataset), ALL_SPLITS)
        for preset in ("vgg16", "vggm", "vgg16-vggm", "vgg16-authors"):
            assert reported(f"{dataset}-{preset}", 1) == REPORTED[f"{dataset}-{preset}"]
            assert reported(f"{dataset}-{preset}", 3)["spatial"].of == "split 1"
    assert reported("debug", 3) == {}
