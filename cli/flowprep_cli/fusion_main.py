"""Entry point of `fusion-train`: the group of its commands."""

from __future__ import annotations

import click

from flowprep import __version__
from flowprep_cli.entry import leave_with
from flowprep_cli.fusion_ablate import ablate
from flowprep_cli.fusion_bench import bench
from flowprep_cli.fusion_check import check
from flowprep_cli.fusion_evaluate import evaluate
from flowprep_cli.fusion_fuse import fuse
from flowprep_cli.fusion_import import import_weights
from flowprep_cli.fusion_predict import predict
from flowprep_cli.fusion_report import report
from flowprep_cli.fusion_run import run
from flowprep_cli.fusion_training import train


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="fusion-train")
def cli() -> None:
    """Train two-stream fusion networks on what `flowprep` has extracted.

    \b
    fusion-train run                       all networks of the paper, on the one store under data/
    fusion-train check data/ucf101/flow    whether a store is fit for training
    """  # noqa: D301 - click takes the backspace as "do not wrap"


for command in (run, check, train, evaluate, fuse, predict, ablate, report, import_weights, bench):
    cli.add_command(command)


def main() -> None:
    """Run `fusion-train` and leave with its exit code, which means what it means for `flowprep`."""
    leave_with(cli, "fusion-train", stopped="Stopped. Run the same command again; a training goes on where it was.")


if __name__ == "__main__":  # python -m flowprep_cli.fusion_main, where the command is not installed
    main()
