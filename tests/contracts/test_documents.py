"""What README.md and docs/formats.md show is what stores hold; their Python runs, their links lead somewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.media import moving_frames, write_video

import flowprep
from flowprep.config import LAYOUTS, ExtractSettings, FlowSettings, ResizeSettings, RunSettings
from flowprep.records import Row, State
from flowprep.stores.layouts import Layout
from flowprep.stores.manifest import row_line
from flowprep.stores.places import CHECKSUMS, MANIFEST, SPLITS, TIMING

ROOT = Path(__file__).resolve().parents[2]
FORMATS = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
VIDEO = "v_Basketball_g01_c01"
NUM_FRAMES = 19


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store that the examples name, of shards with one video."""
    folder = tmp_path_factory.mktemp("documents")
    videos = folder / "data" / "ucf101" / "videos" / "Basketball"
    videos.mkdir(parents=True)
    write_video(videos / f"{VIDEO}.avi", moving_frames(NUM_FRAMES, 64, 48))
    settings = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None))
    data = folder / "data" / "ucf101"
    flowprep.extract("ucf101", videos=data / "videos", out=data / "flow", settings=settings, run=RunSettings(jobs=1))
    return folder


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return Path("data/ucf101/flow")


def run_example(text: str) -> dict[str, Any]:
    """The names that the only Python block of a document defines."""
    names: dict[str, Any] = {}
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(block, "example", "exec"), names)
    return names


def section(title: str) -> str:
    return FORMATS.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> Iterator[str]:
    """The code spans in the first column of the tables."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield from re.findall(r"`([^`]+)`", line.split("|")[1])


def test_example_without_flowprep_gives_the_same_flow(inside: Path) -> None:
    found = run_example(FORMATS)
    with flowprep.open_store(inside) as store:
        expected = store.flow_px(VIDEO, 7)
    assert found["codes"].dtype == np.uint8
    np.testing.assert_allclose(found["flow_px"], expected, atol=1e-5)
    assert np.ptp(expected) > 1


def test_keys_of_the_manifest_are_documented(inside: Path) -> None:
    _, line = (inside / MANIFEST).read_text(encoding="ascii").splitlines()
    keys = set(json.loads(line)) | {f"decoder.{key}" for key in json.loads(line)["decoder"]}
    assert set(first_cells(section("manifest.jsonl"))) == keys | {"folder"}


def test_documented_line_is_a_row() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", section("manifest.jsonl"), re.DOTALL)
    line = block.replace("\n", "")
    row = Row.from_json(json.loads(line.replace('"shard":', '"location":')))
    assert row.state is State.OK
    assert row_line(row, ExtractSettings()) == line


def test_members_of_a_shard_are_documented(inside: Path) -> None:
    with h5py.File(inside / "shards/00000.h5") as shard:
        members = set(shard.attrs)
        shard.visit(members.add)
    documented = {
        name.replace("<stream>", stream).lstrip("/")
        for name in first_cells(section("HDF5 shards, format 1"))
        for stream in ("rgb", "flow_x", "flow_y")
    }
    assert documented == members - {"videos"}


def test_files_of_a_store_are_documented(inside: Path) -> None:
    tree = FORMATS.split("```")[1]
    for name in (*(path.name for path in inside.iterdir()), MANIFEST, SPLITS, TIMING, CHECKSUMS):
        assert re.search(rf"^  {re.escape(name)}\b", tree, re.MULTILINE), name
    for path in (inside / ".flowprep").iterdir():
        assert f"`{path.name}" in section(".flowprep"), path.name


@pytest.mark.parametrize(
    ("layout", "step", "files"),
    [
        ("flowprep", 1, {"rgb": "img_00001.jpg", "flow_x": "flow_x_00001.jpg", "flow_y": "flow_y_00001.jpg"}),
        ("denseflow", 1, {"rgb": "img_00000.jpg", "flow_x": "flow_x_00000.jpg", "back_x": "flow_x_m<s>_00001.jpg"}),
        ("denseflow", 2, {"flow_x": "flow_x_p<s>_00000.jpg"}),
        ("mmaction2", 1, {"rgb": "img_00001.jpg", "flow_x": "x_00001.jpg", "flow_y": "y_00001.jpg"}),
        ("tsn", 1, {"rgb": "img_00001.jpg", "flow_x": "flow_x_00001.jpg", "flow_y": "flow_y_00001.jpg"}),
        ("feichtenhofer", 1, {"rgb": "frame000001.jpg", "flow_x": "frame000001.jpg"}),
    ],
)
def test_first_files_of_the_layouts_are_documented(layout: str, step: int, files: dict[str, str]) -> None:
    rows = "\n".join(line for line in section("Trees").splitlines() if line.startswith(f"| `{layout}`"))
    for stream, name in files.items():
        assert name in rows
        assert Layout(name=layout, step=step).file(stream, 0)[1] == name.replace("<s>", str(step))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_is_documented(layout: str) -> None:
    assert f"| `{layout}` |" in section("Trees")


def documented_links() -> list[tuple[Path, str]]:
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").rglob("*.md"))
    return [
        (page.relative_to(ROOT), link)
        for page in pages
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
        if "://" not in link
    ]


@pytest.mark.parametrize(("page", "link"), documented_links(), ids=str)
def test_link_leads_somewhere(page: Path, link: str) -> None:
    target, _, anchor = link.partition("#")
    path = ROOT / page.parent / target if target else ROOT / page
    assert path.exists()
    if anchor:
        titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
