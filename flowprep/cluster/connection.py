"""A Dask cluster as the engine sees it. Dask is imported where it is needed, so that nothing else waits for it."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, final

from flowprep.cluster import worker
from flowprep.cluster.engine import Connect, Events
from flowprep.cluster.flights import EngineLostError
from flowprep.cluster.security import address_of, check_address, client_security
from flowprep.cluster.settings import ClusterSettings
from flowprep.cluster.waits import Waits
from flowprep.errors import MissingDataError, SettingsError

_log = logging.getLogger(__name__)
FUNCTIONS: dict[str, Callable[[str], None]] = {"join": worker.join, "perform": worker.perform}
_PRIORITY = {"join": 100, "perform": 0}
_LEAVE_SECONDS = 5.0
_LEAVING = frozenset({"closing", "closing_gracefully"})
_LOOK_SECONDS = 0.1
_LOGGERS = frozenset({"distributed", "dask_jobqueue", "tornado", "asyncio"})


def require_dask() -> None:
    """Raises SettingsError where Dask is not installed."""
    try:
        import distributed

        _ = distributed
    except ImportError as error:
        raise SettingsError(
            f"clusters need Dask, which is not installed ({error}); pip install 'flowprep[cluster]'"
        ) from error


@contextlib.contextmanager
def quiet_dask() -> Iterator[None]:
    """Keep Dask from logging while this lasts: what it says of workers that die is no news here."""
    import distributed.client

    _ = distributed.client  # which sets the levels of its loggers when it is imported
    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _LOGGERS]
    before = {name: logging.getLogger(name).level for name in {*known, *_LOGGERS}}
    level = logging.CRITICAL + 1
    if _log.isEnabledFor(logging.DEBUG):
        level = logging.WARNING
    try:
        for name in before:
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for name, old in before.items():
            logging.getLogger(name).setLevel(old)


@final
class DaskConnection:
    """Implements `Connection` by a client of a scheduler at `address`.

    `closed` is called when it is closed, `obstacles` for what is known of workers that do not come.
    """

    def __init__(
        self,
        address: str,
        security: Any,
        waits: Waits,
        token: str,
        events: Events,
        *,
        name: str = "",
        num_expected: int = 0,
        closed: Callable[[], None] = lambda: None,
        obstacles: Callable[[], list[str]] = list,
        functions: dict[str, Callable[[str], None]] | None = None,
    ) -> None:
        from distributed import Client

        self.name = name or f"the Dask cluster at {address}"
        self.num_expected = num_expected
        self._closed, self._obstacles = closed, obstacles
        self._token, self._events, self._waits = token, events, waits
        self._functions = FUNCTIONS if functions is None else functions
        self._handles: dict[int, Any] = {}

        def connected() -> Any:
            return Client(
                address,
                security=security,
                timeout=waits.connect_seconds,
                set_as_default=False,
                name=f"flowprep-{token}",
            )

        try:
            # Its own limit is for the connection alone: for what a frozen scheduler says then it would wait for ever.
            self._client = _within(waits.connect_seconds + _LEAVE_SECONDS, connected)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            closed()
            raise EngineLostError(
                f"no Dask scheduler answers at {address} as it should ({type(error).__name__}: {reason})"
            ) from error
        self._client.subscribe_topic(worker.topic_of(token), lambda event: events.put(("report", event[1])))

    def threads_of_workers(self) -> dict[str, int]:
        """See `Connection`."""
        self._check()
        try:
            found = self._client.sync(self._client.scheduler.ncores, callback_timeout=self._waits.reply_seconds)
        except Exception as error:
            raise EngineLostError(f"the scheduler of {self.name} does not reply") from error
        return {str(address): int(num_threads) for address, num_threads in found.items()}

    def has_left(self, worker: str) -> bool:
        """See `Connection`. The scheduler keeps what it hears of a worker for an hour after that has gone."""
        self._check()
        try:
            said = self._client.sync(
                self._client.scheduler.events, topic=worker, callback_timeout=self._waits.reply_seconds
            )
        except Exception as error:
            raise EngineLostError(f"the scheduler of {self.name} does not reply") from error
        has_left = False
        for _, event in said:
            match event:
                case {"action": "add-worker"}:  # of that address, one after another
                    has_left = False
                case {"action": "worker-status-change", "status": str(status)}:
                    has_left = status in _LEAVING
        return has_left

    def obstacles(self) -> list[str]:
        """See `Connection`."""
        return self._obstacles()

    def submit(self, function: str, order: str, worker: str, number: int) -> object:
        """See `Connection`."""
        self._check()
        try:
            future = self._client.submit(
                self._functions[function],
                order,
                key=f"flowprep-{self._token}-{number}",
                workers=[worker],
                allow_other_workers=False,
                pure=False,
                priority=_PRIORITY[function],
            )
            future.add_done_callback(lambda done: self._events.put(("ended", number, _error_of(done))))
        except Exception as error:
            raise EngineLostError(f"{self.name} takes no work: {error}") from error
        return future

    def drop(self, handle: object) -> None:
        """See `Connection`. The scheduler forgets what no client wants, and does not begin it."""
        with contextlib.suppress(Exception):  # one of a client that has gone
            handle.release()  # type: ignore[attr-defined]

    def dump(self) -> str:
        """See `Connection`."""
        try:
            processing = self._client.sync(
                self._client.scheduler.processing, workers=None, callback_timeout=self._waits.reply_seconds
            )
        except Exception as error:  # noqa: BLE001 - as above
            return f"the scheduler does not say anything ({type(error).__name__})"
        return "; ".join(
            f"{address} has {', '.join(map(str, keys)) or 'nothing'}" for address, keys in processing.items()
        )

    def close(self, *, at_once: bool) -> None:
        """See `Connection`."""
        thread = threading.Thread(target=self._close, args=(at_once,), name="leave-cluster", daemon=True)
        thread.start()
        thread.join(2 * _LEAVE_SECONDS)
        self._closed()

    def _close(self, at_once: bool) -> None:
        with contextlib.suppress(Exception):  # whatever is not there any more needs no word from us
            if self._client.status == "running":
                self._client.run(worker.leave, self._token, at_once=at_once, on_error="ignore", wait=True)
        with contextlib.suppress(Exception):
            self._client.close(timeout=_LEAVE_SECONDS)

    def _check(self) -> None:
        if self._client.status != "running":
            raise EngineLostError(f"the scheduler of {self.name} has gone")


def _within(seconds: float, work: Callable[[], Any]) -> Any:
    """What `work` gives. Raises what it raises, and TimeoutError where it takes longer; then it is left to itself."""
    results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is taken
            results.put((None, error))

    threading.Thread(target=run, name="connect", daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"it says nothing for {seconds:.0f} s") from None
    if error is not None:
        raise error
    return result


def _error_of(future: Any) -> str:
    """What Dask says of something that has ended, "" where all is well."""
    if future.status == "finished":
        return ""
    if future.status != "error":
        return f"Cancelled ({future.status})"
    try:
        error = future.exception(timeout=1)
    except Exception as failure:  # noqa: BLE001 - only its text is of interest
        error = failure
    return f"{type(error).__name__}: {error}"


def check_running(settings: ClusterSettings) -> str:
    """The cluster of `--dask` as it is given. Raises SettingsError or MissingDataError where it may not be used."""
    assert settings.dask is not None, "the caller has looked"
    if importlib.util.find_spec("distributed") is None:  # loading it takes a second, which what is refused need not
        require_dask()
    address = address_of(settings.dask)
    check_address(address, settings)
    client_security(address, settings)
    return settings.dask


def connect_running(settings: ClusterSettings, waits: Waits) -> Connect:
    """What connects with the running cluster of `--dask`. Raises SettingsError and MissingDataError at once."""
    given = check_running(settings)

    def connect(token: str, events: Events) -> DaskConnection:
        address = _written_address(given, waits.connect_seconds)
        check_address(address, settings)
        return DaskConnection(address, client_security(address, settings), waits, token, events)

    return connect


def _written_address(given: str, seconds: float) -> str:
    """The address of a scheduler that may be about to begin anew: one that ends removes its file."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return address_of(given)
        except (MissingDataError, SettingsError) as error:
            if time.monotonic() > deadline:
                raise EngineLostError(f"no Dask scheduler has written {given} for {seconds:.0f} s") from error
        time.sleep(_LOOK_SECONDS)
