"""`flowprep` in a process that dies by SIGKILL at a chosen change of the disk, it or its child.

Run as a script in place of the command: `python doomed.py <arguments of flowprep>`. The children that it starts are
this script too. What happens is said in the environment:

    FLOWPREP_TRACE  a file to which every change is appended: role, number in its process, primitive, target
    FLOWPREP_DOOM   `role:number:victims:mark`, with role `run` or `child`: before this change the victims (`child`, or
                    `both`) are killed. A write is half done by then. `mark` is made first; where it exists nothing
                    happens, so that of several children one dies.
"""

from __future__ import annotations

import functools
import os
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


class Doom:
    """Counts the changes of this process, and ends it."""

    def __init__(self, role: str) -> None:
        self.role, self.count = role, 0
        self.trace = os.environ.get("FLOWPREP_TRACE")
        role_to_end, number, self.victims, self.mark = os.environ.get("FLOWPREP_DOOM", "none:0:child:").split(":", 3)
        self.number = int(number) if role_to_end == role else 0

    def before(self, name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.count += 1
        if self.trace:
            with Path(self.trace).open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(f"{self.role}\t{self.count}\t{name}\t{_target(arguments)}\n")
        if self.count == self.number:
            try:
                os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
            if name in ("write", "write_at"):
                call(arguments[0], memoryview(arguments[1])[: len(arguments[1]) // 2], *arguments[2:])
            if self.victims == "both" and self.role == "child":
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)


def _target(arguments: tuple[Any, ...]) -> str:
    """What a change was made to: the last path among the arguments, or the file that a descriptor is of."""
    paths = [argument for argument in arguments if isinstance(argument, Path)]
    return str(paths[-1]) if paths else os.readlink(f"/proc/self/fd/{arguments[0]}")


def install(role: str) -> None:
    """Watch every primitive of `flowprep.commit` in this process."""
    from flowprep import commit

    doom = Doom(role)
    for name in PRIMITIVES:

        def watched(*arguments: Any, name: str, call: Callable[..., Any]) -> Any:
            doom.before(name, call, arguments)
            return call(*arguments)

        call = getattr(commit, name)
        setattr(commit, name, functools.partial(watched, name=name, call=call))


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
