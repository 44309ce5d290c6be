"""A file for the user that appears under its name whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from flowprep.errors import MissingDataError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The path of a new file beside `path`, to be written in the block; it takes the name `path` at the block's end.

    If the block raises, the file is removed and what `path` was before stays.

    Raises:
        MissingDataError: The file cannot be written, with the reason.
    """
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise MissingDataError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
