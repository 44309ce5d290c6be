import contextlib
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command import store_bytes
from helpers.media import moving_frames, write_video

import flowprep
from flowprep import commit, overwrite, resume
from flowprep.config import ExtractSettings, FlowSettings, QuantiseSettings, ResizeSettings, RunSettings, StoreSettings
from flowprep.errors import RunStoppedError, SettingsError
from flowprep.summary import Summary

CHEAP = ExtractSettings(flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None))
OTHER = ExtractSettings(
    flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None), quantise=QuantiseSettings(bound_px=5)
)
TREE = ExtractSettings(
    flow=FlowSettings(backend="dis"), resize=ResizeSettings(short_side=None), store=StoreSettings(format="jpeg")
)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "videos"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        write_video(folder / name / "x.avi", moving_frames(4, 32, 32))
    return folder


def extract(videos: Path, out: Path, settings: ExtractSettings, *, replace: bool = True) -> Summary:
    run = RunSettings(jobs=1, durability="fast")
    return flowprep.extract(videos=videos, out=out, settings=settings, run=run, overwrite=replace)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_new_store_takes_the_place_of_the_old_one(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for settings in (CHEAP, OTHER, TREE, CHEAP):
        extract(videos, out, settings)
        extract(videos, tmp_path / "fresh", settings)
        assert store_bytes(out) == store_bytes(tmp_path / "fresh")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "fresh", "out"]
        extract(videos, out, settings, replace=False)  # what was swapped in can be continued


def test_what_is_not_ours_is_never_touched(videos: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    (precious / "sub").mkdir(parents=True)
    (precious / "sub" / "thesis").write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(SettingsError, match="is not a flowprep store"):
        extract(videos, precious, CHEAP)
    with pytest.raises(SettingsError, match="would contain"):
        extract(videos, videos.parent, CHEAP)
    with pytest.raises(SettingsError, match="is not a folder"):
        extract(videos, precious / "sub" / "thesis", CHEAP)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("settings", [CHEAP, TREE])
def test_a_store_that_holds_other_things_too_is_refused(
    videos: Path, tmp_path: Path, settings: ExtractSettings
) -> None:
    out = tmp_path / "out"
    extract(videos, out, settings)
    (out / "notes").mkdir()
    (out / "notes" / "mine.txt").write_text("x")
    with pytest.raises(SettingsError, match=r"also holds what flowprep did not write \(notes\)"):
        extract(videos, out, OTHER)
    assert (out / "notes" / "mine.txt").exists()


def test_a_mount_point_is_refused(videos: Path) -> None:
    with pytest.raises(SettingsError, match="mount point"):
        overwrite.check(Path("/proc"))


def test_a_link_is_followed(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    extract(videos, tmp_path / "big" / "flow", CHEAP)
    (tmp_path / "link").symlink_to("big/flow")
    extract(videos, tmp_path / "link", OTHER)
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "big").iterdir()] == ["flow"]
    assert resume.read_settings(tmp_path / "big" / "flow").quantise.bound_px == 5.0


def test_a_poorer_store_does_not_replace_a_richer_one(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract(videos, out, CHEAP)
    (videos / "a" / "x.avi").write_bytes(b"no video any more")
    with pytest.raises(RunStoppedError, match="holds 1 videos and the old one 2, so both are kept"):
        extract(videos, out, OTHER)
    with flowprep.open_store(out) as store:
        assert len(store.ids) == 2


class _Killed(BaseException):
    pass


def kill_at_step(patch: pytest.MonkeyPatch, number: int) -> None:
    """Make the n-th rename, unlink or exchange inside `swap_in` the last thing that never happens."""
    calls = [0]

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*arguments: object) -> object:
            calls[0] += 1
            if calls[0] == number:
                raise _Killed
            return real(*arguments)

        return wrapper

    def swap(place: Path, real: Callable[[Path], None] = overwrite.swap_in) -> None:
        patch.setattr(commit, "publish", counted(commit.publish))
        patch.setattr(commit, "unlink", counted(commit.unlink))
        patch.setattr(overwrite, "_exchange", counted(overwrite._exchange))
        real(place)

    patch.setattr(overwrite, "swap_in", swap)


@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize("exchange", [True, False])
def test_a_swap_that_is_killed_anywhere_loses_nothing(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool, number: int
) -> None:
    """Afterwards there is always one whole store under the name, and the next run leaves nothing behind."""
    out = tmp_path / "out"
    extract(videos, tmp_path / "fresh", OTHER)
    extract(videos, out, CHEAP)
    if not exchange:
        monkeypatch.setattr(overwrite, "_exchange", lambda *_: False)
    with pytest.MonkeyPatch.context() as patch:
        kill_at_step(patch, number)
        with contextlib.suppress(_Killed):
            extract(videos, out, OTHER)
    overwrite.recover(out)
    with flowprep.open_store(out) as store:
        assert len(store.ids) == 2
    extract(videos, out, OTHER)
    assert store_bytes(out) == store_bytes(tmp_path / "fresh")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "fresh", "out"]


@pytest.mark.parametrize("name", ["flow[1]", "flow?", "a**b"])
def test_an_interrupted_swap_is_not_mistaken_for_that_of_another_store(tmp_path: Path, name: str) -> None:
    others = [tmp_path / ".flow1.replaced-0a", tmp_path / ".axxb.replaced-0a"]
    own = tmp_path / f".{name}.replaced-0b"
    for folder in (*others, own):
        (folder / ".flowprep").mkdir(parents=True)
    overwrite.recover(tmp_path / name)
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / name])
    own.mkdir()
    overwrite.recover(tmp_path / name)
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / name])


def test_a_place_where_nothing_can_be_built_is_wrong_use(tmp_path: Path) -> None:
    out = tmp_path / "out"
    overwrite.build_folder(out).write_text("in the way")  # as is a folder without write permission
    with pytest.raises(SettingsError, match=r"overwrite, where --overwrite builds .*: .*give another --out"):
        overwrite.begin(out)


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, RunStoppedError), (errno.EIO, RunStoppedError), (errno.EROFS, SettingsError)]
)
def test_a_full_or_failing_disk_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def touch(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(error, match="is full" if number == errno.ENOSPC else os.strerror(number)):
        overwrite.begin(tmp_path / "out")


def test_an_interrupted_build_with_other_settings_is_begun_anew(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract(videos, out, CHEAP)
    left = overwrite.begin(out)
    (left / ".flowprep" / "settings.json").write_text(json.dumps(TREE.to_json()))
    extract(videos, out, OTHER)
    assert not os.path.lexists(left)
