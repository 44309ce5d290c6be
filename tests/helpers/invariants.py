"""The six promises that hold after every fault, checked by one helper.

I1  every listed video has one state in the manifest, in the order of the list; the counts of run.json add up
I2  `verify --deep` finds nothing, and nothing is stored that is not in the manifest
I3  nothing unfinished was ever seen under a final name (a thread polls while the run goes on)
I4  the store has the bytes of a run that nothing disturbed
I5  nothing outside the store was made or changed
I6  no process of ours, no staging folder and no driver file is left
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from helpers.command import manifest, store_bytes
from helpers.processes import eventually

from flowprep.config import VerifySettings
from flowprep.errors import StoreError
from flowprep.stores.clipfile import read_clip_entry
from flowprep.stores.rowfile import read_row_file
from flowprep.stores.shardfile import read_index
from flowprep.verify import verify

MARK = "FLOWPREP_TEST_MARK"
_POLL_SECONDS = 0.02
_SECONDS_UNTIL_GONE = 30.0


class Invariants:
    """Watches a store while its context lasts; `check` then says whether the promises were kept.

    `outside` is the folder in which the store `out` lies: all else in it must stay as it is, but for the names in
    `free` (logs of the test itself), and so must the folders `also`, such as that of the videos. Processes belong to
    the test when they have `environment`.
    """

    def __init__(self, outside: Path, out: Path, *, also: Iterable[Path] = (), free: Iterable[str] = ()) -> None:
        self.outside, self.out = outside, out
        self.mark = uuid.uuid4().hex
        self.partial: list[str] = []
        self._also, self._free = [*also], {*free}
        self._end = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watch-store", daemon=True)
        self._before: dict[str, tuple[int, int]] = {}
        self._kept: dict[Path, int] = {}

    @property
    def environment(self) -> dict[str, str]:
        """For the processes of the test."""
        return {**os.environ, MARK: self.mark}

    def __enter__(self) -> Self:
        self._before = self._snapshot()
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._watcher.join()

    def check(self, whole: Mapping[str, bytes], *, survivors: Iterable[int] = ()) -> None:
        """All six, of a run that has ended. `whole` is `store_bytes` of an undisturbed one.

        `survivors` are processes that go on on purpose, such as a scheduler that the test uses again.
        """
        self.check_bytes(whole)
        self.check_states()
        self.check_sound()
        assert self.partial == [], self.partial
        self.check_outside()
        self.check_gone(survivors)

    def check_states(self) -> None:
        """I1."""
        header, rows = manifest(self.out)
        names = [row["id"] for row in rows]
        assert len({*names}) == len(names) > 0, "a video stands twice in the manifest"
        assert {row["state"] for row in rows} <= {"ok", "flagged", "failed", "quarantined"}
        summary = json.loads((self.out / "run.json").read_text())
        counts = {state: sum(row["state"] == state for row in rows) for state in {row["state"] for row in rows}}
        assert summary["num_videos"] == len(rows)
        assert {state: num for state, num in summary["states"].items() if num} == counts, header

    def check_sound(self) -> None:
        """I2."""
        report = verify(self.out, settings=VerifySettings(deep=True, jobs=1))
        assert report.findings == (), [str(finding) for finding in report.findings]

    def check_bytes(self, whole: Mapping[str, bytes]) -> None:
        """I4."""
        found = store_bytes(self.out)
        assert sorted(found) == sorted(whole)
        assert [name for name, data in found.items() if data != whole[name]] == []

    def check_outside(self) -> None:
        """I5."""
        after = self._snapshot()
        changed = {name for name in {*self._before, *after} if self._before.get(name) != after.get(name)}
        assert changed == set(), changed

    def check_gone(self, survivors: Iterable[int] = ()) -> None:
        """I6."""
        kept = {*survivors}
        assert eventually(lambda: set(processes_of(self.mark)) <= kept, seconds=_SECONDS_UNTIL_GONE), [
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            for pid in processes_of(self.mark)
            if pid not in kept
        ]
        assert eventually(lambda: self._left() == [], seconds=_SECONDS_UNTIL_GONE), self._left()
        books = self.out / ".flowprep"
        assert not (self.out / "shards").exists() or not list(books.glob("commits/*/*"))

    def _left(self) -> list[Path]:
        """What lies where only work in progress may lie."""
        books = self.out / ".flowprep"
        return [path for name in ("staging", "aside", "drivers") for path in books.glob(f"{name}/*")]

    def _snapshot(self) -> dict[str, tuple[int, int]]:
        """Size and modification time of every file around the store."""
        found = {}
        for parent, folders, files in itertools.chain.from_iterable(map(os.walk, [self.outside, *self._also])):
            if Path(parent) == self.outside:
                folders[:] = [name for name in folders if name not in self._free]
                files = [name for name in files if name not in self._free]
            folders[:] = [name for name in folders if Path(parent, name) != self.out]
            for name in files:
                status = os.lstat(Path(parent, name))
                found[os.path.relpath(Path(parent, name), self.outside)] = (status.st_size, status.st_mtime_ns)
        return found

    # -- I3 ------------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        seen: dict[Path, tuple[int, ...]] = {}
        while not self._end.wait(_POLL_SECONDS):
            for path in self._finals():
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    self._look(path, seen)
        for file in self._kept.values():
            os.close(file)

    def _finals(self) -> list[Path]:
        books = self.out / ".flowprep"
        patterns = ("commits/*/*.clip", "rows/*/*.json", "packed/*.jsonl", "settings.json", "list.jsonl")
        found = [path for pattern in patterns for path in books.glob(pattern)]
        found += [path for path in self.out.glob("*") if path.name != ".flowprep"]
        return [*found, *self.out.glob("shards/*.h5"), *self.out.glob("*/*/img_00001.jpg")]

    def _look(self, path: Path, seen: dict[Path, tuple[int, ...]]) -> None:
        """What is seen for the first time under a final name is whole, and does not grow."""
        folder = path.parent if path.name == "img_00001.jpg" else None
        if folder is None and path.is_dir():
            return  # a class folder, which fills
        if folder is None:
            version = self._version_of(path)
        else:
            status, names = os.stat(folder), os.listdir(folder)
            version = (status.st_ino, len(names), sum((folder / name).stat().st_size for name in names))
        before = seen.get(path)
        if before == version:
            return
        seen[path] = version
        if before is not None and before[0] == version[0] and os.stat(folder or path).st_ino == version[0]:
            self.partial.append(f"{path} changed from {before} to {version}")
        try:
            if path.suffix == ".clip":
                read_clip_entry(path)
            elif path.parent.parent.name == "rows":
                read_row_file(path)
            elif path.parent.name == "shards":
                read_index(path)
        except StoreError as error:
            self.partial.append(f"{path}: {error}")

    def _version_of(self, path: Path) -> tuple[int, int]:
        """Inode and size. The file is kept open, so that no later one of that name can have its inode."""
        file = os.open(path, os.O_RDONLY)
        status = os.fstat(file)
        kept = self._kept.get(path)
        if kept is not None and os.fstat(kept).st_ino == status.st_ino:
            os.close(file)
        else:
            if kept is not None:
                os.close(kept)
            self._kept[path] = file
        return status.st_ino, status.st_size


def processes_of(mark: str) -> list[int]:
    """Processes that have a mark in their environment, and have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}".encode() in path.read_bytes() and b" Z " not in (path.parent / "stat").read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
