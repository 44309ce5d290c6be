"""How a group of commands is run: errors become one sentence and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

import click

from flowprep.errors import FlowprepError, UnfinishedStoreError
from flowprep_cli.options import expand_homes
from flowprep_cli.streams import prepare_streams, say_no_more

_OF_A_PATH = frozenset({errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EROFS})
_OF_A_DISK = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT})
"""What the system says of a path that was given, or of its disk; other errors of the system are mistakes of ours."""


_READER_GONE = 128 + signal.SIGPIPE
"""As the shell says of other commands whose reader has gone: what was asked for was not handed over."""


def leave_with(group: click.Group, name: str, *, stopped: str, logged: Sequence[str] = ()) -> None:
    """Run the command that was given and leave with its exit code; `stopped` is said where it was interrupted.

    What the loggers named in `logged` say goes to stderr.
    """
    prepare_streams(logged)
    expand_homes(group)
    stdout = sys.stdout
    # A batch system ends a job with SIGTERM, a connection that is closed with SIGHUP: stop as cleanly as for Ctrl-C. A
    # run takes over all three while it works. Under `nohup` SIGHUP is ignored, and stays so.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        # click prints usage errors itself and leaves with 2; commands return their exit code.
        code = group.main(standalone_mode=False, prog_name=name)
        sys.stdout.flush()
    except click.exceptions.Exit as leave:
        code = leave.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except FlowprepError as error:
        click.echo(f"Error: {_sentence(error)}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo(stopped, err=True)
        code = 3
    except BrokenPipeError:  # the reader of stdout has gone, e.g. `flowprep info OUT | head`
        say_no_more()
        code = _READER_GONE
    except SystemExit as leave:  # what rich makes of that, and click, which puts another stdout in its place
        if not isinstance(leave.__context__, BrokenPipeError) and sys.stdout is stdout:
            raise
        say_no_more()
        code = _READER_GONE
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_A_PATH | _OF_A_DISK:
            code = _say_of_system(error)
        elif _is_in_a_group():
            traceback.print_exc()
            code = 1
        else:
            raise
    code = code if isinstance(code, int) else 0
    if _is_in_a_group():
        # An orderly end would wait for NCCL, and that for processes which wait for this one. torchrun ends those.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _sentence(error: FlowprepError) -> str:
    """What it says; of a store that is not finished also who is at work on it, if anybody is."""
    if isinstance(error, UnfinishedStoreError):
        from flowprep.driver import holders

        with contextlib.suppress(OSError):
            if at_work := [holder for holder in holders(error.store) if holder.beats]:
                return f"{error.store} is not finished: at work on it: {at_work[0].text()}; wait until it has ended"
    return str(error)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    if number == signal.SIGHUP:  # a second one comes from the shell
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt  # not by SIGINT, which a job in the background of a script ignores


def _is_in_a_group() -> bool:
    """Whether this is a process of torchrun that has failed in the midst of the others."""
    distributed = sys.modules.get("torch.distributed")  # not imported here for all the other commands
    return distributed is not None and distributed.is_available() and bool(distributed.is_initialized())


def _say_of_system(error: OSError) -> int:
    """What the system says of a path or a disk, as a sentence. Gives the exit code."""
    if error.filename is None:  # a full disk under `flowprep info OUT > FILE`
        say_no_more()
    is_of_disk = error.errno in _OF_A_DISK
    where = "stdout" if error.filename is None else os.fsdecode(error.filename)
    cure = "mend its disk and run again" if is_of_disk else "mend its permissions, or give another path"
    click.echo(f"Error: {where}: {error.strerror}; {cure}", err=True)
    return 3 if is_of_disk else 2
