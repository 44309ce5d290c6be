"""The page about a run: its figures are those of the run, it is one well-formed file, and it tells what is missing."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.html_page import Page
from helpers.run_folder import write_log, write_run, write_stage
from helpers.training import RUNTIME, SMALL, StoppedError, write_store

from flowprep.colour import flow_to_rgb
from flowprep.errors import MissingDataError, StoreError
from flowprep.stores import Store, open_store
from fusion_train.ablation_table import Ablation, AblationRow, AblationRun, PaperFigures
from fusion_train.report import write_report
from fusion_train.reporting.contents import read_run
from fusion_train.reporting.strips import strip_of
from fusion_train.run import RunResult, run
from fusion_train.scores import ScoreTable

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></script><b>",
    "Rock & Roll &amp; &lt;b&gt;",
    "{{ 7 * 7 }}{% raw %}",
)
GROUPS = ("train.val=groups", "train.val_share=0.4", "train.batch_size=2", "train.videos_at_once=2")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(write_store(tmp_path_factory.mktemp("reports") / "ucf101" / "flow", num_splits=2))


@pytest.fixture(scope="module")
def finished(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    """A run of both splits with held-out groups, in which all was trained."""
    out = tmp_path_factory.mktemp("finished") / "run"
    sets = [*SMALL, *GROUPS]
    return out, run(
        store, preset="debug", splits=("1", "2"), out=out, sets=sets, runtime=RUNTIME, say=lambda stage, row: None
    )


@pytest.fixture(scope="module")
def page(finished: tuple[Path, RunResult]) -> Page:
    out = finished[0] / "report.html"
    assert write_report(finished[0], out).notes == ()
    return Page(out)


def report(folder: Path, data: Path | None = None) -> tuple[Page, tuple[str, ...]]:
    """The page of a run and what is said about it; every page is checked."""
    written = write_report(folder, folder / "page.html", data=data)
    page = Page(folder / "page.html")
    page.check()
    return page, written.notes


def test_the_page_of_a_real_run_is_well_formed_and_has_all_sections(page: Page) -> None:
    page.check()
    sections = [attributes["id"] for attributes in page.all("section")]
    assert sections == ["results", "curves", "confusion", "classes", "weights", "videos", "settings"]
    assert [attributes["href"] for attributes in page.all("a")] == [f"#{section}" for section in sections]


def test_the_page_forbids_itself_to_load_anything(page: Page) -> None:
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:")
    assert "script-src 'sha256-" in policy


def test_figures_are_those_of_the_table(finished: tuple[Path, RunResult], page: Page) -> None:
    for row, *cells in finished[1].table()[1:]:
        assert " ".join([row, *(cell for cell in cells[:-1] if cell)]) in page.text


def test_provenance_is_that_of_the_files(finished: tuple[Path, RunResult], page: Page, store: Store) -> None:
    for path in finished[0].rglob("done.json"):
        done = json.loads(path.read_text())
        for text in (done["network_sha256"], done["manifest_sha256"], f"torch {done['versions']['torch']}"):
            assert text in page.text
    assert str(store.path) in page.text
    assert "Held out: whole groups of the training list" in page.text
    assert "Set otherwise than in the preset" in page.text
    assert "train.val groups groups groups" in page.text


def test_the_same_run_gives_the_same_bytes(finished: tuple[Path, RunResult], page: Page, tmp_path: Path) -> None:
    write_report(finished[0], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page.source


def test_frames_and_flow_are_those_of_the_store(store: Store, page: Page) -> None:
    video = store.ids[0]
    strip = strip_of(store, video)
    assert [moment.caption for moment in strip.moments] == [f"{k / 25:.2f} s" for k in (0, 6, 11, 17, 22, 28)]
    assert strip.max_px is not None
    for moment, index in zip(strip.moments, (0, 6, 11, 17, 22, 28), strict=True):
        expected = store.image(video, "rgb", index), flow_to_rgb(store.flow_px(video, index), max_px=strip.max_px)
        for address, picture in zip((moment.frame, moment.flow), expected, strict=True):
            assert address is not None
            found = decoded(address)
            assert found.shape == picture.shape
            np.testing.assert_allclose(found.astype(int), picture, atol=6)
    shown = [image["src"] for image in page.all("img")]
    assert (
        len(shown) == 1 + 2 * 6 * 4 * 2
    )  # the wheel; frame and flow at six times of two videos a class, best and worst
    assert {moment.frame for moment in strip_of(store, video_of(page)).moments} <= set(shown)


def decoded(address: str) -> np.ndarray[Any, Any]:
    """RGB of a `data:` address."""
    head, _, data = address.partition(",")
    assert head == "data:image/jpeg;base64"
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def video_of(page: Page) -> str:
    """The first video of the page."""
    return next(text for tag, text in page.texts if tag == "small" and text.startswith("v_")).partition(",")[0]


def test_texts_of_others_are_texts(tmp_path: Path) -> None:
    ids = [f"{name}/{k}" for name in HOSTILE for k in range(4)]
    page, _ = report(write_run(tmp_path / "<i>run", HOSTILE, ids=ids, data=Path("/<u>data</u>")))
    titles = [text for tag, text in page.texts if tag == "title"]
    for name in HOSTILE:
        assert name in page.text
        assert any(title.endswith(f": {name}") for title in titles)  # of a cell of the matrix
    assert any(video in page.text for video in ids)
    assert "<i>run: split 1" in page.text
    assert "/<u>data</u>" in page.text
    assert not {"i", "u"} & {tag for tag, _ in page.elements}
    assert {text for tag, text in page.texts if tag == "b"} <= set(HOSTILE)  # what a network says


def test_without_its_store_a_page_says_how_to_name_it(
    store: Store, finished: tuple[Path, RunResult], tmp_path: Path
) -> None:
    moved = shutil.copytree(store.path, tmp_path / "moved")
    folder = shutil.copytree(finished[0], tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "data": "/gone/flow"}))
    page, notes = report(folder)
    assert notes == ("Frames and flow are missing, since the store is not at /gone/flow: name it with --data STORE.",)
    assert notes[0] in page.text
    assert page.all("img") == []
    page, notes = report(folder, data=moved)
    assert notes == ()
    assert len(page.all("img")) > 10
    with pytest.raises(MissingDataError, match="nowhere"):
        report(folder, data=tmp_path / "nowhere")


def test_a_store_that_has_changed_is_said(store: Store, finished: tuple[Path, RunResult], tmp_path: Path) -> None:
    other = write_store(tmp_path / "other", num_groups=5)
    page, notes = report(finished[0], data=other)
    assert notes == (f"The store {other} is not as it was when the networks were trained; its videos may be others.",)
    assert notes[0] in page.text


def test_a_run_that_was_stopped_gives_what_is_there(store: Store, tmp_path: Path) -> None:
    def stop(stage: str, row: Mapping[str, Any] | None) -> None:
        if stage == "train temporal" and row is not None and row["step"] == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(store, preset="debug", splits=["1", "2"], out=tmp_path, sets=SMALL, runtime=RUNTIME, say=stop)
    page, notes = report(tmp_path)
    states = "spatial network trained, temporal network in training: epoch 1, step 2, fused network not begun"
    assert notes == (f"Split 1: {states}; evaluated: nothing.", "Split 2: not begun.")
    assert all(note in page.text for note in notes)
    assert "Nothing has been evaluated yet." in page.text
    assert sum("network:" in text for tag, text in page.texts if tag == "figcaption") == 4


def test_rows_that_are_there_are_shown_before_the_others(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ("a", "b", "c"), splits=("1", "2"))
    for path in (folder / "split_2").rglob("*.npz"):
        if path.name not in ("test_spatial.npz", "test_temporal.npz"):
            path.unlink()
    page, notes = report(folder)
    assert "evaluated: spatial, temporal, late fusion." in notes[0]
    assert "split 1 split 2 mean deviation paper" in page.text
    assert "its share of the row. Point at a cell for its numbers. Split 1." in page.text
    tables = [ScoreTable.load(folder / f"split_2/{stream}/test_{stream}.npz") for stream in ("spatial", "temporal")]
    late = float(((tables[0].scores + tables[1].scores).argmax(1) == tables[0].labels).mean())
    (row,) = [line for line in page.text.split("late fusion ") if line.startswith(tuple("0123456789"))][:1]
    assert row.split()[1] == f"{100 * late:.2f}"


def test_videos_that_were_left_out_are_counted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ("a", "b"))
    assert "too short" not in report(folder)[0].text
    for name in ("spatial/test_spatial", "temporal/test_temporal"):
        path = folder / "split_1" / f"{name}.npz"
        table = ScoreTable.load(path)
        dataclasses.replace(table, origin={**table.origin, "skipped": ["v_short", "v_shorter"]}).save(path)
    assert "Split 1: 2 test videos are too short for a clip and in no figure." in report(folder)[0].text


def test_the_papers_figures_stand_beside(tmp_path: Path) -> None:
    page, _ = report(write_run(tmp_path / "run", ("a", "b"), preset="ucf101-vgg16", validation="none"))
    assert "92.50 (mean of 3 splits, table 5)" in page.text
    assert "in the paper 92.50 %" in page.text
    assert "Nothing was held out: fixed rates" in page.text


def test_old_runs_without_a_record_have_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ("a", "b"))
    (folder / "run.json").unlink()
    page, notes = report(folder)
    assert "the run does not say where its store is" in notes[0]
    assert "not recorded" in page.text
    (folder / "table.json").write_text(json.dumps({"preset": "hmdb51-vggm"}))
    assert "Two-stream fusion: hmdb51-vggm" in report(folder)[0].text


def test_logs_without_error_and_held_out_loss_have_the_curves_that_they_can(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ("a", "b"))
    path = folder / "split_1" / "spatial" / "log.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [{name: value for name, value in row.items() if name != "top1" and "val_loss" not in name} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    labels = [svg["aria-label"] or "" for svg in report(folder)[0].all("svg") if svg.get("role") == "img"]
    (loss,) = [label for label in labels if label.startswith("Spatial network: loss")]
    (error,) = [label for label in labels if label.startswith("Spatial network: error")]
    assert "training ends at" in loss
    assert "held out" not in loss
    assert "held out ends at 30" in error
    assert "training" not in error


def test_means_of_other_scores_than_lie_beside_them_are_said(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ("a", "b"))
    split = folder / "split_1"
    assert read_run(folder).warnings() == ()

    # The spatial stream was trained and evaluated anew, and the run stopped before the fused network.
    done, scores = split / "spatial" / "done.json", split / "spatial" / "test_spatial.npz"
    marks = {stage: json.loads((split / stage / "done.json").read_text()) for stage in ("spatial", "temporal", "fused")}
    done.write_text(json.dumps({**marks["spatial"], "network_sha256": "0" * 64}))
    table = ScoreTable.load(scores)
    dataclasses.replace(table, origin={"checkpoint_sha256": "0" * 64}).save(scores)
    sums = [marks[stage]["network_sha256"] for stage in ("spatial", "temporal")]
    (split / "fused" / "done.json").write_text(json.dumps({**marks["fused"], "starts_from": sums}))
    assert read_run(folder).warnings() == (
        "Split 1: the scores of late fusion are not of the network that lies beside them.",
        "Split 1: the fused network was not trained from the streams that lie beside it.",
    )

    # The same networks, evaluated on other clips, and no mean since.
    done.write_text(json.dumps(marks["spatial"]))
    dataclasses.replace(table, origin={**table.origin, "data": {"num_test_clips": 3}}).save(scores)
    path = split / "fused" / "test_temporal.npz"
    tower = ScoreTable.load(path)
    dataclasses.replace(tower, origin={**tower.origin, "data": {"num_test_clips": 3}}).save(path)
    assert read_run(folder).warnings() == (
        "Split 1: late fusion is not of the scores that lie beside it; enter `fusion-train run` again.",
        "Split 1: fused is not of the scores that lie beside it; enter `fusion-train run` again.",
    )


def test_what_lies_together_and_does_not_belong_together_is_said(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ("a", "b"))
    path = folder / "split_1" / "temporal" / "done.json"
    done = json.loads(path.read_text())
    path.write_text(json.dumps({**done, "network_sha256": "0" * 64, "manifest_sha256": "1" * 64}))
    page, notes = report(folder)
    assert "Split 1: the scores of temporal are not of the network that lies beside them." in notes
    assert "Split 1: its networks were trained on different states of the store." in notes
    assert "Not all of this belongs together." in page.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("split_1/spatial/done.json", b"{}", r"spatial/done.json is damaged; delete its folder"),
        ("split_1/fused.npz", b"PK", r"fused.npz is damaged or no score table"),
        ("run.json", b"{", r"run.json is damaged; delete it"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    folder = write_run(tmp_path / "run", ("a", "b"))
    (folder / name).write_bytes(content)
    with pytest.raises(StoreError, match=message):
        report(folder)
    assert not (folder / "page.html").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        MissingDataError, match=r"is not the folder of a run; give what `fusion-train run` has as --out"
    ):
        report(tmp_path)


def test_a_log_that_was_cut_and_a_network_without_one_have_pages(tmp_path: Path) -> None:
    write_log(tmp_path / "split_1" / "spatial", num_steps=40)
    with (tmp_path / "split_1" / "spatial" / "log.jsonl").open("a") as file:
        file.write('{"step": 50, "lo')
    write_stage(tmp_path / "split_1" / "temporal", "debug", "temporal", towers=("temporal",))
    (tmp_path / "split_1" / "temporal" / "log.jsonl").unlink()
    page, _ = report(tmp_path)
    assert "spatial network in training: epoch 4, step 40, temporal network trained" in page.text


def test_a_hundred_classes_make_a_page_that_can_be_mailed(tmp_path: Path) -> None:
    classes = [f"SomewhatLongClassName{k:03d}" for k in range(101)]
    page, _ = report(write_run(tmp_path / "run", classes, num_a_class=10))
    assert len(page.source) < 4_000_000  # and less than 1 MB of frames and flow
    assert len([svg for svg in page.all("svg") if svg.get("class") == "heat"]) == 6


def write_ablation(folder: Path) -> None:
    """Rows of two tables: measured with two seeds, with one, not yet, and others' work."""

    def row(table: int, method: str, state: str, *top1: float) -> AblationRow:
        return AblationRow(
            table=table,
            name=f"{table}-{method}",
            cells={"method": method, "layer": "ReLU5", "note": ""},
            state=state,
            paper=PaperFigures(top1=0.8519 if method == "Sum" else None, of="split 1"),
            splits=("1",),
            seeds=tuple(range(len(top1))),
            runs=tuple(
                AblationRun(split="1", seed=seed, num_videos=8, top1=value, top5=1.0, mean_class=value)
                for seed, value in enumerate(top1)
            ),
        )

    ablation = Ablation(
        dataset="ucf101",
        paper_dataset="ucf101",
        manifest_sha256="0" * 64,
        preset=None,
        sets=(),
        titles={1: "Fusion <methods>", 2: "Where"},
        rows=(row(1, "Sum", "done", 0.48, 0.52), row(1, "<Max>", "done", 0.75), row(1, "Conv", "open"),
              row(2, "cited", "cited")),
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ablation.json").write_text(json.dumps(ablation.to_json()))


def test_ablations_are_bars_with_the_papers_figures(tmp_path: Path) -> None:
    write_ablation(write_run(tmp_path / "run", ("a", "b")))
    page, _ = report(tmp_path / "run")
    assert "#ablations" in [attributes["href"] for attributes in page.all("a")]
    (chart,) = [svg["aria-label"] for svg in page.all("svg") if "Table" in (svg.get("aria-label") or "")]
    assert chart == "Table 1: Fusion <methods>: Sum, ReLU5 50.00 %; <Max>, ReLU5 75.00 %"
    note = "Top-1 accuracy. Whisker: one deviation of the seeds. Diamond: the paper. Not measured yet: 1."
    assert note in page.text


def test_ablations_alone_have_a_page(tmp_path: Path) -> None:
    write_ablation(tmp_path)
    page, notes = report(tmp_path)
    assert notes == ()
    assert [attributes["id"] for attributes in page.all("section")] == ["ablations"]
    (tmp_path / "ablation.json").write_text('{"kind": "other", "format": 1}')
    with pytest.raises(StoreError, match=r"is no ablation of format 1; run `fusion-train ablate` with another --out"):
        report(tmp_path)
    (tmp_path / "ablation.json").write_text("[]")
    with pytest.raises(
        StoreError, match=r"ablation.json is damaged .*; delete it, `fusion-train ablate` makes it anew"
    ):
        report(tmp_path)
