"""Cases 86 and 87: no file of a store runs code, and nothing that it names lies outside of it."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import store_bytes
from helpers.damage import IDS, cheap_settings, clip_of, edit_lines, make_store, make_videos, row_of
from helpers.in_process import be_quick

from flowprep.describe import describe
from flowprep.errors import FlowprepError, StoreError
from flowprep.flowfile import read_flow
from flowprep.merge import merge
from flowprep.run import resume_store
from flowprep.stores import open_store
from flowprep.verify import verify


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that must never be there; what would make it is tried out."""
    path = tmp_path / "canary"
    pickle.loads(pickle.dumps(Bomb(path)))
    assert path.exists(), "it is no bomb"
    path.unlink()
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_videos(tmp_path_factory.mktemp("sources"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    be_quick(monkeypatch)


@pytest.fixture(scope="module")
def stores(videos: Path) -> dict[str, Path]:
    with pytest.MonkeyPatch.context() as patch:
        be_quick(patch)
        return {name: make_store(videos.parent / name, videos, cheap_settings(name)) for name in ("jpeg", "hdf5")}


BOOKS = (".flowprep/settings.json", ".flowprep/list.jsonl")
TOP = ("manifest.jsonl", "splits.json", "SHA256SUMS", "run.json")
PLACES = {
    "jpeg": (*BOOKS, *TOP, "timing.h5", row_of(IDS[0]), f"Archery/{IDS[0]}/img_00001.jpg"),
    "hdf5": (*BOOKS, *TOP, "shards/00000.h5", ".flowprep/packed/00000.jsonl", clip_of(IDS[0])),
}
READERS: dict[str, Callable[[Path], object]] = {
    "open": lambda store: [opened.jpeg(IDS[0], "rgb", 0) for opened in [open_store(store)]],
    "info": describe,
    "merge": merge,
    "resume": resume_store,
}


@pytest.mark.parametrize("kind", ["pickle", "npy", "npz"])
@pytest.mark.parametrize("format", ["jpeg", "hdf5"])
def test_case_86_pickles_in_the_place_of_any_file_of_a_store(
    format: str, kind: str, stores: dict[str, Path], canary: Path, tmp_path: Path
) -> None:
    bomb = tmp_path / f"bomb.{kind}"
    if kind == "pickle":
        bomb.write_bytes(pickle.dumps(Bomb(canary)))
    else:
        (np.save if kind == "npy" else np.savez)(bomb, np.array([Bomb(canary)], object), allow_pickle=True)
    for place in PLACES[format]:
        store = tmp_path / "store"
        shutil.copytree(stores[format], store)
        (store / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(bomb, store / place)
        assert {finding.path for finding in verify(store).findings} & {place, str(Path(place).parent)}, place
        for read in READERS.values():
            try:
                read(store)
            except (FlowprepError, KeyError):
                continue
        assert not canary.exists(), place
        shutil.rmtree(store)


def test_case_86_arrays_of_objects_are_no_flow(canary: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "flow.npy", np.array([Bomb(canary)], object), allow_pickle=True)
    with pytest.raises(StoreError, match=r"not a readable \.npy file"):
        read_flow(tmp_path / "flow.npy")
    assert not canary.exists()


@pytest.mark.parametrize("outside", ["../secret", "Archery/../../secret", "{tmp}/secret"])
def test_case_87_a_manifest_that_names_what_lies_outside(outside: str, stores: dict[str, Path], tmp_path: Path) -> None:
    """Trees name folders; the images behind them would be those of somebody else."""
    store = tmp_path / "store"
    shutil.copytree(stores["jpeg"], store)
    folder = f"Archery/{IDS[0]}"
    shutil.copytree(store / folder, tmp_path / "secret")
    before = store_bytes(tmp_path / "secret")
    place = outside.format(tmp=tmp_path)
    edit_lines("manifest.jsonl", lambda lines: [line.replace(f'"{folder}"', f'"{place}"') for line in lines])(store)
    assert place in (store / "manifest.jsonl").read_text()
    with pytest.raises(StoreError), open_store(store) as opened:
        opened.jpeg(IDS[0], "rgb", 0)
    assert verify(store).exit_code == 4
    assert store_bytes(tmp_path / "secret") == before


def test_case_87_a_manifest_that_names_another_shard(stores: dict[str, Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(stores["hdf5"], store)
    shutil.copy(store / "shards" / "00000.h5", tmp_path / "secret.h5")
    edit_lines("manifest.jsonl", lambda lines: [line.replace("shards/00000.h5", "../secret.h5") for line in lines])(
        store
    )
    with pytest.raises(StoreError), open_store(store) as opened:
        opened.jpeg(IDS[0], "rgb", 0)
    assert verify(store).exit_code == 4
