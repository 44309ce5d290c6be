"""Cases 33 to 44: bad lists, names of any kind, and settings or folders that do not go together."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from helpers.command import flowprep, manifest, store_bytes
from helpers.in_process import be_quick
from helpers.media import moving_frames, write_video

import flowprep as flowprep_package
from flowprep import commit
from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings, RunSettings, StoreSettings
from flowprep.errors import SettingsError
from flowprep.resume import settings_path

CHEAP = ("--backend", "dis", "--keep-size", "--jobs", "1", "--durability", "fast")
SETTINGS = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None))
ONE = RunSettings(jobs=1, durability="fast")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", moving_frames(4, 32, 32))


def place(clip: Path, folder: Path, *names: str) -> Path:
    """Copies of the clip under these names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, folder / name)
    return folder


def listed(tmp_path: Path, text: str | bytes, videos: Path, *options: str, expect: int) -> tuple[str, list[Any]]:
    """What the command says of a list, and the rows of the store."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    (tmp_path / "list.csv").write_bytes(data)
    places = ("--dataset", "list", "--videos", videos, "--splits", tmp_path / "list.csv", "--out", tmp_path / "out")
    result = flowprep("extract", *places, *CHEAP, *options, expect=expect)
    return result.stderr, manifest(tmp_path / "out")[1] if expect < 2 else []


def test_case_33_and_34_missing_files_and_repeated_lines(clip: Path, tmp_path: Path) -> None:
    text = "a.avi\ngone.avi\na.avi\n./a.avi\nb.avi\n"
    said, rows = listed(tmp_path, text, place(clip, tmp_path / "videos", "a.avi", "b.avi"), "--json", expect=1)
    assert [(row["path"], row["state"], [reason["code"] for reason in row["reasons"]]) for row in rows] == [
        ("a.avi", "ok", []),
        ("gone.avi", "failed", ["missing"]),
        ("b.avi", "ok", []),
    ]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["num_duplicates"] == 2
    assert "2" in said


BAD = ("../../x", "/etc/x", "a/../../b", "a\0b", '""')


def test_case_35_paths_that_leave_the_folder(clip: Path, tmp_path: Path) -> None:
    videos = place(clip, tmp_path / "videos", "a.avi")
    text = "path,label\na.avi,0\n" + "".join(f"{path},0\n" for path in BAD)
    said, _ = listed(tmp_path, text, videos, expect=2)
    assert ": 3-7;" in said
    assert not (tmp_path / "out").exists()
    _, rows = listed(tmp_path, text, videos, "--skip-bad-lines", expect=1)
    assert [row["state"] for row in rows] == ["ok"] + ["failed"] * len(BAD)
    assert {row["reasons"][0]["code"] for row in rows[1:]} == {"name"}


NAMES = (
    "-x.avi",
    "a b.avi",
    'it\'s "q".avi',
    "line\nbreak.avi",
    "$(id).avi",
    "a;b.avi",
    "http:__host_x.avi",
    "concat:a.avi|b.avi",
    "\u00e9t\u00e9 \U0001f600.avi",
    os.fsdecode(b"\xff\xfe.avi"),
    "a.avi",
    "a.b.avi",
    "a.mp4",
    "A.avi",
    unicodedata.normalize("NFC", "\u00fc.avi"),
    unicodedata.normalize("NFD", "\u00fc.avi"),
    "x" * 251 + ".avi",
    "/".join(["d" * 200] * 18) + "/deep.avi",
)


@pytest.fixture(scope="module", params=["hdf5", "jpeg"])
def named(
    request: pytest.FixtureRequest, clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, dict[str, Any]]]:
    """The store of a run over one clip under all of these names, and its rows."""
    folder = tmp_path_factory.mktemp("named")
    os.chdir(folder)  # a relative folder, as a path of nearly 4096 bytes leaves no room for more
    try:
        for name in NAMES:
            (Path("v") / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, Path("v") / name)
        arguments = ("--dataset", "folder", "--videos", "v", "--out", "out", "--format", request.param)
        flowprep("extract", *arguments, *CHEAP, cwd=folder)
        flowprep("verify", folder / "out", "--deep")
    finally:
        os.chdir(Path(__file__).parent)
    return folder / "out", {row["path"]: row for row in manifest(folder / "out")[1]}


def test_case_36_and_37_names_are_kept_to_the_byte(named: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    out, rows = named
    assert sorted(map(os.fsencode, rows)) == sorted(map(os.fsencode, NAMES))
    assert {row["state"] for row in rows.values()} == {"ok"}
    assert (out / "manifest.jsonl").read_bytes().isascii() or json.loads(
        (out / "manifest.jsonl").read_bytes().splitlines()[1]
    )


def test_case_38_names_that_other_tools_confuse_are_videos_of_their_own(
    named: tuple[Path, dict[str, dict[str, Any]]],
) -> None:
    out, rows = named
    folded = {unicodedata.normalize("NFC", row["id"]).casefold() for row in rows.values()}
    assert len(folded) == len(NAMES)
    if "folder" in rows["a.avi"]:
        folders = [row["folder"] for row in rows.values()]
        assert len({unicodedata.normalize("NFC", folder).casefold() for folder in folders}) == len(NAMES)
        assert all((out / folder).is_dir() for folder in folders)
    with flowprep_package.open_store(out) as store:
        assert len({bytes(store.jpeg(row["id"], "rgb", 0)) for row in rows.values()}) == 1


def test_case_39_long_names_and_paths(
    named: tuple[Path, dict[str, dict[str, Any]]], clip: Path, tmp_path: Path
) -> None:
    _, rows = named
    long, deep = NAMES[-2:]
    assert rows[long]["id"] == "x" * 251
    assert rows[deep]["id"].endswith("deep")
    if "folder" in rows[long]:
        assert all(len(part.encode()) <= 255 for row in rows.values() for part in Path(row["folder"]).parts)
    text = f"a.avi\n{'y' * 300}.avi\n{'d/' * 2500}x.avi\n"
    _, found = listed(tmp_path, text, place(clip, tmp_path / "videos", "a.avi"), expect=1)
    assert [[reason["code"] for reason in row["reasons"]] for row in found] == [
        [],
        ["name_too_long"],
        ["name_too_long"],
    ]


@pytest.mark.parametrize("text", ["", "\ufeff\n# a comment\n", "path,label\n"])
def test_case_40_nothing_to_do(clip: Path, tmp_path: Path, text: str) -> None:
    said, _ = listed(tmp_path, text, place(clip, tmp_path / "videos", "a.avi"), expect=2)
    assert "names no video: nothing to do" in said


def test_case_41_line_ends_marks_comments_and_columns(clip: Path, tmp_path: Path) -> None:
    videos = place(clip, tmp_path / "videos", "a.avi", "b c.avi")
    _, rows = listed(tmp_path, "\ufeffpath,label\r\n# note\r\n\r\na.avi,0 \r\nb c.avi , 1\r\n  \r\n", videos, expect=0)
    assert [(row["path"], row["label"]) for row in rows] == [("a.avi", 0), ("b c.avi", 1)]
    said, _ = listed(tmp_path, "a.avi,0\nb c.avi\n", videos, expect=2)
    assert "line 2: expected 2 columns as in the first line, got 1" in said


@pytest.fixture
def store(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished store of two videos of the folder beside it."""
    be_quick(monkeypatch)
    extract(place(clip, tmp_path / "videos", "a.avi", "b.avi"), tmp_path / "out")
    return tmp_path / "out"


def extract(videos: Path, out: Path, settings: ExtractSettings = SETTINGS, **options: Any) -> Any:
    return flowprep_package.extract("folder", videos=videos, out=out, settings=settings, run=ONE, **options)


@pytest.mark.parametrize(
    ("section", "change", "named"),
    [
        ("quantise", {"bound_px": 15.0}, "bound_px: 20.0 there, 15.0 asked for"),
        ("resize", {"width": 16, "height": 16, "short_side": None}, "width"),
        ("jpeg", {"quality": 90}, "quality: 95 there, 90 asked for"),
    ],
)
def test_case_42_other_settings_are_refused_by_name(
    store: Path, section: str, change: dict[str, Any], named: str
) -> None:
    before, data = store_bytes(store), SETTINGS.to_json()
    settings = ExtractSettings.from_json({**data, section: {**data[section], **change}})
    with pytest.raises(
        SettingsError, match=rf"other settings \(.*{named}.*use the same, another --out, or --overwrite"
    ):
        extract(store.parent / "videos", store, settings)
    assert store_bytes(store) == before


def test_case_42_another_version_of_an_algorithm_is_refused(store: Path) -> None:
    """What an older build has begun, whose stage gave other bytes."""
    path = settings_path(store)
    data = json.loads(path.read_text().splitlines()[0])
    data["algorithms"]["flow"] -= 1
    path.write_text(json.dumps(data))
    with pytest.raises(SettingsError, match=r"algorithms\.flow: 1 there, 2 asked for"):
        extract(store.parent / "videos", store)


@pytest.mark.parametrize("format", ["hdf5", "jpeg"])
def test_case_43_a_changed_source_is_done_again(
    format: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the new outcome is published the old one is there; the neighbour's bytes stay as they are."""
    be_quick(monkeypatch)
    settings = ExtractSettings(
        flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None), store=StoreSettings(format=format)
    )
    videos, out = place(clip, tmp_path / "videos", "a.avi", "b.avi"), tmp_path / "out"
    extract(videos, out, settings)
    write_video(videos / "a.avi", moving_frames(5, 32, 32, seed=1))
    begun: list[bytes] = []
    real = commit.new_staging

    def new_staging(root: Path, name: str, attempt: str) -> Path:
        if not begun:  # later, until the manifest is new, a store says that it is being changed
            with flowprep_package.open_store(out) as store:
                begun.append(bytes(store.jpeg("a", "rgb", 0)))
        return real(root, name, attempt)

    with monkeypatch.context() as patch:
        patch.setattr(commit, "new_staging", new_staging)
        summary = extract(videos, out, settings)
    assert (summary.num_done_now, summary.states) == (1, {"ok": 2})
    assert len(begun) > 0
    with flowprep_package.open_store(out) as store:
        assert store.clip("a").num_frames == 5
        assert begun[0] != bytes(store.jpeg("a", "rgb", 0))
    extract(videos, tmp_path / "whole", settings)
    assert store_bytes(out) == store_bytes(tmp_path / "whole")


def test_case_43_a_touched_source_is_not(store: Path) -> None:
    os.utime(store.parent / "videos" / "a.avi", (1, 1))
    assert extract(store.parent / "videos", store).num_done_now == 0


def test_case_44_places_of_a_store(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = place(clip, tmp_path / "videos", "a.avi")
    for out in (videos, videos / "out", tmp_path):
        with pytest.raises(SettingsError, match="give another --out"):
            extract(videos, out)
    assert sorted(path.name for path in videos.iterdir()) == ["a.avi"]
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be written"):
        extract(videos, tmp_path / "file" / "out")
    be_quick(monkeypatch)

    def read_only(path: Path) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(commit, "make_folder", read_only)
    with pytest.raises(SettingsError, match="cannot be written: Read-only file system; give another --out"):
        extract(videos, tmp_path / "out")
