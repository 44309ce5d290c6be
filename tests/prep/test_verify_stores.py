"""`verify` and `repair` of every kind of store, finished or not, and where it cannot be mended."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.command import store_bytes
from helpers.damage import (
    CUT,
    IDS,
    Change,
    both,
    cheap_settings,
    clip_of,
    edit,
    edit_lines,
    flip,
    flip_at,
    in_blob,
    make_link,
    make_store,
    make_videos,
    remove,
    row_of,
    swap,
    truncate,
    write,
)
from helpers.in_process import be_quick

from flowprep import commit, pipeline
from flowprep.adopt import adopt
from flowprep.config import LAYOUTS, DecodeSettings, FlowSettings, StoreSettings, VerifySettings
from flowprep.errors import MissingDataError, RunStoppedError, SettingsError
from flowprep.stores import open_store
from flowprep.stores.foreign import Facts
from flowprep.stores.layouts import layout_of
from flowprep.verify import Remedy, repair, verify

BROKEN = "v_Archery_g01_c01"
SHARD = "shards/00000.h5"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_videos(tmp_path_factory.mktemp("sources"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    be_quick(monkeypatch)


@pytest.fixture
def tree(videos: Path, tmp_path: Path) -> Path:
    return make_store(tmp_path / "tree", videos, cheap_settings("jpeg"))


@pytest.fixture
def shards(videos: Path, tmp_path: Path) -> Path:
    return make_store(tmp_path / "shards", videos, cheap_settings("hdf5"))


def book_bytes(store: Path, *folders: str) -> dict[str, bytes]:
    """The files in folders of the books."""
    paths = [path for folder in folders for path in (store / ".flowprep" / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(store)): path.read_bytes() for path in paths}


# -- every kind of store -----------------------------------------------------------------------------------------------

KINDS = {
    **{layout: cheap_settings(store=StoreSettings(format="jpeg", layout=layout)) for layout in LAYOUTS},
    "steps-back": cheap_settings(
        store=StoreSettings(format="jpeg", layout="denseflow"), flow=FlowSettings(backend="dis", step=2, backward=True)
    ),
    "no-images": cheap_settings(store=StoreSettings(format="jpeg", rgb=False)),
    "no-flow": cheap_settings(store=StoreSettings(format="jpeg", flow=False)),
    "damaged-kept": cheap_settings("jpeg", decode=DecodeSettings(on_damage="keep-flagged")),
    "shards-back": cheap_settings("hdf5", flow=FlowSettings(backend="dis", backward=True)),
    "shards-no-images": cheap_settings(store=StoreSettings(format="hdf5", shard_videos=3, rgb=False)),
    "shards-no-flow": cheap_settings(store=StoreSettings(format="hdf5", shard_videos=3, flow=False)),
    "shards-damaged-kept": cheap_settings("hdf5", decode=DecodeSettings(on_damage="keep-flagged")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("books", [True, False], ids=["", "without-books"])
def test_every_kind_of_store_is_mended(kind: str, books: bool, videos: Path, tmp_path: Path) -> None:
    settings = KINDS[kind]
    store = make_store(tmp_path / "store", videos, settings)
    pristine, stream = store_bytes(store), settings.streams[-1]
    if not books:
        remove(".flowprep")(store)
    assert verify(store).findings == ()
    if settings.store.format == "jpeg":
        with open_store(store) as opened:
            folder = next(row.location for row in opened.rows if row.id == BROKEN)
        part, name = layout_of(settings).file(stream, 1)
        place = f"{layout_of(settings).folders(folder, settings.streams)[part]}/{name}"
        truncate(place)(store)
    else:
        place = SHARD
        in_blob(SHARD, stream, 0.05)(store)

    (finding, *others) = (each for each in verify(store).findings if each.video)
    assert (finding.path, finding.video, finding.stream, others) == (place, BROKEN, stream, [])
    mended = repair(store, videos=videos)
    assert mended.exit_code == 0, mended.after.findings
    assert mended.redone == (BROKEN,)
    assert store_bytes(store) == pristine
    assert make_store(store, videos, settings) == store  # a run takes it for what it was
    assert store_bytes(store) == pristine


# -- stores whose run has not ended ------------------------------------------------------------------------------------

HALF = ("v_Archery_g01_c01", "v_Archery_g01_c03")
UNFINISHED: dict[str, tuple[str, Change, dict[str, str]]] = {
    "commit's image": ("hdf5", flip(clip_of(HALF[0]), 0.1), {clip_of(HALF[0]): "checksum of the row"}),
    "commit's row": ("hdf5", flip(clip_of(HALF[0]), 0.98), {clip_of(HALF[0]): "cannot be believed"}),
    "commit truncated": ("hdf5", truncate(clip_of(HALF[0])), {clip_of(HALF[0]): "cannot be believed"}),
    "commit empty": ("hdf5", write(clip_of(HALF[0]), b""), {clip_of(HALF[0]): "cannot be believed"}),
    "commit a link": ("hdf5", make_link(clip_of(HALF[0])), {clip_of(HALF[0]): "symbolic link"}),
    "commits swapped": ("hdf5", swap(*map(clip_of, HALF)), dict.fromkeys(map(clip_of, HALF), "is the record of")),
    "row": ("jpeg", flip(row_of(HALF[0])), {row_of(HALF[0]): "cannot be believed"}),
    "image": ("jpeg", flip(f"Archery/{HALF[0]}/img_00001.jpg"), {f"Archery/{HALF[0]}": "checksum of the row"}),
}


@pytest.mark.parametrize("case", UNFINISHED)
def test_a_store_whose_run_has_not_ended_is_mended_and_not_ended(case: str, videos: Path, tmp_path: Path) -> None:
    kind, change, found = UNFINISHED[case]
    settings = cheap_settings(store=StoreSettings(format=kind))
    store = make_store(tmp_path / "store", videos, settings, part="1/2")
    report = verify(store)
    assert (report.findings, report.finished) == ((), False)
    assert "its run has not ended" in report.notes[0]
    pristine = store_bytes(store), book_bytes(store, "commits", "rows")
    change(store)

    findings = {finding.path: finding.text for finding in verify(store).findings}
    assert findings.keys() == found.keys()
    assert all(text in findings[path] for path, text in found.items())
    mended = repair(store, videos=videos)
    assert mended.exit_code == 0, mended.after.findings
    assert len(mended.redone) == len(found)
    assert (store_bytes(store), book_bytes(store, "commits", "rows")) == pristine


def test_a_packed_shard_of_a_store_whose_run_has_not_ended_is_mended(videos: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", videos, cheap_settings("hdf5"), part="1/1")
    assert not (store / "manifest.jsonl").exists()
    pristine = store_bytes(store)
    write(".flowprep/settings.json", b"{")(store)
    both(in_blob(SHARD, "rgb", 0.05), in_blob("shards/00001.h5", "rgb", 0.05))(store)
    # No shard is as it was, so that nothing proves what the settings were.
    assert [finding.remedy for finding in verify(store).findings] == [Remedy.NONE]
    in_blob("shards/00001.h5", "rgb", 0.05)(store)
    assert [finding.remedy for finding in verify(store).findings] == [Remedy.SETTINGS, Remedy.SHARD, Remedy.SHARD]
    mended = repair(store, videos=videos)
    assert (mended.exit_code, mended.redone) == (0, (BROKEN,))
    assert store_bytes(store) == pristine
    remove(".flowprep/packed")(store)
    mended = repair(store, videos=videos)
    assert mended.exit_code == 0
    assert len(mended.redone) == len(IDS)  # that one has failed is recorded nowhere else
    assert store_bytes(store) == pristine


@pytest.mark.parametrize("format", ["jpeg", "hdf5"])
def test_what_a_later_run_has_changed_is_no_damage(format: str, videos: Path, tmp_path: Path) -> None:
    shutil.copytree(videos.parent, tmp_path / "data")
    sources, settings = tmp_path / "data" / "videos", cheap_settings(format)
    store = make_store(tmp_path / "store", sources, settings)
    shutil.copy(tmp_path / "data" / "whole.avi", sources / "Archery" / f"{CUT}.avi")
    make_store(store, sources, settings, part="1/1")
    report = verify(store)
    assert report.findings == ()
    assert "videos have changed since its manifest" in report.notes[0]
    assert make_store(store, sources, settings) == store
    assert verify(store).notes == ()


def test_a_list_that_is_lost_before_the_end_cannot_be_made(videos: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", videos, cheap_settings("jpeg"), part="1/2")
    flip(".flowprep/list.jsonl")(store)
    (finding,) = verify(store).findings
    assert (finding.path, finding.remedy) == (".flowprep/list.jsonl", Remedy.NONE)
    assert "move the file away and run that command again" in finding.text
    mended = repair(store, videos=videos)
    assert (mended.exit_code, mended.aside) == (4, ())


# -- what cannot be mended ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["jpeg", "hdf5"])
@pytest.mark.parametrize("loss", ["missing", "changed"])
def test_a_video_without_its_source_stays_as_it_is(format: str, loss: str, videos: Path, tmp_path: Path) -> None:
    shutil.copytree(videos, tmp_path / "videos")
    source = tmp_path / "videos" / "Archery" / f"{BROKEN}.avi"
    store = make_store(tmp_path / "store", videos, cheap_settings(format))
    pristine = store_bytes(store)
    if format == "jpeg":
        flip(f"Archery/{BROKEN}/img_00002.jpg")(store)
    else:
        in_blob(SHARD, "rgb", 0.05)(store)
    write("stray", b"mine")(store)
    source.unlink() if loss == "missing" else shutil.copy(tmp_path / "videos/Archery/v_Archery_g01_c03.avi", source)
    damaged = store_bytes(store)

    mended = repair(store, videos=tmp_path / "videos")
    assert mended.exit_code == 4
    assert ("cannot be read" if loss == "missing" else "bring that file back") in mended.unmended[0]
    assert BROKEN in mended.unmended[0]
    assert store_bytes(store) == {name: data for name, data in damaged.items() if name != "stray"}
    assert repair(store, videos=videos).redone == (BROKEN,)
    assert store_bytes(store) == pristine


@pytest.mark.parametrize("damage", ["another video", "the end of the file"])
def test_a_lost_video_does_not_keep_its_shard_from_being_mended(damage: str, videos: Path, tmp_path: Path) -> None:
    """The others are made whole; what is lost is named and recorded, and a run brings it back with its source."""
    shutil.copytree(videos.parent, tmp_path / "data")
    sources, settings = tmp_path / "data" / "videos", cheap_settings("hdf5")
    store = make_store(tmp_path / "store", sources, settings)
    pristine = store_bytes(store)
    source = sources / "Archery" / f"{BROKEN}.avi"
    source.rename(tmp_path / "gone.avi")
    in_blob(SHARD, "rgb", 0.05)(store)
    (in_blob(SHARD, "rgb", 0.97) if damage == "another video" else truncate(SHARD, 0.999))(store)

    mended = repair(store, videos=sources)
    assert mended.exit_code == 4
    assert [text for text in mended.unmended if BROKEN in text and "it is lost, and recorded so" in text]
    assert len(mended.unmended) == 1
    assert BROKEN not in mended.redone
    assert (len(mended.redone) > 0) == (damage == "another video")
    assert any(SHARD in place for place, _ in mended.aside), "its remains are kept"
    assert mended.after.findings == ()
    with open_store(store) as opened:
        assert BROKEN not in opened.ids
        assert len(opened.ids) == len(IDS) - 2
        assert all(opened.image(video, "rgb", 0).shape == (24, 32, 3) for video in opened.ids)

    (tmp_path / "gone.avi").rename(source)
    make_store(store, sources, settings)
    assert store_bytes(store) == pristine


def test_without_books_an_unproven_manifest_proves_nothing(tree: Path, videos: Path) -> None:
    remove(".flowprep")(tree)
    edit_lines("manifest.jsonl", lambda lines: [line.replace('"fps":25', '"fps":24') for line in lines])(tree)
    damaged = store_bytes(tree)
    (finding,) = verify(tree).findings
    assert (finding.path, finding.remedy) == ("manifest.jsonl", Remedy.NONE)
    assert "--overwrite" in finding.remedy.value
    mended = repair(tree, videos=videos)
    assert (mended.exit_code, mended.redone) == (4, ())
    assert store_bytes(tree) == damaged


@pytest.mark.parametrize(
    "change", [remove("manifest.jsonl"), truncate("manifest.jsonl", 0.01), write("manifest.jsonl", b"")]
)
def test_without_books_and_manifest_nothing_is_known(change: Change, shards: Path, videos: Path) -> None:
    both(remove(".flowprep"), change)(shards)
    report = verify(shards)
    assert report.exit_code == 4
    assert {finding.path for finding in report.findings} == {"manifest.jsonl"}
    assert repair(shards, videos=videos).exit_code == 4


def test_where_the_videos_are_must_be_known(tree: Path, videos: Path) -> None:
    flip(f"Archery/{BROKEN}/img_00002.jpg")(tree)
    both(remove(".flowprep"))(tree)
    damaged = store_bytes(tree)
    with pytest.raises(MissingDataError, match=f"{BROKEN} must be extracted again and its source is not known"):
        repair(tree)
    with pytest.raises(MissingDataError, match="there is no folder"):
        repair(tree, videos=videos / "none")
    assert store_bytes(tree) == damaged
    assert not (tree / ".flowprep").exists()


def test_wrong_use(tree: Path, videos: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="`videos` are for `deep`"):
        verify(tree, videos=videos)
    with pytest.raises(MissingDataError, match="there is no store"):
        verify(tmp_path / "none")
    (tmp_path / "other").mkdir()
    with pytest.raises(MissingDataError, match="is not a flowprep store"):
        verify(tmp_path / "other")


def test_a_link_in_place_of_the_books_is_not_followed(tree: Path, videos: Path) -> None:
    make_link(".flowprep")(tree)
    outside = book_bytes(tree.parent, "../outside")
    (finding,) = verify(tree).findings
    assert (finding.path, finding.remedy) == (".flowprep", Remedy.BY_HAND)
    assert repair(tree, videos=videos).exit_code == 4
    assert book_bytes(tree.parent, "../outside") == outside


# -- what a repair leaves ----------------------------------------------------------------------------------------------


def test_what_is_moved_keeps_its_bytes_and_its_place(tree: Path, videos: Path) -> None:
    note, image = f"Archery/{BROKEN}/notes.txt", f"Archery/{BROKEN}/img_00002.jpg"
    both(write(note, b"mine"), write("own/notes.txt", b"mine too"), write(image, b"bad"), flip("splits.json"))(tree)
    bad = (tree / "splits.json").read_bytes()
    mended = repair(tree, videos=videos)
    assert mended.exit_code == 0
    moved = dict(mended.aside)
    assert (tree / moved[note]).read_bytes() == b"mine"
    assert (tree / moved["own"] / "notes.txt").read_bytes() == b"mine too"
    assert (tree / moved[f"Archery/{BROKEN}"] / "img_00002.jpg").read_bytes() == b"bad"
    assert (tree / moved["splits.json"]).read_bytes() == bad
    flip(f"Archery/{BROKEN}/img_00001.jpg")(tree)
    assert repair(tree, videos=videos).exit_code == 0
    make_store(tree, videos, cheap_settings("jpeg"))
    assert all((tree / place).exists() for place in moved.values())


def test_what_lies_behind_a_link_is_left_alone(tree: Path, videos: Path) -> None:
    make_link("Archery")(tree)
    outside = tree.with_name("outside")
    before = store_bytes(outside)
    assert repair(tree, videos=videos).exit_code == 0
    assert store_bytes(outside) == before


class Dying:
    """In place of `commit.rename`: raises instead of its call of a number."""

    def __init__(self, number: int) -> None:
        self.number, self.num_calls, self.real = number, 0, commit.rename

    def __call__(self, source: Path, target: Path) -> None:
        self.num_calls += 1
        if self.num_calls == self.number:
            raise KeyboardInterrupt
        self.real(source, target)


@pytest.mark.parametrize("format", ["jpeg", "hdf5"])
def test_a_repair_that_dies_anywhere_is_ended_by_another(
    format: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_store(tmp_path / "made", videos, cheap_settings(format))
    pristine, died = store_bytes(made), []
    image = flip(f"Archery/{BROKEN}/img_00002.jpg") if format == "jpeg" else in_blob(SHARD, "rgb", 0.05)
    for number in range(1, 30, 3):
        store = tmp_path / str(number)
        shutil.copytree(made, store)
        both(flip("splits.json"), flip(".flowprep/settings.json"), write("stray", b"x"), image)(store)
        with monkeypatch.context() as patch:
            patch.setattr(commit, "rename", Dying(number))
            try:
                repair(store, videos=videos)
            except (KeyboardInterrupt, RunStoppedError):
                died.append(number)
        if died[-1:] == [number]:
            assert repair(store, videos=videos).exit_code == 0
        assert store_bytes(store) == pristine
    assert 4 <= len(died) < 10


def test_other_bytes_than_before_are_said(tree: Path, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(f"Archery/{BROKEN}/img_00002.jpg")(tree)
    real = pipeline.encode_plane
    monkeypatch.setattr(pipeline, "encode_plane", lambda plane, settings: real(plane ^ 1, settings))
    mended = repair(tree, videos=videos)
    assert mended.exit_code == 0
    assert mended.notes == (f"{BROKEN} has other bytes than before, since another build has made them",)


def test_a_video_that_fails_now_is_not_mended(tree: Path, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(f"Archery/{BROKEN}/img_00002.jpg")(tree)
    monkeypatch.setattr(pipeline, "encode_plane", lambda *_: 1 / 0)
    mended = repair(tree, videos=videos)
    assert mended.exit_code == 4
    assert "could not be extracted again: internal: ZeroDivisionError" in mended.unmended[0]
    flip_at(tree / "splits.json", 0)
    assert verify(tree).exit_code == 4


# -- trees of other tools ----------------------------------------------------------------------------------------------


def test_of_a_tree_of_another_tool_only_the_books_are_mended(videos: Path, tmp_path: Path) -> None:
    settings = cheap_settings(store=StoreSettings(format="jpeg", layout="denseflow"))
    tree = make_store(tmp_path / "tree", videos, settings)
    both(remove(".flowprep"), *(remove(path.name) for path in tree.iterdir() if path.is_file()))(tree)
    both(write("notes.txt", b"mine"), write(f"Archery/{BROKEN}/notes.txt", b"mine"))(tree)
    adopt(tree, Facts(layout="denseflow", bound_px=20, rounding="round"), trust_rounding=True)
    pristine = store_bytes(tree)
    assert verify(tree, settings=VerifySettings(deep=True)).findings == ()
    report = verify(tree, videos=videos, settings=VerifySettings(deep=True))
    assert "another tool has made it" in report.notes[-1]

    both(flip("splits.json"), remove(".flowprep/settings.json"), remove(".flowprep/rows"))(tree)
    assert repair(tree, videos=videos).exit_code == 0
    assert store_bytes(tree) == pristine
    remove(".flowprep")(tree)
    assert verify(tree).exit_code == 0
    flip(f"Archery/{BROKEN}/img_00002.jpg")(tree)
    damaged = store_bytes(tree)
    assert [finding.remedy for finding in verify(tree).findings] == [Remedy.ADOPT]
    assert repair(tree, videos=videos).exit_code == 4
    assert store_bytes(tree) == damaged


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "change", "is_proven"),
    [
        ("jpeg", flip("manifest.jsonl", 0.01), True),  # with its header right the manifest would have its checksum
        ("jpeg", both(flip("manifest.jsonl", 0.01), flip("manifest.jsonl", 0.5)), True),
        ("jpeg", both(edit("manifest.jsonl", '"quality":95', '"quality":96'), flip("manifest.jsonl", 0.9)), True),
        (  # a store of before settings had a checksum
            "jpeg",
            both(
                edit_lines(".flowprep/settings.json", lambda lines: lines[:1]),
                edit("manifest.jsonl", '"quality":95', '"quality":96'),
                flip("manifest.jsonl", 0.9),
            ),
            False,
        ),
        ("jpeg", both(edit(".flowprep/settings.json", '"quality":95', '"quality":96'), flip("manifest.jsonl")), False),
        ("hdf5", both(edit(".flowprep/settings.json", '"quality":95', '"quality":96'), flip("manifest.jsonl")), True),
        (
            "hdf5",
            both(
                edit(".flowprep/settings.json", '"quality":95', '"quality":96'),
                flip("manifest.jsonl"),
                in_blob(SHARD, "rgb", 0.05),
            ),
            True,
        ),
    ],
)
def test_settings_are_believed_that_two_say_or_a_checksum_proves(
    format: str, change: Change, is_proven: bool, videos: Path, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "store", videos, cheap_settings(format))
    pristine = store_bytes(store)
    change(store)
    mended = repair(store, videos=videos)
    if is_proven:
        assert mended.exit_code == 0
        assert store_bytes(store) == pristine
    else:
        assert mended.exit_code == 4
        assert mended.before.findings[0].remedy is Remedy.NONE
        assert mended.aside == ()


def test_a_line_of_the_manifest_that_no_record_confirms_is_not_called_right(shards: Path) -> None:
    both(remove(".flowprep/packed/00001.jsonl"), flip("manifest.jsonl", 0.95))(shards)
    report = verify(shards)
    assert {finding.path for finding in report.findings} == {"manifest.jsonl", ".flowprep/packed/00001.jsonl"}
    assert report.states == {"ok": 3, "lost": 3}
    assert report.notes == ()
