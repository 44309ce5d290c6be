"""Entry point of `flowprep`: the group of its commands."""

from __future__ import annotations

import logging

import click

from flowprep import __version__
from flowprep_cli.adopt import adopt
from flowprep_cli.bench import bench
from flowprep_cli.convert import convert
from flowprep_cli.doctor import doctor
from flowprep_cli.entry import leave_with
from flowprep_cli.extract import extract
from flowprep_cli.flow import flow
from flowprep_cli.info import info
from flowprep_cli.lists import lists
from flowprep_cli.merge import merge
from flowprep_cli.preview import preview
from flowprep_cli.status import status
from flowprep_cli.synth import synth
from flowprep_cli.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="flowprep")
def cli() -> None:
    """Turn a video dataset into TV-L1 optical flow and RGB frames.

    \b
    flowprep extract --dataset ucf101      the main job, on data/ucf101/videos
    flowprep doctor                        what runs on this machine
    """  # noqa: D301 - click takes the backspace as "do not wrap"


for command in (extract, info, flow, doctor, bench, synth, merge, status, convert, adopt, lists, preview, verify):
    cli.add_command(command)


def main() -> None:
    """Run `flowprep` and leave with its exit code.

    0: all videos are in the store. 1: finished, but some failed. 2: wrong use or settings. 3: stopped early, run again
    to resume. 4: a store is damaged. 141: the reader of stdout has gone, as of `flowprep info OUT` piped into `head`.
    """
    # Notes come from the run's listener; a second copy from the logger of the library would only repeat them.
    logging.getLogger("flowprep").addHandler(logging.NullHandler())
    # But that kernels are being compiled, or cannot be kept, is said nowhere else, nor that a cluster is open to
    # others, or what one was at when it got stuck.
    logged = ("flowprep.flow", "flowprep.cluster")
    stopped = "Stopped. What was committed is kept; run the same command again to resume."
    leave_with(cli, "flowprep", stopped=stopped, logged=logged)
