"""Parts of a list: balanced, one list for all, and together the same bytes as one run."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from helpers.command import store_bytes
from helpers.media import moving_frames, write_video
from hypothesis import given
from hypothesis import strategies as st

import flowprep
from flowprep import request, run
from flowprep.config import ExtractSettings, FlowSettings, QuantiseSettings, ResizeSettings, RunSettings, StoreSettings
from flowprep.errors import BackendUnavailableError, SettingsError
from flowprep.listener import Quiet
from flowprep.merge import merge
from flowprep.parts import part_slices
from flowprep.records import Listing
from flowprep.request import Request
from flowprep.resume import read_settings
from flowprep.run import record_list
from flowprep.stores.savedlist import read_list
from flowprep.summary import Summary


def cheap(form: str = "hdf5", backend: str = "dis", bound_px: float = 20) -> ExtractSettings:
    return ExtractSettings(
        flow=FlowSettings(backend=backend),
        resize=ResizeSettings(short_side=None),
        quantise=QuantiseSettings(bound_px=bound_px),
        store=StoreSettings(format=form, shard_videos=2),
    )


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "videos"
    for index in range(7):
        (folder / f"c{index % 2}").mkdir(parents=True, exist_ok=True)
        write_video(folder / f"c{index % 2}" / f"{index}.avi", moving_frames(3 + index, 32, 32, seed=index))
    (folder / "c1" / "bad.avi").write_bytes(b"no video")
    return folder


def extract(
    videos: Path, out: Path, part: str | None = None, settings: ExtractSettings | None = None, **more: bool
) -> Summary:
    how = RunSettings(jobs=1, durability="fast", part=part, takeover=more.pop("takeover", False))
    return flowprep.extract(videos=videos, out=out, settings=settings or cheap(), run=how, **more)


# -- slices ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**12), max_size=60), st.integers(1, 70))
def test_slices_cover_the_list_in_order_and_are_balanced(sizes: list[int], num_parts: int) -> None:
    slices = part_slices(sizes, num_parts)
    assert len(slices) == num_parts
    assert [index for part in slices for index in part] == list(range(len(sizes)))
    total = sum(sizes) + len(sizes)
    share = total / num_parts
    for part in slices:
        assert sum(sizes[index] + 1 for index in part) <= share + max(sizes, default=0) + 1
    end = 0
    for part, index in ((part, index) for part, members in enumerate(slices) for index in members):
        end += sizes[index] + 1
        twice_middle = 2 * end - sizes[index] - 1
        assert 2 * total * part <= twice_middle * num_parts < 2 * total * (part + 1)


def test_many_small_files_beside_a_large_one() -> None:
    assert part_slices([1000, *[1] * 9], 2) == [range(1), range(1, 10)]
    assert part_slices([0] * 8, 4) == [range(2), range(2, 4), range(4, 6), range(6, 8)]
    assert [len(part) for part in part_slices([5, 5], 4)] == [0, 1, 0, 1]
    assert part_slices([0] * 3, 4) == [range(1), range(1, 1), range(1, 2), range(2, 3)]
    assert all(a.stop == b.start for a, b in pairwise(part_slices(list(range(1000)), 7)))


# -- parts are the whole -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wholes(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The files that one run writes, by format."""
    found = {}
    for form in ("hdf5", "jpeg"):
        out = tmp_path_factory.mktemp("whole") / form
        extract(videos, out, settings=cheap(form))
        found[form] = store_bytes(out)
    return found


@pytest.mark.parametrize(("order", "form"), [((1, 2, 3), "hdf5"), ((3, 1, 2), "hdf5"), ((2, 3, 1), "jpeg")])
def test_parts_in_any_order_make_the_bytes_of_one_run(
    videos: Path, tmp_path: Path, wholes: dict[str, dict[str, bytes]], order: tuple[int, ...], form: str
) -> None:
    out, settings = tmp_path / "out", cheap(form)
    summaries = [extract(videos, out, f"{part}/3", settings) for part in order]
    assert sum(summary.num_videos for summary in summaries) == 8
    assert [summary.exit_code for summary in summaries] == [int("failed" in s.states) for s in summaries]
    assert not (out / "manifest.jsonl").exists()
    assert "flowprep merge" in summaries[-1].notes[-1]
    merged = merge(out)
    assert (merged.exit_code, merged.num_pending) == (1, 0)
    assert merged.summary is not None
    assert merged.summary.states == {"ok": 7, "failed": 1}
    assert sum(merged.summary.builds.values()) == 7
    assert store_bytes(out) == wholes[form]


def test_parts_at_the_same_time_share_one_list(
    videos: Path, tmp_path: Path, wholes: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find no list and make one; that of the first to publish is what both go by."""
    barrier, real, errors = threading.Barrier(2), request.list_videos, list[BaseException]()

    def together(*arguments: object, **named: object) -> Listing:
        listing = real(*arguments, **named)  # type: ignore[arg-type]
        barrier.wait(20)
        return listing

    monkeypatch.setattr(request, "list_videos", together)
    out = tmp_path / "out"

    def work(part: str) -> None:
        try:
            extract(videos, out, part)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(part,)) for part in ("1/2", "2/2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    merge(out)
    assert store_bytes(out) == wholes["hdf5"]


# -- the list ----------------------------------------------------------------------------------------------------------


def test_parts_go_by_the_list_that_is_there(videos: Path, tmp_path: Path) -> None:
    mine, out = tmp_path / "videos", tmp_path / "out"
    (mine / "a").mkdir(parents=True)
    for name in ("a/1", "a/2"):
        write_video(mine / f"{name}.avi", moving_frames(3, 32, 32))
    extract(mine, out, "1/2")
    size = (mine / "a" / "1.avi").stat().st_size
    assert read_list(out).num_bytes == [size, size]
    write_video(mine / "a" / "3.avi", moving_frames(3, 32, 32))
    assert extract(mine, out, "2/2").num_videos == 1
    asked = Request(videos=mine, out=out, settings=cheap(), run=RunSettings(durability="fast"))
    assert len(record_list(asked).listing.videos) == 3
    assert not (out / "manifest.jsonl").exists()
    assert [extract(mine, out, f"{part}/2").num_done_now for part in (1, 2)] == [0, 1]
    merged = merge(out)
    assert merged.summary is not None
    assert merged.summary.states == {"ok": 3}


def test_a_part_of_another_request_is_refused_with_the_difference(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract(videos, out, "1/8")
    other = tmp_path / "others"
    (other / "a").mkdir(parents=True)
    write_video(other / "a" / "1.avi", moving_frames(3, 32, 32))
    with pytest.raises(SettingsError, match=f"was made for another request .videos: {videos} there, {other} asked"):
        extract(other, out, "2/8")
    with pytest.raises(SettingsError, match=r"quantise\.bound_px: 20\.0 there, 15\.0 asked for"):
        extract(videos, out, "2/8", cheap(bound_px=15))
    with pytest.raises(SettingsError, match="--overwrite"):
        extract(videos, out, "2/8", overwrite=True)
    with pytest.raises(SettingsError, match="leave out --part"):
        record_list(Request(videos=videos, out=out, settings=cheap(), run=RunSettings(part="1/8")))
    assert extract(videos, out, "02/8").part == "2/8"


def test_auto_is_what_the_first_process_made_of_it(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, auto, real = tmp_path / "out", cheap(backend="auto"), request.resolve

    def on_a_machine_with(best: str) -> None:
        monkeypatch.setattr(
            request, "resolve", lambda name, *rest, **more: real(best if name == "auto" else name, *rest, **more)
        )

    on_a_machine_with("dis")
    extract(videos, out, "1/2", auto)
    on_a_machine_with("farneback")
    extract(videos, out, "2/2", auto)
    extract(videos, out, None, auto)
    with flowprep.open_store(out) as store:
        assert store.settings.flow.backend == "dis"
    with pytest.raises(SettingsError, match=r"flow\.backend: dis there, farneback asked for"):
        extract(videos, out, "1/2", cheap(backend="farneback"))


def test_a_list_is_made_where_the_backend_of_its_parts_does_not_run(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a login node without the GPU of the nodes; a part that is at work on such a machine is refused."""
    out, real = tmp_path / "out", request.resolve

    def resolve(name: str, *rest: Any, here: bool = True, **more: Any) -> tuple[str, str | None]:
        if here and name == "native-cuda":
            raise BackendUnavailableError("there is no GPU here")
        return real(name, *rest, here=here, **more)

    monkeypatch.setattr(request, "resolve", resolve)
    notes: list[str] = []
    monkeypatch.setattr(Quiet, "note", lambda _, text: notes.append(text))
    record_list(Request(videos=videos, out=out, settings=cheap(backend="native-cuda")))
    assert read_settings(out).flow.backend == "native-cuda"
    for backend in ("auto", "native-cuda"):
        with pytest.raises(BackendUnavailableError, match="no GPU here"):
            extract(videos, out, "1/2", cheap(backend=backend))
    assert notes == []


def test_what_auto_is_for_all_parts_is_said_when_their_list_begins_the_store(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, notes = request.resolve, list[str]()
    monkeypatch.setattr(request, "resolve", lambda name, *rest, **more: real("dis", *rest, **more))
    monkeypatch.setattr(Quiet, "note", lambda _, text: notes.append(text))
    asked = Request(videos=videos, out=tmp_path / "out", settings=cheap(backend="auto"))
    record_list(asked)
    (note,) = notes
    assert note.startswith("`auto` is dis on this machine, and so for all parts")
    record_list(asked)
    assert len(notes) == 1


@pytest.mark.parametrize("moment", ["sizes_of", "_recorded"])
def test_auto_of_two_that_begin_together_is_that_of_the_first(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Another part begins between our look at the disk and our first write."""
    out, auto, real = tmp_path / "out", cheap(backend="auto"), request.resolve
    home, best, others = (request if moment == "sizes_of" else run), ["farneback"], list[Summary]()
    monkeypatch.setattr(
        request, "resolve", lambda name, *rest, **more: real(best[0] if name == "auto" else name, *rest, **more)
    )
    real_step = getattr(home, moment)

    def step(*arguments: object) -> object:
        if not others:
            monkeypatch.setattr(home, moment, real_step)
            best[0] = "dis"
            others.append(extract(videos, out, "2/2", auto))
            best[0] = "farneback"
        return real_step(*arguments)

    monkeypatch.setattr(home, moment, step)
    extract(videos, out, "1/2", auto, takeover=True)
    merge(out)
    with flowprep.open_store(out) as store:
        assert store.settings.flow.backend == "dis"
