"""Video files by themselves, each extracted as a run would do it and read as a store of one video.

What decodes a file is a supervised child (`flowprep.supervisor`): a crash, a hang or a burst of memory costs two tries
and then this file, never the process that asks.
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from pathlib import Path
from typing import Self, final

from flowprep.childprocess import Task, Work
from flowprep.config import DEVICE_BACKENDS, ExtractSettings, RunSettings
from flowprep.device.process import Device
from flowprep.errors import VideoError
from flowprep.records import Row, Video
from flowprep.stores.onevideo import OneVideoStore
from flowprep.stores.places import clip_path, row_path
from flowprep.supervisor import SetAsideError, Supervisor

_DEVICE = "cuda:0"


@final
class FileExtractor:
    """Extracts files, one after another, with the content settings of a store. A context manager.

    `settings` are resolved. Of `run`, memory and stall count. The bytes of a video lie in the folder for temporary
    files (TMPDIR) as long as its store is open.
    """

    def __init__(self, settings: ExtractSettings, run: RunSettings | None = None) -> None:
        run = run or RunSettings()
        self._settings = settings
        # A commit is one file, whatever the layout; none is packed.
        committed = dataclasses.replace(settings.store, format="hdf5", layout="flowprep")
        self._folder = tempfile.TemporaryDirectory(prefix="flowprep-")
        on_device = settings.store.flow and settings.flow.backend in DEVICE_BACKENDS
        self._work = Work(
            videos=Path("/"),
            out=Path(self._folder.name),
            settings=dataclasses.replace(settings, store=committed),
            durability="fast",
            memory_bytes=round(run.memory_gib * 2**30),
            stall_seconds=run.stall_seconds,
            devices=(_DEVICE,) if on_device else (),
        )
        self._begin()

    def _begin(self) -> None:
        work, abort = self._work, threading.Event()
        self._device = None
        if work.devices:
            self._device = Device(_DEVICE, work.settings, abort, stall_seconds=work.stall_seconds)
        self._supervisor = Supervisor(work, abort, lambda _num_frames: None, self._device)

    def _end(self) -> None:
        self._supervisor.close()
        if self._device is not None:
            self._device.close()

    def extract(self, path: Path, video_id: str) -> OneVideoStore:
        """The store of one file, with the JPEGs that it would have in a store of these settings, to the byte.

        Raises:
            VideoError: The video cannot be extracted; its code may be `crash`, `timeout` or `memory`.
            BackendUnavailableError: The flow backend does not run here.
            RunStoppedError: The disk of the temporary folder is full, or no child can be started.
        """
        place = path.absolute().relative_to("/")
        task = Task(list_index=0, video=Video(id=video_id, path=str(place)))
        commit = clip_path(Path(self._folder.name), video_id)
        try:
            row = self._perform(task)
            if not row.state.stored:
                if row.reasons[0].code == "gpu_crash":  # that file's alone: it is not held against the device
                    self._end()
                    self._begin()
                raise VideoError(row.reasons[0].code, row.reasons[0].detail)
            return OneVideoStore(commit, self._settings, path)
        finally:
            for file in (commit, row_path(Path(self._folder.name), video_id)):
                file.unlink(missing_ok=True)

    def _perform(self, task: Task) -> Row:
        try:
            return self._supervisor.perform(task).row
        except SetAsideError as error:  # it is alone already
            return self._supervisor.perform(task, aside=error.attempt).row

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._end()
        finally:
            self._folder.cleanup()
