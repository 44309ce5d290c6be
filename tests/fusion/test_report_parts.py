"""Parts of the page about a run, each against a slow, obvious way to the same."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.clip_store import Spec, shards, tree, ucf_specs, write_clip_store
from helpers.run_folder import write_run
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from flowprep.config import StoreSettings
from flowprep.stores import open_store
from fusion_train.late_fusion import sweep
from fusion_train.metrics import gain, measure
from fusion_train.reporting.bars import Bar, bar_chart
from fusion_train.reporting.chart import Axis, Line, Mark, line_chart
from fusion_train.reporting.classes import class_rows, gain_bar
from fusion_train.reporting.confusion import confused_pairs, heat_map
from fusion_train.reporting.contents import RunContents, StageContents, read_run
from fusion_train.reporting.curves import learning_curves, smoothed, thinned
from fusion_train.reporting.results import points
from fusion_train.reporting.strips import strip_of
from fusion_train.reporting.svg import element, ticks
from fusion_train.reporting.sweeps import sweep_charts
from fusion_train.reporting.videos import best_and_worst, margins

CLASSES = ("archery", "biking", "cricket", "diving", "fencing")


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> RunContents:
    folder = write_run(tmp_path_factory.mktemp("parts"), CLASSES, splits=("1", "2"), num_a_class=12)
    return read_run(folder)


# -- confusion and classes ---------------------------------------------------------------------------------------------


def test_confused_pairs_are_counted_and_ordered(contents: RunContents) -> None:
    table = contents.splits[0].tables["temporal"]
    counted = Counter(
        (CLASSES[label], CLASSES[guess])
        for label, guess in zip(table.labels.tolist(), table.scores.argmax(1).tolist(), strict=True)
        if label != guess
    )
    pairs = confused_pairs(measure(table).confusion, CLASSES, most=100)
    assert {(pair.true, pair.taken): pair.num for pair in pairs} == counted
    assert all(pair.of == 12 for pair in pairs)
    assert [pair.num for pair in pairs] == sorted(counted.values(), reverse=True)
    assert confused_pairs(measure(table).confusion, CLASSES, most=3) == pairs[:3]


def test_a_heat_map_has_a_cell_for_every_pair_that_occurs() -> None:
    confusion = np.array([[3, 1, 0], [0, 4, 0], [2, 0, 0]], np.int64)
    drawn = heat_map("x", confusion, ("a", "b", "c"))
    assert re.findall(r"<title>(.*?)</title>", drawn) == [
        "3 of 4: a", "1 of 4: a taken for b", "4 of 4: b", "2 of 2: c taken for a",
    ]  # fmt: skip
    assert drawn.count('class="right"') == 2
    assert drawn.count('class="wrong"') == 2
    assert re.findall(r'class="count[^>]*>(\d)<', drawn) == ["3", "1", "4", "2"]
    assert "70.0 % on the diagonal" in drawn


def test_many_classes_have_names_of_their_size_and_still_more_none() -> None:
    hundred = heat_map("x", np.eye(101, dtype=np.int64), [f"name{k}" for k in range(101)])
    assert 'font-size="8"' in hundred
    assert hundred.count('class="tick') == 2 * 101
    assert "count" not in hundred
    assert heat_map("x", np.eye(160, dtype=np.int64), [f"name{k}" for k in range(160)]).count('class="tick') == 0


def test_gains_by_class_are_those_of_the_scores(contents: RunContents) -> None:
    tables = contents.splits[0].tables
    rows = class_rows({row: measure(table).confusion for row, table in tables.items()}, CLASSES)
    expected = gain(tables["late fusion"], tables["fused"]).per_class
    assert {row.name: row.gains["over late fusion"] for row in rows} == pytest.approx(dict(expected))
    assert [row.name for row in rows] == sorted(CLASSES, key=lambda name: (-expected[name], name))
    for row in rows:
        better = max(row.accuracy["spatial"], row.accuracy["temporal"])
        assert row.gains["over the better stream"] == pytest.approx(row.accuracy["fused"] - better)
        assert row.num_videos == 12


def test_classes_without_videos_are_left_out_and_rows_that_lack_have_no_gain() -> None:
    rows = class_rows({"spatial": np.array([[2, 0, 0], [0, 0, 0], [1, 0, 3]], np.int64)}, ("b", "x", "a"))
    assert [(row.name, row.accuracy["spatial"], dict(row.gains)) for row in rows] == [("a", 0.75, {}), ("b", 1.0, {})]
    assert class_rows({}, ("a",)) == []


def test_a_bar_of_a_loss_goes_to_the_left() -> None:
    assert 'x="40" y="2" width="20" height="8" class="gain"' in gain_bar(0.1, 0.2)
    assert 'x="20" y="2" width="20" height="8" class="loss"' in gain_bar(-0.1, 0.2)
    assert [points(value) for value in (0.1234, -0.1234, 0.0, -0.0001)] == ["+12.3", "\N{MINUS SIGN}12.3", "0.0", "0.0"]


# -- videos ------------------------------------------------------------------------------------------------------------


def test_margins_are_those_of_sorting(contents: RunContents) -> None:
    table = contents.splits[0].tables["fused"]
    for scores, label, margin in zip(
        table.scores.tolist(), table.labels.tolist(), margins(table).tolist(), strict=True
    ):
        own = scores.pop(label)
        assert margin == pytest.approx(own - max(scores), abs=1e-6)


def test_best_and_worst_are_the_ends_with_at_most_two_of_a_class(contents: RunContents) -> None:
    best, worst = best_and_worst(contents)
    pool = {
        (split.name, video): (float(margin), int(label))
        for split in contents.splits
        for table in [split.tables["fused"]]
        for video, label, margin in zip(table.ids, table.labels, margins(table), strict=True)
    }
    for shown, sign in ((best, -1), (worst, 1)):
        taken: list[tuple[str, str]] = []
        for key in sorted(pool, key=lambda key: sign * pool[key][0]):
            if sum(pool[other][1] == pool[key][1] for other in taken) < 2 and len(taken) < 6:
                taken.append(key)
        assert [(video.split, video.id) for video in shown] == taken
        assert [video.margin for video in shown] == pytest.approx([pool[key][0] for key in taken])


def test_what_is_said_of_a_video_is_what_its_scores_say(contents: RunContents) -> None:
    video = best_and_worst(contents)[1][0]
    tables = next(split for split in contents.splits if split.name == video.split).tables
    assert list(video.said) == list(tables)
    for row, (name, is_right) in video.said.items():
        scores = tables[row].scores[tables[row].ids.index(video.id)]
        assert name == CLASSES[int(scores.argmax())]
        assert is_right == (name == video.true)
    scores = tables["fused"].scores[tables["fused"].ids.index(video.id)].astype(float)
    probabilities = np.exp(scores) / np.exp(scores).sum()
    assert [guess.probability for guess in video.guesses] == pytest.approx(sorted(probabilities, reverse=True)[:3])
    assert [guess.is_true for guess in video.guesses] == [guess.name == video.true for guess in video.guesses]


# -- strips ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "frames", "flows"),
    [
        pytest.param({}, 6, 6, id="both"),
        pytest.param({"rgb": False}, 0, 6, id="flow"),
        pytest.param({"flow": False}, 6, 0, id="frames"),
        pytest.param({"format": "jpeg", "layout": "tsn", "shard_videos": None}, 6, 6, id="tsn"),
    ],
)
def test_a_strip_has_what_the_store_has(kept: dict[str, Any], frames: int, flows: int, tmp_path: Path) -> None:
    settings = tree("tsn") if "layout" in kept else shards()
    if "layout" not in kept:
        settings = dataclasses.replace(settings, store=StoreSettings(shard_videos=3, **kept))
    specs = [*ucf_specs(1, 1), Spec("v_Biking_g09_c01", num_frames=3)]
    with open_store(write_clip_store(tmp_path / "store", settings, specs)) as store:
        moments = strip_of(store, specs[0].id).moments
        assert sum(moment.frame is not None for moment in moments) == frames
        assert sum(moment.flow is not None for moment in moments) == flows
        # No picture twice: of three frames the last has no flow, and tsn lacks the first.
        assert len(strip_of(store, specs[-1].id).moments) == (3 if not flows else 1 if "layout" in kept else 2)
        assert strip_of(store, "v_Nothing").problem == "This video is not in the store."


def test_a_strip_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    folder = write_clip_store(tmp_path / "store", tree("flowprep"), ucf_specs(1, 1))
    for path in folder.rglob("img_*.jpg"):
        path.write_bytes(b"\xff\xd8 no more")
    with open_store(folder) as store:
        problem = strip_of(store, store.ids[0]).problem
    assert problem is not None
    assert problem.startswith("Its images cannot be read: ")
    assert "not a JPEG" in problem


# -- curves and charts -------------------------------------------------------------------------------------------------


def log_of(rates: Sequence[float]) -> StageContents:
    rows = [
        {"step": k + 1, "epoch": 1, "rate": rate, "loss": 2.0, "loss_spatial": 2.0, "top1": 0.25}
        for k, rate in enumerate(rates)
    ]
    return StageContents(name="spatial", log=tuple(rows), done=None)


def test_error_is_what_is_not_right_and_drops_of_the_rate_are_marked() -> None:
    loss, error = learning_curves(log_of([1e-3] * 10 + [1e-4] * 10 + [1e-5] * 10))
    for figure in (loss, error):
        assert re.findall(r">(rate [^<]+)<", figure) == ["rate 1e-4", "rate 1e-5"]
    assert "spatial, training ends at 2" in loss
    assert "spatial, training ends at 75" in error
    assert "rate" not in "".join(learning_curves(log_of([1e-3] * 5)))
    assert learning_curves(log_of([])) == []


def test_long_lines_are_thinned_to_means_and_smoothing_keeps_a_line(contents: RunContents) -> None:
    straight = [(float(k), 3.0 * k) for k in range(1000)]
    thin = thinned(straight)
    assert len(thin) <= 240
    assert all(y == pytest.approx(3 * x) for x, y in thin)
    smooth = smoothed(straight)
    assert [x for x, _ in smooth] == [x for x, _ in straight]
    assert [y for _, y in smooth[100:900]] == pytest.approx([y for _, y in straight[100:900]])
    noise = [(float(k), float(k % 2)) for k in range(200)]
    assert np.std([y for _, y in smoothed(noise)]) < 0.2 * np.std([y for _, y in noise])
    assert thinned([]) == smoothed([]) == []


def test_points_lie_where_the_axes_say() -> None:
    line = Line(label="a & b", points=[(0, 0), (5, 50), (10, 100)], colour=1)
    figure = line_chart("t", [line], x=Axis(name="x", low=0, high=10), y=Axis(name="y", low=0, high=100), marks=[
        Mark(x=5, text="<here>")])  # fmt: skip
    (path,) = re.findall(r'd="M([^"]+)" class="line c1"/></svg><ul|d="M([^"]+)" class="line c1"', figure)[:1]
    places = [tuple(map(float, place.split())) for place in "".join(path).split("L")]
    (x0, y0), (x1, y1), (x2, y2) = places
    assert (x1, y1) == pytest.approx(((x0 + x2) / 2, (y0 + y2) / 2), abs=0.06)
    assert x2 > x0
    assert y2 < y0  # up is less in SVG
    assert f"M{x1:.1f} " in figure.partition('class="mark"')[0]
    assert "&lt;here&gt;" in figure
    assert "a &amp; b" in figure


def test_the_weight_that_was_used_is_marked_on_the_curve_of_the_sweep(contents: RunContents) -> None:
    split = contents.splits[1]
    streams, towers = sweep_charts(split)
    assert ">used: 0.5<" in streams
    assert "held out" not in streams
    used = split.tables["fused"].origin["weights"][1]
    assert f">used: {used:.3g}<" in towers
    assert used == sweep(split.held_out["spatiotemporal"], split.held_out["temporal"]).weights[1]
    last = sweep(split.tables["spatial"], split.tables["temporal"]).points[-1].top1
    assert f"test list ends at {100 * last:.4g}" in streams
    assert towers.count("<circle") == 21


def test_bars_are_as_long_as_their_values() -> None:
    drawn = bar_chart("t", [Bar(label="a", value=0.25, interval=(0.2, 0.3), reference=0.5), Bar(label="b", value=1.0)],
                      chance=0.1)  # fmt: skip
    assert re.findall(r'width="([\d.]+)" height="12" rx="2" class="bar"', drawn) == ["105", "420"]
    assert "M210.0 19l5 7" in drawn
    assert drawn.count('class="chance"') == 2
    cut = bar_chart("t", [Bar(label="long " * 20, value=0.5)])
    assert f"<title>{'long ' * 20}</title>{'long ' * 9}lo\N{HORIZONTAL ELLIPSIS}<" in cut


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-6, 1e7))
def test_ticks_are_round_few_and_inside(low: float, width: float) -> None:
    high = low + width
    found = ticks(low, high)
    assert len(found) <= 6
    slack = 1e-6 * max(abs(low), abs(high), width)
    assert all(low - slack <= value <= high + slack for value in found)
    steps = [after - before for before, after in itertools.pairwise(found)]
    if width > 1e-3 * abs(low):
        assert found
        for step in steps:
            assert f"{step / 10 ** math.floor(math.log10(step) + 1e-9):.3f}" in ("1.000", "2.000", "5.000", "10.000")


def test_elements_escape_what_is_no_markup() -> None:
    drawn = element("text", "<b>&", element("tspan", "x"), Markup("<i/>"), class_='"quote"', font_size=1.50, dx=None)
    assert drawn == '<text class="&#34;quote&#34;" font-size="1.5">&lt;b&gt;&amp;<tspan>x</tspan><i/></text>'
    assert element("path", d="M0 0") == '<path d="M0 0"/>'
