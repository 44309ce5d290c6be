"""Cases 71 to 73, a damaged store: `verify` names what is wrong, `repair` brings every byte back and redoes no more."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.command import store_bytes
from helpers.damage import (
    CUT,
    IDS,
    Change,
    both,
    cheap_settings,
    edit,
    edit_lines,
    flip,
    flip_at,
    in_array,
    in_blob,
    make_folder,
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

from flowprep import journal
from flowprep.config import JpegSettings
from flowprep.errors import StoreError
from flowprep.resume import encode_settings
from flowprep.verify import Remedy, repair, verify

BROKEN, OTHER = "v_Archery_g01_c01", "v_Biking_g01_c02"
FOLDER, OTHER_FOLDER = f"Archery/{BROKEN}", f"Biking/{OTHER}"
IMAGE, FLOW = f"{FOLDER}/img_00002.jpg", f"{FOLDER}/flow_x_00003.jpg"
STORED = frozenset(IDS) - {CUT}


@dataclass(frozen=True)
class Damage:
    """A change of a store, a part of each finding's text by its path, and the videos that must be done again.

    `stream` is that of all findings; `besides` are beginnings of other paths that may be named too.
    """

    name: str
    change: Change
    found: dict[str, str]
    redone: Collection[str] = ()
    stream: str | None = None
    besides: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


SHARD, OTHER_SHARD = "shards/00000.h5", "shards/00001.h5"
IN_SHARD = {
    SHARD: ("v_Archery_g01_c01", "v_Archery_g01_c03", "v_Biking_g01_c02"),
    OTHER_SHARD: ("v_Biking_g01_c01", "v_Biking_g01_c03"),
}
PACKED, OTHER_PACKED = ".flowprep/packed/00000.jsonl", ".flowprep/packed/00001.jsonl"

OF_ANY_STORE = [
    Damage("settings flipped", flip(".flowprep/settings.json", 0.0), {".flowprep/settings.json": "no settings"}),
    Damage("settings truncated", truncate(".flowprep/settings.json"), {".flowprep/settings.json": "no settings"}),
    Damage("settings missing", remove(".flowprep/settings.json"), {".flowprep/settings.json": "is not there"}),
    Damage(
        "settings altered",
        edit(".flowprep/settings.json", '"quality":95', '"quality":94'),
        {".flowprep/settings.json": "its checksum is not that of its settings"},
    ),
    Damage(
        "settings of another store",
        write(".flowprep/settings.json", encode_settings(cheap_settings("jpeg", jpeg=JpegSettings(quality=94)))),
        {".flowprep/settings.json": "other settings"},
    ),
    Damage(
        "settings without checksum",
        edit_lines(".flowprep/settings.json", lambda lines: [lines[0].replace('"quality":95', '"quality":94')]),
        {".flowprep/settings.json": "other settings"},
    ),
    Damage("settings a link", make_link(".flowprep/settings.json"), {".flowprep/settings.json": "symbolic link"}),
    Damage("list flipped", flip(".flowprep/list.jsonl"), {".flowprep/list.jsonl": "checksum"}),
    Damage("list truncated", truncate(".flowprep/list.jsonl"), {".flowprep/list.jsonl": "checksum"}),
    Damage("list missing", remove(".flowprep/list.jsonl"), {".flowprep/list.jsonl": "is not there"}),
    Damage(
        "settings and list missing",
        both(remove(".flowprep/settings.json"), remove(".flowprep/list.jsonl")),
        {".flowprep/list.jsonl": "is not there", ".flowprep/settings.json": "is not there"},
    ),
    Damage("manifest flipped", flip("manifest.jsonl"), {"manifest.jsonl": "is not the row of"}),
    Damage("header flipped", flip("manifest.jsonl", 0.01), {"manifest.jsonl": "line 1 is not the header"}),
    Damage("manifest truncated", truncate("manifest.jsonl"), {"manifest.jsonl": "no line of this video"}),
    Damage("manifest empty", write("manifest.jsonl", b""), {"manifest.jsonl": "line 1 is not the header"}),
    Damage("manifest garbage", write("manifest.jsonl", b"\xff\x00[" * 99), {"manifest.jsonl": "line 1 is not the"}),
    Damage("manifest missing", remove("manifest.jsonl"), {"manifest.jsonl": "is not there"}),
    Damage("manifest a link", make_link("manifest.jsonl"), {"manifest.jsonl": "symbolic link"}),
    Damage("manifest a folder", make_folder("manifest.jsonl"), {"manifest.jsonl": "is not a regular file"}),
    Damage(
        "line missing",
        edit_lines("manifest.jsonl", lambda lines: lines[:2] + lines[3:]),
        {"manifest.jsonl": "no line of this video"},
    ),
    Damage(
        "line doubled",
        edit_lines("manifest.jsonl", lambda lines: lines[:3] + lines[2:]),
        {"manifest.jsonl": "lines 3 and 4 are of one video"},
    ),
    Damage(
        "lines swapped",
        edit_lines("manifest.jsonl", lambda lines: [lines[0], lines[2], lines[1], *lines[3:]]),
        {"manifest.jsonl": "line 3 is not at its place"},
    ),
    Damage(
        "line of another",
        edit_lines("manifest.jsonl", lambda lines: [*lines, lines[1].replace("c01", "c09")]),
        {"manifest.jsonl": "not in the list"},
    ),
    Damage(
        "figure altered",
        edit_lines("manifest.jsonl", lambda lines: [lines[0], lines[1].replace('"fps":25', '"fps":24'), *lines[2:]]),
        {"manifest.jsonl": "line 2 is not the row of its video: fps differ"},
    ),
    Damage("splits flipped", flip("splits.json"), {"splits.json": "checksum"}),
    Damage("splits truncated", truncate("splits.json"), {"splits.json": "checksum"}),
    Damage("splits missing", remove("splits.json"), {"splits.json": "is not there"}),
    Damage("sums flipped", flip("SHA256SUMS", 0.1), {"SHA256SUMS": ""}),
    Damage("sums truncated", truncate("SHA256SUMS"), {"SHA256SUMS": "is not a checksum"}),
    Damage("sums missing", remove("SHA256SUMS"), {"SHA256SUMS": "is not there"}),
    Damage("sums empty", write("SHA256SUMS", b""), {"SHA256SUMS": "has no lines"}),
    Damage(
        "sum missing",
        edit_lines("SHA256SUMS", lambda lines: lines[:1] + lines[2:]),
        {"SHA256SUMS": "has no line of splits.json"},
    ),
    Damage(
        "sum added",
        edit_lines("SHA256SUMS", lambda lines: [*lines, f"{'0' * 64}  ../../etc/passwd\n"]),
        {"SHA256SUMS": "a line of ../../etc/passwd"},
    ),
    Damage(
        "sums of manifest and splits swapped",
        edit_lines(
            "SHA256SUMS",
            lambda lines: [a[:64] + b[64:] for a, b in zip([lines[1], lines[0], *lines[2:]], lines, strict=True)],
        ),
        {"SHA256SUMS": "another checksum"},
    ),
    Damage("run.json flipped", flip("run.json", 0.0), {"run.json": "is not a JSON object"}),
    Damage("run.json missing", remove("run.json"), {"run.json": "is not there"}),
    Damage("stray file", write("notes.txt", b"mine"), {"notes.txt": "belongs to nothing"}),
    Damage("stray folder", write("Archery2/img_00001.jpg", b"x"), {"Archery2": "belongs to nothing"}),
    Damage("stray in books", write(".flowprep/x", b"x"), {".flowprep/x": "belongs to nothing"}),
    Damage(
        "stray record",
        write(f".flowprep/rows/ab/ab{'0' * 62}.json", b"x"),
        {f".flowprep/rows/ab/ab{'0' * 62}.json": "belongs to nothing"},
    ),
    Damage("dangling link", lambda store: (store / "gone").symlink_to("nowhere"), {"gone": "symbolic link"}),
    Damage("books missing", remove(".flowprep"), {}),
]

OF_TREES = [
    Damage("image flipped", flip(IMAGE), {FOLDER: "checksum of the row"}, [BROKEN], "rgb"),
    Damage("flow flipped", flip(FLOW), {FOLDER: "checksum of the row"}, [BROKEN], "flow_x"),
    Damage("image's header flipped", flip(IMAGE, 0.0), {IMAGE: "does not begin as"}, [BROKEN], "rgb"),
    Damage("image truncated", truncate(IMAGE), {IMAGE: "ends before its image does"}, [BROKEN], "rgb"),
    Damage("image empty", write(IMAGE, b""), {IMAGE: "is empty"}, [BROKEN], "rgb"),
    Damage("image garbage", write(IMAGE, b"garbage"), {IMAGE: "does not begin as"}, [BROKEN]),
    Damage("image missing", remove(IMAGE), {IMAGE: "is not there"}, [BROKEN], "rgb"),
    Damage("image a link", make_link(IMAGE), {IMAGE: "symbolic link"}, [BROKEN], "rgb"),
    Damage("image a folder", make_folder(IMAGE), {IMAGE: "not a regular file"}, [BROKEN], "rgb"),
    Damage("images swapped", swap(IMAGE, f"{FOLDER}/img_00003.jpg"), {FOLDER: "checksum of the row"}, [BROKEN], "rgb"),
    Damage("flow for image", swap(IMAGE, FLOW), {IMAGE: "1 channels", FLOW: "3 channels"}, [BROKEN]),
    Damage("image added", write(f"{FOLDER}/img_00099.jpg", b"x"), {f"{FOLDER}/img_00099.jpg": "none of the images"}),
    Damage("folder missing", remove(FOLDER), {FOLDER: "is not there"}, [BROKEN]),
    Damage(
        "folder empty",
        both(remove(FOLDER), lambda store: (store / FOLDER).mkdir()),
        {IMAGE: "is not there"},
        [BROKEN],
        besides=(FOLDER,),
    ),
    Damage("folder a link", make_link(FOLDER), {FOLDER: "symbolic link"}, [BROKEN]),
    Damage("folder a file", both(remove(FOLDER), write(FOLDER, b"x")), {FOLDER: "not a folder"}, [BROKEN]),
    Damage(
        "folder in another class",
        lambda s: (s / FOLDER).rename(s / f"Biking/{BROKEN}"),
        {FOLDER: "is not there", f"Biking/{BROKEN}": "belongs to nothing"},
        [BROKEN],
    ),
    Damage("folders swapped", swap(FOLDER, OTHER_FOLDER), {FOLDER: "", OTHER_FOLDER: ""}, [BROKEN, OTHER]),
    Damage(
        "class a link",
        make_link("Archery"),
        {"Archery": "symbolic link", FOLDER: "lies behind"},
        ["v_Archery_g01_c01", "v_Archery_g01_c03"],
        besides=("Archery/",),
    ),
    Damage("row flipped", flip(row_of(BROKEN)), {row_of(BROKEN): "cannot be believed"}),
    Damage("row truncated", truncate(row_of(BROKEN)), {row_of(BROKEN): "cannot be believed"}),
    Damage("row missing", remove(row_of(BROKEN)), {row_of(BROKEN): "is not there"}),
    Damage("row a link", make_link(row_of(BROKEN)), {row_of(BROKEN): "symbolic link"}),
    Damage(
        "rows swapped",
        swap(row_of(BROKEN), row_of(OTHER)),
        {row_of(BROKEN): "the record of 'v_B", row_of(OTHER): "the record of 'v_A"},
    ),
    Damage("row of a failed video missing", remove(row_of(CUT)), {row_of(CUT): "is not there"}),
    Damage("all rows missing", remove(".flowprep/rows"), {row_of(video): "is not there" for video in IDS}),
    Damage(
        "rows a link", make_link(".flowprep/rows"), {".flowprep/rows": "symbolic link"}, besides=(".flowprep/rows/",)
    ),
    Damage(
        "row and image",
        both(flip(row_of(BROKEN)), flip(IMAGE)),
        {row_of(BROKEN): "believed", FOLDER: "checksum"},
        [BROKEN],
    ),
    Damage(
        "row and times",
        both(remove(row_of(BROKEN)), flip("timing.h5")),
        {row_of(BROKEN): "not there", "timing.h5": "checksum"},
    ),
    Damage(
        "row and manifest",
        both(remove(row_of(BROKEN)), flip("manifest.jsonl")),
        {row_of(BROKEN): "not there", "manifest.jsonl": ""},
        [BROKEN],
    ),
    Damage("timing flipped", flip("timing.h5", 0.95), {"timing.h5": "checksum"}),
    Damage("timing truncated", truncate("timing.h5"), {"timing.h5": "checksum"}),
    Damage("timing missing", remove("timing.h5"), {"timing.h5": "is not there"}),
    Damage(
        "books missing and image", both(remove(".flowprep"), flip(IMAGE)), {FOLDER: "checksum of the row"}, [BROKEN]
    ),
    Damage(
        "books, times and image",
        both(remove(".flowprep"), flip(IMAGE), remove("timing.h5")),
        {FOLDER: "checksum", "timing.h5": "not there"},
        [BROKEN],
    ),
]


OF_SHARDS = [
    Damage("image flipped", in_blob(SHARD, "rgb", 0.05), {SHARD: "checksum of the row"}, [BROKEN], "rgb"),
    Damage(
        "last image flipped", in_blob(SHARD, "rgb", 0.97), {SHARD: "checksum of the row"}, IN_SHARD[SHARD][-1:], "rgb"
    ),
    Damage("flow flipped", in_blob(SHARD, "flow_y", 0.05), {SHARD: "checksum of the row"}, [BROKEN], "flow_y"),
    Damage("offset flipped", in_array(SHARD, "rgb", 2), {SHARD: "checksum that the record"}),
    Damage("time flipped", in_array(SHARD, "pts_seconds", 2), {SHARD: "checksum that the record"}),
    Damage(
        "time and image flipped",
        both(in_array(SHARD, "pts_seconds", 2), in_blob(SHARD, "rgb", 0.97)),
        {SHARD: "checksum of"},
        IN_SHARD[SHARD][-1:],
    ),
    Damage("signature flipped", flip(SHARD, 0.0), {SHARD: "checksum that the record"}),
    Damage("index flipped", lambda store: flip_at(store / SHARD, 300), {SHARD: "checksum that the record"}),
    Damage("truncated at the end", truncate(SHARD, 0.999), {SHARD: "bytes instead of"}),
    Damage("truncated", truncate(SHARD, 0.5), {SHARD: "bytes instead of"}, None),
    Damage(
        "extended",
        lambda store: write(SHARD, (store / SHARD).read_bytes() + b"more")(store),
        {SHARD: "bytes instead of"},
    ),
    Damage("empty", write(SHARD, b""), {SHARD: "has 0 bytes"}, IN_SHARD[SHARD]),
    Damage("garbage", write(SHARD, b"garbage" * 99), {SHARD: "has 693 bytes"}, IN_SHARD[SHARD]),
    Damage("missing", remove(SHARD), {SHARD: "is not there"}, IN_SHARD[SHARD]),
    Damage("a link", make_link(SHARD), {SHARD: "symbolic link"}, IN_SHARD[SHARD]),
    Damage("a folder", make_folder(SHARD), {SHARD: "not a regular file"}, IN_SHARD[SHARD]),
    Damage("swapped", swap(SHARD, OTHER_SHARD), {SHARD: "instead of", OTHER_SHARD: "instead of"}, []),
    Damage("shards missing", remove("shards"), {SHARD: "is not there", OTHER_SHARD: "is not there"}, STORED),
    Damage(
        "shards a link",
        make_link("shards"),
        {SHARD: "lies behind", "shards": "symbolic link"},
        STORED,
        besides=("shards/",),
    ),
    Damage("stray shard", write("shards/00002.h5", b"x"), {"shards/00002.h5": "belongs to nothing"}),
    Damage("rows flipped", flip(PACKED), {PACKED: "cannot be believed"}),
    Damage("rows' header flipped", flip(PACKED, 0.0), {PACKED: "cannot be believed"}),
    Damage("rows truncated", truncate(PACKED), {PACKED: "cannot be believed"}),
    Damage("rows missing", remove(PACKED), {PACKED: "are not there"}),
    Damage("rows a link", make_link(PACKED), {PACKED: "symbolic link"}),
    Damage("rows swapped", swap(PACKED, OTHER_PACKED), {PACKED: "of another shard", OTHER_PACKED: "of another shard"}),
    Damage(
        "rows and image",
        both(flip(PACKED), in_blob(SHARD, "rgb", 0.05)),
        {PACKED: "believed", SHARD: "checksum"},
        [BROKEN],
    ),
    Damage(
        "rows and manifest",
        both(flip(PACKED), flip("manifest.jsonl", 0.01)),
        {PACKED: "believed", "manifest.jsonl": ""},
        [*IN_SHARD[SHARD]],
    ),
    Damage(
        "rows of no shard",
        write(".flowprep/packed/00009.jsonl", b"x"),
        {".flowprep/packed/00009.jsonl": "belongs to nothing"},
    ),
    Damage(
        "torn next rows",
        write(".flowprep/packed/00000.next.jsonl", b"x"),
        {".flowprep/packed/00000.next.jsonl": "believed"},
    ),
    Damage(
        "torn commit",
        write(f".flowprep/commits/ab/ab{'0' * 62}.clip", b"x"),
        {f".flowprep/commits/ab/ab{'0' * 62}.clip": "belongs"},
    ),
    Damage(
        "books missing and image",
        both(remove(".flowprep"), in_blob(SHARD, "rgb", 0.05)),
        {SHARD: "checksum of the row"},
        [BROKEN],
    ),
]

CASES = [
    *(("jpeg", damage) for damage in (*OF_ANY_STORE, *OF_TREES)),
    *(("hdf5", damage) for damage in (*OF_ANY_STORE, *OF_SHARDS)),
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_videos(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def stores(videos: Path) -> dict[str, Path]:
    with pytest.MonkeyPatch.context() as patch:
        be_quick(patch)
        return {name: make_store(videos.parent / name, videos, cheap_settings(name)) for name in ("jpeg", "hdf5")}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    be_quick(monkeypatch)


def files_of(store: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of each file of a store, without its books."""
    return {
        str(path.relative_to(store)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in store.rglob("*")
        if path.is_file() and ".flowprep" not in path.parts
    }


def redone_in(store: Path) -> set[str]:
    """The videos that the journals say were extracted since the store was made."""
    events = [event for path in journal.journals(store) for event in journal.read_journal(path)]
    starts = [number for number, event in enumerate(events) if event["event"] == "start"]
    first = 0 if len(starts) == 1 else starts[1]
    return {event["id"] for event in events[first:] if event["event"] == "video"}


@pytest.mark.parametrize(("format", "damage"), CASES, ids=lambda value: str(value).replace(" ", "-"))
def test_case_71_72_73_damage_is_named_and_mended(
    format: str, damage: Damage, videos: Path, stores: dict[str, Path], tmp_path: Path
) -> None:
    pristine, store = store_bytes(stores[format]), tmp_path / "store"
    shutil.copytree(stores[format], store)
    damage.change(store)
    changed = {} if format == "hdf5" else files_of(store)

    report = verify(store)
    assert report.exit_code == (4 if damage.found else 0)
    for path, text in damage.found.items():
        assert any(finding.path == path and text in finding.text for finding in report.findings), (
            f"{path}: {text} is not among {[str(finding) for finding in report.findings]}"
        )
    if damage.stream is not None:
        assert {finding.stream for finding in report.findings} - {""} == {damage.stream}
    for finding in report.findings:
        assert finding.path in damage.found or finding.path.startswith(damage.besides), str(finding)

    mended = repair(store, videos=videos)
    assert mended.exit_code == 0, (mended.unmended, [str(finding) for finding in mended.after.findings])
    assert store_bytes(store) == pristine
    if damage.redone is not None:
        assert sorted(mended.redone) == sorted(damage.redone)
    assert len(mended.before.findings) == len(report.findings)
    now = files_of(store)
    for path, version in changed.items():
        if path.endswith(".jpg") and path in pristine and not any(video in path for video in mended.redone):
            assert now[path] == version, f"{path} was written again"


@pytest.mark.parametrize("format", ["jpeg", "hdf5"])
def test_case_73_of_several_damages_none_is_mended_wrongly(
    format: str, videos: Path, stores: dict[str, Path], tmp_path: Path
) -> None:
    table = [*OF_ANY_STORE, *(OF_TREES if format == "jpeg" else OF_SHARDS)]
    rng, pristine, num_mended = random.Random(format), store_bytes(stores[format]), 0
    for number in range(12):
        store, damages = tmp_path / str(number) / "store", rng.sample(table, 2)
        shutil.copytree(stores[format], store)
        with contextlib.suppress(OSError, StoreError, AssertionError):  # the one has taken what the other changes
            for damage in damages:
                damage.change(store)
        mended = repair(store, videos=videos)
        if mended.exit_code == 0:
            assert store_bytes(store) == pristine or "had: that was damaged too" in str(mended.notes), damages
            num_mended += 1
        else:
            left = mended.after.findings
            assert all(finding.remedy in (Remedy.NONE, Remedy.BY_HAND) for finding in left), (damages, left)
    assert num_mended >= 6
