"""The error family: every error is one sentence that names the thing, the problem and the cure.

Each class also inherits the builtin that a caller would expect, so `except ValueError` works without importing
anything from here. `exit_code` is what the command line leaves with (0 ok, 1 some videos failed, 2 wrong use or
settings, 3 stopped early or not finished, 4 damage found).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar


class FlowprepError(Exception):
    """Base of all errors that flowprep raises on purpose."""

    exit_code: ClassVar[int] = 1


class SettingsError(FlowprepError, ValueError):
    """A setting, option or combination of them is wrong; nothing has been done yet."""

    exit_code = 2


class DatasetError(FlowprepError, ValueError):
    """A list, split file or folder does not have the form that the dataset needs; nothing has been done yet."""

    exit_code = 2


class MissingDataError(FlowprepError, FileNotFoundError):
    """A file or folder that the command needs does not exist."""

    exit_code = 2


@contextlib.contextmanager
def looking() -> Iterator[None]:
    """Raise MissingDataError where a file or folder cannot even be looked for, as below a folder of another user."""
    try:
        yield
    except FlowprepError:
        raise
    except OSError as error:
        raise MissingDataError(
            f"{error.filename or error} cannot be looked at: {error.strerror}; see that the folders on the way may be "
            "entered and read, or name another place"
        ) from error


class BackendUnavailableError(FlowprepError, RuntimeError):
    """A flow backend was asked for by name and cannot run here. The message has the reason and the cure."""

    exit_code = 2


class DeviceMemoryError(FlowprepError, MemoryError):
    """A device, or this machine, has too little memory for what a setting asks for. The message names the setting."""

    exit_code = 2


class StoreError(FlowprepError, ValueError):
    """A store (tree, shard, manifest) is damaged, unsafe or of another format."""

    exit_code = 4


class UnfinishedStoreError(StoreError):
    """A store whose run has not ended, or is at work on it again. `store` is its folder."""

    exit_code = 3

    def __init__(self, message: str, store: Path) -> None:
        super().__init__(message)
        self.store = store


class UnknownVideoError(FlowprepError, KeyError):
    """A store has no stored video of the id that was asked for."""

    exit_code = 2
    __str__ = Exception.__str__  # KeyError would show the message in quotes


class FrameIndexError(FlowprepError, IndexError):
    """A stored video has no image or flow of the index that was asked for."""

    exit_code = 2


class RunStoppedError(FlowprepError, OSError):
    """The run cannot go on (disk full, interrupted); what was committed is kept and a later run resumes."""

    exit_code = 3


class DiskFullError(RunStoppedError):
    """The disk or quota of the store is full: no machine can go on."""


class CannotWorkError(RunStoppedError):
    """This machine cannot do the work: processes do not start here, or its device is broken. Another one might."""


class VideoError(FlowprepError, ValueError):
    """One video cannot be extracted. Ends as that video's `failed` state and costs no other video anything.

    `code` is a word of `records.REASONS`; `detail` is one sentence for people.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str]]:
        """Pickles, so that it can cross to another process."""
        return type(self), (self.code, self.detail)


class DeviceLostError(FlowprepError, ConnectionError):
    """The process that computes flow on a device has died, and takes what it had in work with it.

    That says nothing about any of these videos; they are done again.
    """

    exit_code = 3
