"""How a group of commands is run: errors become one sentence and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback

import click

from flowprep.errors import FlowprepError


def leave_with(group: click.Group, name: str, *, stopped: str) -> None:
    """Run the command that was given and leave with its exit code; `stopped` is said where it was interrupted."""
    # A batch system ends a job with SIGTERM: stop as cleanly as for Ctrl-C. A run takes over both while it works.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        # click prints usage errors itself and leaves with 2; commands return their exit code.
        code = group.main(standalone_mode=False, prog_name=name)
    except click.exceptions.Exit as leave:
        code = leave.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except FlowprepError as error:
        click.echo(f"Error: {error}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo(stopped, err=True)
        code = 3
    except BrokenPipeError:  # the reader of stdout has gone, e.g. `flowprep info OUT | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception:
        if not _is_in_a_group():
            raise
        traceback.print_exc()
        code = 1
    code = code if isinstance(code, int) else 0
    if _is_in_a_group():
        # An orderly end would wait for NCCL, and that for processes which wait for this one. torchrun ends those.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _is_in_a_group() -> bool:
    """Whether this is a process of torchrun that has failed in the midst of the others."""
    distributed = sys.modules.get("torch.distributed")  # not imported here for all the other commands
    return distributed is not None and distributed.is_available() and bool(distributed.is_initialized())
