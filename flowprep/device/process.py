"""The owner of a device as the run sees it: started when it is needed, watched, replaced when it dies."""

from __future__ import annotations

import threading
import time
from typing import Any, final

from flowprep.config import ExtractSettings
from flowprep.device import server
from flowprep.device.load import Load
from flowprep.errors import BackendUnavailableError, CannotWorkError
from flowprep.process import NONSENSE, START_SECONDS, AbortedError, LostError, SupervisedProcess

MAX_DEATHS = 3
"""In a row, without a batch in between: then the device is broken, and no video is to blame."""

_END_SECONDS = 30.0
"""For an owner to end when its input has; a driver may hang in giving a context back."""

_IDLE_SECONDS = 365 * 24 * 3600.0
_STALL_SECONDS = 120.0
_STALL_SECONDS_PER_MEGAPIXEL = 60.0
_BATCH_SECONDS_PER_MEGAPIXEL = 3.0
"""Of all pairs of a batch. OpenCV's TV-L1 on older cards does 2 to 4 pairs of 340x256 a second, as users have told."""


@final
class Device:
    """A device of a run. Threads share it."""

    def __init__(
        self, name: str, settings: ExtractSettings, abort: threading.Event, *, stall_seconds: float | None = None
    ) -> None:
        self.name, self.build, self.load = name, "", Load()
        self._settings, self._abort, self._stall_seconds = settings, abort, stall_seconds
        self._lock = threading.Lock()
        self._owner: _Owner | None = None
        self._num_deaths = 0

    def address(self, max_deaths: int = MAX_DEATHS) -> str:
        """Where its owner listens, which is started if none is alive.

        Raises:
            CannotWorkError: owners die again and again, or the backend, which ran, does not run here any more.
            BackendUnavailableError: the backend does not run here.
            AbortedError: the run ends now.
        """
        with self._lock:
            while self._owner is None or not self._owner.is_well():
                if self._owner is not None:
                    self._bury(self._owner)
                if self._num_deaths >= max_deaths:
                    raise CannotWorkError(
                        f"the process that owns {self.name} has died {self._num_deaths} times without computing "
                        f"anything; look at `nvidia-smi` and run the same command again"
                    )
                self._start()
            return self._owner.address

    def why_lost(self, address: str) -> LostError:
        """Why the owner that had `address` is gone; it is killed if it is not."""
        with self._lock:
            owner = self._owner
            if owner is None or owner.address != address:
                return LostError("gpu_crash", "the process that owns the device died", "")
            lost = self._bury(owner)
            what = "its process made no progress" if lost.code == "timeout" else lost.detail
            return LostError("gpu_crash", what.replace("its process", "the process that owns the device"), lost.stderr)

    def close(self) -> None:
        """Let the owner end."""
        with self._lock:
            if self._owner is not None:
                self._owner.end()
                self._owner = None

    def _start(self) -> None:
        process = _OwnerProcess(self._abort)
        try:
            address, build = process.introduce(self._settings, int(self.name.removeprefix("cuda:")))
        except LostError as error:
            process.kill()
            self._num_deaths += 1
            if self._num_deaths >= MAX_DEATHS:
                raise CannotWorkError(
                    f"the process that is to own {self.name} cannot start: {error.text()}; "
                    "mend that and run the same command again"
                ) from error
            return
        except BackendUnavailableError as error:
            process.kill()
            if not self.build:
                raise
            raise CannotWorkError(
                f"{self.name} has been lost, and no process can use it again: {error}; what was finished is kept, "
                "mend that and run the same command again"
            ) from error
        except BaseException:
            process.kill()
            raise
        self.build = build
        self._owner = _Owner(process, address, self._stall_seconds, self.load)

    def _bury(self, owner: _Owner) -> LostError:
        """See an owner off that is, or seems, dead."""
        lost = owner.end()
        self._num_deaths = 1 if owner.has_computed else self._num_deaths + 1
        self._owner = None
        return lost


@final
class _Owner:
    """One owner's life: a thread hears what it says, and kills it if it hangs."""

    def __init__(self, process: _OwnerProcess, address: str, stall_seconds: float | None, load: Load) -> None:
        self.address = address
        self._load = load
        self.has_computed = False
        self._process, self._stall_seconds = process, stall_seconds
        self._lost: LostError | None = None
        self._watcher = threading.Thread(target=self._watch, name="watch-device", daemon=True)
        self._watcher.start()

    def is_well(self) -> bool:
        """True while it lives."""
        return self._lost is None and self._process.is_alive()

    def end(self) -> LostError:
        """Let it end, and kill it if it does not; why it did."""
        if self._lost is None:
            self._process.end_input()
            self._watcher.join(_END_SECONDS)
            if self._watcher.is_alive():
                self._process.end_at_once()
        self._watcher.join()
        assert self._lost is not None, "the watcher ends with a reason"
        return self._lost

    def _watch(self) -> None:
        deadline = time.monotonic() + _IDLE_SECONDS
        try:
            while True:
                match self._process.receive(deadline):
                    case {"event": "begun", "pixels": int(num_pixels), "pairs": int(num_pairs)}:
                        seconds = self._stall_seconds or stall_seconds(num_pixels, num_pairs)
                        deadline = time.monotonic() + seconds
                    case {"event": "done", "waited": float(waited), "busy": float(busy)}:
                        self.has_computed = True
                        self._load.add(waited, busy)
                        deadline = time.monotonic() + _IDLE_SECONDS
                    case _:
                        raise self._process.lost("crash", NONSENSE)
        except LostError as error:
            self._lost = error
        except AbortedError:
            self._lost = LostError("crash", "the run has ended", "")
        finally:
            self._process.kill()


def stall_seconds(num_pixels: int, num_pairs: int) -> float:
    """Longest time for a batch of at most `num_pairs` pairs of frames of `num_pixels`.

    Two of the largest batches take less than what a worker may wait for its flow (`flowprep.limits`).
    """
    megapixels = num_pixels / 1e6
    per_megapixel = _STALL_SECONDS_PER_MEGAPIXEL + _BATCH_SECONDS_PER_MEGAPIXEL * num_pairs
    return _STALL_SECONDS + per_megapixel * megapixels


@final
class _OwnerProcess(SupervisedProcess):
    """The process itself."""

    def __init__(self, abort: threading.Event) -> None:
        super().__init__(server.COMMAND, abort)

    def introduce(self, settings: ExtractSettings, device: int) -> tuple[str, str]:
        """Tell it what to do; its address and build. Raises LostError or BackendUnavailableError."""
        work: dict[str, Any] = {"settings": settings.to_json(), "device": device}
        self.send({"work": work})
        match self.receive(time.monotonic() + START_SECONDS):
            case {"event": "ready", "address": str(address), "build": str(build)}:
                return address, build
            case {"event": "unusable", "error": str(reason)}:
                raise BackendUnavailableError(reason)
            case _:
                raise self.lost("crash", NONSENSE)
