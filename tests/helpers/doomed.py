"""`flowprep` in a process that dies by SIGKILL at chosen changes of the disk, it or its child.

Run as a script in place of the command: `python doomed.py <arguments of flowprep>`. The children that it starts are
this script too. What happens is said in the environment:

    DOOM_STEPS    steps, one a line: `role primitive pattern`, with role `run` or `child`; the pattern is a regular
                  expression that is looked for in the target's path
    DOOM_MARKS    a folder. Where a change is of a step for the first time, a file with the number of the step is made
                  there, and SIGKILL comes before the change; a write is half done by then
    DOOM_VICTIMS  `both`: a step of a child ends the run too. `child`: the child alone; then a child lives on through
                  the first video that it finishes, since a video may cost two of them only once
"""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PRIMITIVES = (
    "open_new",
    "open_existing",
    "write",
    "write_at",
    "fsync",
    "sync_file_system",
    "close",
    "rename",
    "link",
    "make_folder",
    "unlink",
)
_RECORD = re.compile(r"/(rows|commits)/../[0-9a-f]{64}\.(json|clip)$")


class Doom:
    """Looks at the changes of this process, and ends it."""

    def __init__(self, role: str) -> None:
        self._role, self._marks = role, Path(os.environ["DOOM_MARKS"])
        self._ends_both = os.environ["DOOM_VICTIMS"] == "both"
        self._steps = [line.split(maxsplit=2) for line in os.environ["DOOM_STEPS"].splitlines()]
        self._is_armed = self._ends_both or not any(self._marks.iterdir())

    def change(self, name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        target = _target(arguments)
        if self._is_armed and self._is_last(name, target):
            if name in ("write", "write_at"):
                call(arguments[0], memoryview(arguments[1])[: len(arguments[1]) // 2], *arguments[2:])
            if self._ends_both and self._role == "child":
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments)
        self._is_armed |= name == "rename" and _RECORD.search(target) is not None
        return result

    def _is_last(self, name: str, target: str) -> bool:
        for number, (role, primitive, pattern) in enumerate(self._steps):
            if (role, primitive) == (self._role, name) and re.search(pattern, target):
                try:
                    (self._marks / str(number)).touch(exist_ok=False)
                except FileExistsError:
                    continue
                return True
        return False


def _target(arguments: tuple[Any, ...]) -> str:
    """What a change was made to: the last path among the arguments, or the file that a descriptor is of."""
    paths = [argument for argument in arguments if isinstance(argument, Path)]
    return str(paths[-1]) if paths else os.readlink(f"/proc/self/fd/{arguments[0]}")


def install(role: str) -> None:
    """Watch every primitive of `flowprep.commit` in this process."""
    from flowprep import commit

    doom = Doom(role)
    for name in PRIMITIVES:
        call = functools.partial(_watched, doom, name, getattr(commit, name))
        setattr(commit, name, call)


def _watched(doom: Doom, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
    return doom.change(name, call, arguments)


if __name__ == "__main__":
    from flowprep import child

    if sys.argv[1:2] == ["--child"]:
        install("child")
        child.main(sys.argv[2:])
    else:
        install("run")
        child.COMMAND = (sys.executable, __file__, "--child")
        from flowprep_cli.main import main

        main()
