"""Converting: every form into every other one, to the byte; what is refused; and what happens when something breaks."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contracts.store import failed_row, jpeg, make_listing, published, staged, without_flushes, write_store

from flowprep import commit, resume
from flowprep.config import LAYOUTS, ExtractSettings, FlowSettings, RunSettings, StoreSettings
from flowprep.convert import convert
from flowprep.driver import Driver
from flowprep.errors import (
    DatasetError,
    MissingDataError,
    RunStoppedError,
    SettingsError,
    StoreError,
    UnfinishedStoreError,
)
from flowprep.interruption import Interruption
from flowprep.publisher import open_publisher
from flowprep.records import Listing, Row, State, Video
from flowprep.stores import open_store
from flowprep.stores.finish import finish
from flowprep.stores.savedlist import SavedList, read_list
from flowprep.summary import Summary

ONE = RunSettings(jobs=2, durability="fast")
FORMS = {"shards": StoreSettings(shard_videos=2)} | {
    layout: StoreSettings(format="jpeg", layout=layout, shard_videos=2) for layout in LAYOUTS
}


@pytest.fixture(autouse=True)
def _no_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_flushes(monkeypatch)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the same videos in every form, one of them failed, made by the publishing of a run."""
    folder = tmp_path_factory.mktemp("forms")
    with pytest.MonkeyPatch.context() as patch:
        without_flushes(patch)
        for name, store in FORMS.items():
            write_store(folder / name, ExtractSettings(store=store), failing={1})
    return folder


def to(source: Path, out: Path, form: str, **others: Any) -> Summary:
    store = FORMS[form]
    return convert(source, out, format=store.format, layout=store.layout, run=ONE, **others)


@pytest.mark.parametrize(("source", "target"), [*itertools.product(FORMS, FORMS)])
def test_every_form_becomes_every_other_one_to_the_byte(stores: Path, tmp_path: Path, source: str, target: str) -> None:
    if source == "tsn" != target:
        with pytest.raises(SettingsError, match=r"layout tsn, which leaves out the first image .* give --videos"):
            to(stores / source, tmp_path / "out", target)
        assert not (tmp_path / "out").exists()
        return
    summary = to(stores / source, tmp_path / "out", target)
    assert (summary.states, summary.exit_code) == ({"ok": 4, "failed": 1}, 1)
    found = published(tmp_path / "out")
    del found["run.json"]
    assert found == published(stores / target)
    assert staged(tmp_path / "out") == []


@pytest.mark.parametrize("store", [{"rgb": False}, {"flow": False}], ids=str)
def test_stores_of_one_kind(tmp_path: Path, store: dict[str, bool]) -> None:
    for name in ("shards", "tsn"):
        form = StoreSettings(format=FORMS[name].format, layout=FORMS[name].layout, **store)
        write_store(tmp_path / name, ExtractSettings(store=form))
    to(tmp_path / "shards", tmp_path / "out", "tsn")
    expected = published(tmp_path / "tsn")
    assert {name: data for name, data in published(tmp_path / "out").items() if name != "run.json"} == expected
    if store == {"rgb": False}:  # without images none is missing
        to(tmp_path / "tsn", tmp_path / "back", "shards")
        assert published(tmp_path / "back")["shards/00000.h5"] == published(tmp_path / "shards")["shards/00000.h5"]


def test_steps_and_backward_flow_are_renumbered_or_refused(tmp_path: Path) -> None:
    flow = FlowSettings(step=2, backward=True)
    write_store(tmp_path / "shards", ExtractSettings(flow=flow, store=FORMS["shards"]))
    write_store(tmp_path / "denseflow", ExtractSettings(flow=flow, store=FORMS["denseflow"]))
    to(tmp_path / "shards", tmp_path / "tree", "denseflow")
    to(tmp_path / "tree", tmp_path / "again", "shards")
    found = published(tmp_path / "tree")
    assert "class0/v_a_g01/flow_x_p2_00000.jpg" in found
    assert found["class0/v_a_g01/flow_x_m2_00002.jpg"] == jpeg(make_listing().videos[0], "back_x", 0)
    assert found == published(tmp_path / "denseflow") | {"run.json": found["run.json"]}
    assert published(tmp_path / "again")["shards/00001.h5"] == published(tmp_path / "shards")["shards/00001.h5"]
    for layout in ("mmaction2", "tsn", "feichtenhofer"):
        with pytest.raises(SettingsError, match=f"layout {layout} has no names for step 2"):
            to(tmp_path / "shards", tmp_path / "no", layout)


def begun(out: Path, store: StoreSettings, listing: Listing | None = None, **others: Any) -> Path:
    """A store with the list and settings that a run records."""
    settings = ExtractSettings(store=store)
    listing = write_store(out, settings, listing, **others)
    resume.begin(out, settings, SavedList(listing=listing, videos=Path("/videos")), checked=None)
    return out


def test_the_list_goes_along(tmp_path: Path) -> None:
    source = begun(tmp_path / "a", FORMS["flowprep"])
    to(source, tmp_path / "b", "shards")
    assert read_list(tmp_path / "b") == read_list(source)
    (source / ".flowprep" / "list.jsonl").unlink()
    shutil.rmtree(tmp_path / "b")
    to(source, tmp_path / "b", "shards")
    saved = read_list(tmp_path / "b")
    assert (saved.videos, saved.listing) == (None, make_listing())


def test_a_second_run_does_nothing(stores: Path, tmp_path: Path) -> None:
    to(stores / "flowprep", tmp_path / "out", "shards")
    before = published(tmp_path / "out")
    summary = to(stores / "flowprep", tmp_path / "out", "shards")
    assert (summary.num_done_now, summary.states) == (0, {"ok": 4, "failed": 1})
    after = published(tmp_path / "out")
    assert {k: v for k, v in after.items() if k != "run.json"} == {k: v for k, v in before.items() if k != "run.json"}


@pytest.mark.parametrize("target", ["shards", "feichtenhofer"])
def test_a_run_that_was_killed_anywhere_is_resumed(
    stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    out, real = tmp_path / "out", commit.rename
    num_kills = 0

    def rename(a: Path, b: Path, left: Iterator[int]) -> None:
        if next(left, None) is None:
            os._exit(9)
        real(a, b)

    for num_renames in itertools.count(6, 3):
        child = os.fork()
        if child == 0:
            monkeypatch.setattr(commit, "rename", functools.partial(rename, left=iter(range(num_renames))))
            to(stores / "flowprep", out, target)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            break
        num_kills += 1
    assert num_kills >= 2
    summary = to(stores / "flowprep", out, target)
    assert summary.num_done_now == 0
    assert not any((out / ".flowprep" / "aside").glob("*"))
    assert published(out) == published(stores / target) | {"run.json": published(out)["run.json"]}


def test_a_full_disk_stops_it_and_it_goes_on_later(
    stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(range(12))
    real = commit.write

    def write(fd: int, data: bytes | memoryview) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(commit, "write", write)
        with pytest.raises(RunStoppedError, match="is full"):
            to(stores / "flowprep", tmp_path / "out", "shards")
    to(stores / "flowprep", tmp_path / "out", "shards")
    found = published(tmp_path / "out")
    assert found == published(stores / "shards") | {"run.json": found["run.json"]}


def test_an_interruption_keeps_what_is_done(stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interruption = Interruption()
    interruption.stop.set()
    summary = to(stores / "flowprep", tmp_path / "out", "shards", interruption=interruption)
    assert (summary.interrupted, summary.exit_code, summary.states) == (True, 3, {"pending": 5})
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def damaged(path: Path, how: str) -> str:
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
        return "cannot be read"
    if how == "cut":
        path.write_bytes(data[:-30])
        return "the file is cut"
    if how == "empty":
        path.write_bytes(b"")
        return "the file is empty"
    path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    return "has another SHA-256"


@pytest.mark.parametrize("how", ["missing", "cut", "empty", "flipped"])
def test_a_damaged_jpeg_fails_its_video_by_name_and_no_other(stores: Path, tmp_path: Path, how: str) -> None:
    source = tmp_path / "source"
    shutil.copytree(stores / "flowprep", source, symlinks=True)
    path = source / "class0/v_a_g01/flow_y_00002.jpg"
    message = damaged(path, how)
    summary = to(source, tmp_path / "out", "shards")
    assert (summary.states, summary.exit_code) == ({"ok": 3, "failed": 2}, 1)
    row = next(row for row in summary.failed if row.id == "v_a_g01")
    assert row.reasons[0].code == "damaged"
    assert message in row.reasons[0].detail
    assert ("flow_y_00002.jpg" if how != "flipped" else "flow_y of 'v_a_g01'") in row.reasons[0].detail
    with open_store(tmp_path / "out") as store:
        assert list(store.ids) == ["v_c_\udcff\udcfe", "v_d_é漢", "v_e_g05"]
    shutil.copy(stores / "flowprep/class0/v_a_g01/flow_y_00002.jpg", path)
    assert to(source, tmp_path / "out", "shards").num_done_now == 1
    found = published(tmp_path / "out")
    assert found == published(stores / "shards") | {"run.json": found["run.json"]}


def test_a_damaged_shard_costs_its_videos(stores: Path, tmp_path: Path) -> None:
    shutil.copytree(stores / "shards", tmp_path / "source")
    path = tmp_path / "source/shards/00001.h5"
    path.write_bytes(path.read_bytes()[:-100])
    summary = to(tmp_path / "source", tmp_path / "out", "flowprep")
    assert summary.states == {"ok": 2, "failed": 3}
    assert {row.reasons[-1].code for row in summary.failed if row.id != "v_b g'02"} == {"damaged"}


def test_a_video_that_has_changed_in_the_source_is_converted_again(tmp_path: Path) -> None:
    settings = ExtractSettings(store=FORMS["flowprep"])
    listing = write_store(tmp_path / "a", settings, failing={1})
    to(tmp_path / "a", tmp_path / "b", "tsn")
    shutil.rmtree(tmp_path / "a")
    write_store(tmp_path / "a", settings)
    summary = to(tmp_path / "a", tmp_path / "b", "tsn")
    assert (summary.num_done_now, summary.states) == (1, {"ok": 5})
    with open_store(tmp_path / "b") as store:
        assert bytes(store.jpeg(listing.videos[1].id, "rgb", 0)) == jpeg(listing.videos[1], "rgb", 1)


def test_other_targets_are_refused(stores: Path, tmp_path: Path) -> None:
    source, out = stores / "flowprep", tmp_path / "out"
    to(source, out, "shards")
    with pytest.raises(SettingsError, match=r"other settings \(store.format: hdf5 there, jpeg .*, or another OUT$"):
        to(source, out, "denseflow")
    write_store(tmp_path / "other", ExtractSettings(store=FORMS["flowprep"]), make_listing(2))
    with pytest.raises(
        SettingsError, match=r"the list has changed.*; a list may only grow at its end: give another OUT$"
    ):
        to(tmp_path / "other", out, "shards")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(SettingsError, match="not a flowprep store and not empty"):
        to(source, tmp_path / "mine", "shards")
    for place in (source, source / "x", source.parent):
        with pytest.raises(SettingsError, match="must not lie in one another"):
            to(source, place, "shards")


def test_sources_that_are_no_finished_stores_are_refused(stores: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="there is no store"):
        to(tmp_path / "nothing", tmp_path / "out", "shards")
    source = begun(tmp_path / "source", FORMS["flowprep"])
    with Driver(source, None), pytest.raises(UnfinishedStoreError, match="is being made by process"):
        to(source, tmp_path / "out", "shards")
    grown = SavedList(listing=make_listing(6), videos=None)
    commit.write_lines(source / ".flowprep" / "list.jsonl", resume.list_lines(grown))
    with pytest.raises(UnfinishedStoreError, match=r"is not of its list, 6 videos; .*again to finish it"):
        to(source, tmp_path / "out", "shards")
    (source / "manifest.jsonl").unlink()
    with pytest.raises(StoreError, match=r"has lost its manifest.jsonl; `flowprep verify` says") as lost:
        to(source, tmp_path / "out", "shards")
    assert lost.value.exit_code == 4
    (source / "SHA256SUMS").unlink()
    with pytest.raises(UnfinishedStoreError, match=r"has no manifest.jsonl: its run has not ended"):
        to(source, tmp_path / "out", "shards")
    listing = make_listing(2)
    rows = [failed_row(listing.videos[0]), Row.unstored(listing.videos[1], State.PENDING)]
    open_publisher(tmp_path / "pending", ExtractSettings())
    finish(tmp_path / "pending", ExtractSettings(), listing, rows)
    with pytest.raises(UnfinishedStoreError, match=r"lacks the outcome of 1 video;"):
        to(tmp_path / "pending", tmp_path / "out", "shards")
    assert not (tmp_path / "out").exists()


def test_equal_stems_are_refused_for_feichtenhofer_before_any_work(tmp_path: Path) -> None:
    videos = tuple(
        Video(id=f"{name}/x", path=f"{name}/x.avi", class_name=name, label=k) for k, name in enumerate(("a", "b"))
    )
    listing = Listing(dataset="folder", videos=videos, classes=("a", "b"))
    write_store(tmp_path / "source", ExtractSettings(store=FORMS["shards"]), listing)
    with pytest.raises(DatasetError, match="'a/x' and 'b/x' into one folder, 'x'"):
        to(tmp_path / "source", tmp_path / "out", "feichtenhofer")
    assert not (tmp_path / "out").exists()


def test_number_of_videos_in_a_shard_can_be_changed(stores: Path, tmp_path: Path) -> None:
    convert(stores / "shards", tmp_path / "one", format="hdf5", shard_videos=10, run=ONE)
    write_store(tmp_path / "expected", ExtractSettings(store=StoreSettings(shard_videos=10)), failing={1})
    found = published(tmp_path / "one")
    assert found == published(tmp_path / "expected") | {"run.json": found["run.json"]}
