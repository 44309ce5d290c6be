"""`merge` ends a store, or says what is missing and how to get it done."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command import flowprep, manifest, store_bytes
from helpers.media import moving_frames, write_video

import flowprep as library
from flowprep.cluster.settings import ClusterSettings
from flowprep.config import (
    DecodeSettings,
    ExtractSettings,
    FlowSettings,
    JpegSettings,
    QuantiseSettings,
    ResizeSettings,
    RunSettings,
    StoreSettings,
)
from flowprep.driver import Driver
from flowprep.errors import MissingDataError, SettingsError
from flowprep.journal import Journal, journal_folder, journals
from flowprep.listener import Quiet
from flowprep.merge import merge
from flowprep.records import Listing
from flowprep.request import resolved
from flowprep.stores.savedlist import SavedList
from flowprep.unseen import SETTLE_SECONDS
from flowprep_cli.again import extract_command
from flowprep_cli.extract import content_settings
from flowprep_cli.main import cli

CHEAP = ExtractSettings(
    flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None), store=StoreSettings(shard_videos=2)
)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    for index in range(6):
        (tmp_path / "my videos").mkdir(exist_ok=True)
        write_video(tmp_path / "my videos" / f"{index}.avi", moving_frames(3, 32, 32, seed=index))
    return tmp_path / "my videos"


def extract(videos: Path, out: Path, part: str | None = None) -> None:
    run = RunSettings(jobs=1, durability="fast", part=part)
    library.extract(videos=videos, out=out, settings=CHEAP, run=run)


def test_what_is_missing_is_said_with_the_commands_that_finish_it(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "my out"
    extract(videos, out, "2/3")
    with Driver(out, "3/3"):
        result = flowprep("merge", out, "--json", expect=3)
    assert "4 of 6 videos have no outcome yet" in result.stderr
    assert "part 1/3: 2 of 2 videos are missing; nobody is at work on it" in result.stderr
    assert "part 3/3: 2 of 2 videos are missing; at work: process" in result.stderr
    assert not (out / "manifest.jsonl").exists()
    found = json.loads(result.stdout)
    assert (found["num_pending"], found["summary"]) == (4, None)
    assert [(left["part"], left["at_work"]) for left in found["parts"]] == [("1/3", False), ("3/3", True)]
    (command,) = found["commands"]
    assert f"  {command}" in result.stderr
    flowprep(*shlex.split(command)[1:])  # does as it is told
    assert [left.part for left in merge(out).parts] == ["3/3"]
    extract(videos, out, "3/3")
    merged = merge(out)
    assert (merged.exit_code, merged.num_pending, merged.parts) == (0, 0, ())
    extract(videos, tmp_path / "whole")
    assert store_bytes(out) == store_bytes(tmp_path / "whole")


def test_a_store_can_be_ended_without_what_is_missing(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract(videos, out, "1/2")
    result = flowprep("merge", out, "--allow-missing", expect=1)
    assert "6 videos: 3 ok, 3 pending" in result.stderr
    assert [row["state"] for row in manifest(out)[1]] == ["ok"] * 3 + ["pending"] * 3
    with library.open_store(out) as store:
        assert len(store.ids) == 3
    extract(videos, out, "2/2")
    assert merge(out).exit_code == 0


def test_what_a_killed_run_left_unpacked_is_packed(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("flowprep.packer.pack_ready", lambda *_: False)
        extract(videos, out, "1/1")
    assert not list(out.glob("shards/*.h5"))
    assert merge(out).exit_code == 0
    assert len(list(out.glob("shards/*.h5"))) == 3
    assert not list((out / ".flowprep").glob("commits/*/*"))


def test_a_list_that_was_not_divided_has_one_command(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract(videos, out)
    write_video(videos / "9.avi", moving_frames(3, 32, 32))
    common = ("extract", "--dataset", "folder", "--videos", videos, "--out", out, "--backend", "dis", "--keep-size")
    listed = json.loads(flowprep(*common, "--shard-videos", "2", "--list-only", "--json").stdout)
    assert listed["num_videos"] == 7
    found = json.loads(flowprep("merge", out, "--json", expect=3).stdout)
    assert found["parts"] == []
    (command,) = found["commands"]
    assert "--part" not in command
    with pytest.raises(MissingDataError, match="not a flowprep store"):
        merge(videos)


@pytest.mark.parametrize(
    "settings",
    [
        ExtractSettings(),
        CHEAP,
        ExtractSettings(
            decode=DecodeSettings(fps=12.5, on_damage="keep-prefix", max_frames=9),
            resize=ResizeSettings(short_side=None, width=84, height=64),
            flow=FlowSettings(backend="farneback", step=2, backward=True, parameters={"window_size": 9}),
            quantise=QuantiseSettings(bound_px=15.25, rounding="truncate"),
            jpeg=JpegSettings(quality=90),
            store=StoreSettings(format="jpeg", layout="denseflow", rgb=False),
        ),
        ExtractSettings(
            resize=ResizeSettings(short_side=128),
            flow=FlowSettings(backend="native", variant="cpu", parameters={"lambda": 0.2, "num_warps": 3}),
        ),
        ExtractSettings(store=StoreSettings(flow=False)),
        ExtractSettings(
            flow=FlowSettings(backend="dis", parameters={"preset": "medium", "use_spatial_propagation": False})
        ),
    ],
)
def test_the_command_asks_for_the_same_settings(tmp_path: Path, settings: ExtractSettings) -> None:
    check_command(resolved(settings), tmp_path)


def test_the_command_asks_for_the_same_processor(tmp_path: Path) -> None:
    check_command(
        ExtractSettings(flow=FlowSettings(backend="native", cpu_baseline="x86-64-v3", variant="cuda")), tmp_path
    )


def check_command(settings: ExtractSettings, tmp_path: Path) -> None:
    listing = Listing(dataset="folder", videos=())
    saved = SavedList(listing=listing, videos=tmp_path / "a b", splits=tmp_path / "c", skip_bad_lines=True)
    words = shlex.split(extract_command(tmp_path / "o'ut", settings, saved, "3/8"))
    assert words[:2] == ["flowprep", "extract"]
    context = cli.commands["extract"].make_context("extract", words[2:])
    asked = content_settings(context, context.params)
    assert (asked if settings.flow.cpu_baseline else resolved(asked)) == settings
    values = context.params
    assert (values["videos"], values["splits"], values["out"]) == (saved.videos, saved.splits, tmp_path / "o'ut")
    assert (values["skip_bad_lines"], values["run__part"]) == (True, "3/8")


def test_parts_of_a_huge_store_are_packed_side_by_side(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("flowprep.packer.pack_ready", lambda *_: False)
        extract(videos, out, "1/1")
    packed = merge(out, part="2/2")
    assert (packed.exit_code, packed.part, packed.num_videos, packed.summary) == (0, "2/2", 4, None)
    assert sorted(path.name for path in out.glob("shards/*.h5")) == ["00001.h5", "00002.h5"]
    assert "part 1/2 of the shards" in flowprep("merge", out, "--part", "1/2").stderr
    assert not (out / "manifest.jsonl").exists()
    assert merge(out).exit_code == 0
    extract(videos, tmp_path / "whole")
    assert store_bytes(out) == store_bytes(tmp_path / "whole")


def test_a_part_of_the_shards_with_videos_that_are_missing(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract(videos, out, "1/3")
    assert json.loads(flowprep("merge", out, "--part", "1/3", "--json").stdout)["commands"] == []
    assert "2 of them without an outcome yet" in flowprep("merge", out, "--part", "2/3", expect=3).stderr
    with pytest.raises(SettingsError, match="leave out one of them"):
        merge(out, part="1/3", allow_missing=True)


def test_what_is_missing_is_named_as_an_array(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract(videos, out, "3/6")
    said = flowprep("merge", out, expect=3).stderr
    assert "--part slurm/6`: sbatch --array=1-2,4-6" in said.replace("\n", " ")


@pytest.fixture
def unseen(videos: Path, tmp_path: Path) -> tuple[Path, Callable[[], None]]:
    """A whole store of which some rows are not seen, and what makes them seen."""
    out, aside = tmp_path / "out", tmp_path / "not seen yet"
    extract(videos, out, "1/2")
    extract(videos, out, "2/2")
    rows = out / ".flowprep" / "packed" / "00001.jsonl"
    rows.rename(aside)
    return out, lambda: aside.rename(rows) and None


@pytest.fixture
def elsewhere(unseen: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, this is another machine than that which has made the store."""
    node = f"{platform.node()}.example.org"
    monkeypatch.setattr("flowprep.unseen.platform.node", lambda: node)


def set_age(out: Path, seconds: float) -> None:
    """Let all journals be written last that long ago."""
    for path in journals(out):
        os.utime(path, (time.time() - seconds, time.time() - seconds))


def test_what_another_machine_has_just_published_is_waited_for(
    unseen: tuple[Path, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client of a network disk does not see a new name for a minute; one machine, or a store at rest, never waits."""
    out, see = unseen
    waited: list[float] = []
    real = time.sleep

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            see()
        real(0.001)

    monkeypatch.setattr("flowprep.unseen.time.sleep", sleep)
    node = platform.node()
    assert merge(out).num_pending == 2
    assert waited == []
    monkeypatch.setattr("flowprep.unseen.platform.node", lambda: f"{node}.example.org")
    set_age(out, SETTLE_SECONDS + 10)
    assert merge(out).num_pending == 2
    set_age(out, 0)
    with Driver(out, "1/2"):
        assert merge(out).num_pending == 2
    assert waited == []
    notes: list[str] = []
    monkeypatch.setattr(Quiet, "note", lambda _, text: notes.append(text))
    merged = merge(out)
    assert (merged.num_pending, merged.exit_code) == (0, 0)
    assert re.search(r"2 videos have no outcome that is seen here; .* looked for again for up to [0-9]+ s$", notes[0])
    assert len(waited) == 3
    assert max(waited) <= 5


def test_a_machine_of_the_same_name_is_another(
    unseen: tuple[Path, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As containers, cloned machines and `localhost` are; one of them keeps its start as long as it runs."""
    out, see = unseen
    monkeypatch.setattr("flowprep.unseen._LOOK_SECONDS", 0.05)
    monkeypatch.setattr("flowprep.unseen.boot_id", lambda: "another start")
    threading.Timer(0.3, see).start()
    assert merge(out, settle_seconds=30).num_pending == 0


@pytest.mark.usefixtures("elsewhere")
def test_a_store_is_not_ended_without_what_may_be_there(
    unseen: tuple[Path, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, see = unseen
    monkeypatch.setattr("flowprep.unseen._LOOK_SECONDS", 0.05)
    threading.Timer(0.3, see).start()
    with Driver(out, "1/2"):
        assert merge(out, allow_missing=True, settle_seconds=30).num_pending == 0


@pytest.mark.usefixtures("elsewhere")
def test_what_is_missing_indeed_is_waited_for_no_longer_than_it_can_be_unseen(
    unseen: tuple[Path, Callable[[], None]],
) -> None:
    out, _ = unseen
    set_age(out, 0)
    assert merge(out, settle_seconds=0.5).num_pending == 2


def test_workers_of_a_cluster_are_other_machines(
    unseen: tuple[Path, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They write no journals; their driver, which may be this machine, does."""
    out, see = unseen
    monkeypatch.setattr("flowprep.unseen._LOOK_SECONDS", 0.05)
    with Journal(journal_folder(out)) as record:
        record.begin(run={**RunSettings().to_json(), **ClusterSettings(dask="tcp://127.0.0.1:1").to_json()})
    threading.Timer(0.3, see).start()
    assert merge(out, settle_seconds=30).num_pending == 0


def test_parts_that_a_whole_run_is_at_work_on_are_not_offered(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract(videos, out, "1/2")
    with Driver(out, None):
        merged = merge(out)
        assert [left.holder is not None for left in merged.parts] == [True]
        result = flowprep("merge", out, "--json", expect=3)
    assert "part 2/2: 3 of 3 videos are missing; at work: process" in result.stderr
    assert json.loads(result.stdout)["commands"] == []
