"""`flowprep extract`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flowprep.cluster.settings import ClusterSettings
from flowprep.config import (
    DecodeSettings,
    ExtractSettings,
    FlowSettings,
    JpegSettings,
    QuantiseSettings,
    ResizeSettings,
    RunSettings,
    StoreSettings,
)
from flowprep.datasets import NAMES
from flowprep.errors import SettingsError
from flowprep_cli.options import parse_parameters, parse_size, settings_from, settings_options


@click.command(short_help="Extract flow and frames of a dataset.")
@click.option("--dataset", type=click.Choice(NAMES), required=True, help="Form of the dataset.")
@click.option("--root", type=click.Path(path_type=Path), default=Path("data"), show_default=True,
              help="Folder of datasets: ROOT/NAME/videos, ROOT/NAME/splits, ROOT/NAME/flow.")  # fmt: skip
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of the videos. [default: ROOT/NAME/videos]")
@click.option("--splits", type=click.Path(path_type=Path),
              help="Folder of the official lists, or the list file of --dataset list; of --dataset folder, a file with "
              "the columns path and split. [default: splits beside the videos, or ROOT/NAME/splits]")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="The store to write. [default: ROOT/NAME/flow]")
@click.option("--skip-bad-lines", is_flag=True, help="List entries with forbidden paths fail instead of refusing.")
@settings_options("store", StoreSettings)
@settings_options("flow", FlowSettings)
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE",
              help="A parameter of the flow algorithm, e.g. num_warps=3; repeat for more.")  # fmt: skip
@settings_options("quantise", QuantiseSettings)
@settings_options("resize", ResizeSettings)
@click.option("--size", metavar="WxH", help="Exact size of the stored frames, e.g. 340x256.")
@click.option("--keep-size", is_flag=True, help="Keep the size of the videos.")
@settings_options("jpeg", JpegSettings)
@settings_options("decode", DecodeSettings)
@settings_options("run", RunSettings)
@settings_options("cluster", ClusterSettings)
@click.option("--dry-run", is_flag=True,
              help="Say what would be done, by a measured sample; with --cluster print a job script.")  # fmt: skip
@click.option("--list-only", is_flag=True,
              help="Record the list in the store, anew if it has one, and do no more: before parts begin.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Build the store anew; the old one is replaced when all is done.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.pass_context
def extract(context: click.Context, /, **values: Any) -> int:
    """Extract optical flow and RGB frames of a video dataset.

    Run the same command again to resume; what is done is skipped.
    """
    settings = content_settings(context, values)
    run_settings = settings_from("run", RunSettings, values)
    cluster = settings_from("cluster", ClusterSettings, values)
    if values["dry_run"] and cluster.system is not None:
        from flowprep.cluster.batch import job_script
        from flowprep.cluster.configfile import read_config

        click.echo(job_script(cluster, read_config(cluster.config_file)), nl=False)
        return 0

    from flowprep.datasets import find_places
    from flowprep_cli.progress import show_list, show_plan, show_summary, shown_progress

    places = find_places(
        values["dataset"],
        root=values["root"],
        videos=values["videos"],
        splits=values["splits"],
        out=values["out"],
    )
    from flowprep import run
    from flowprep.request import Request

    request = Request(
        videos=places.videos,
        splits=places.splits,
        out=places.out,
        settings=settings,
        run=run_settings,
        cluster=cluster,
        skip_bad_lines=values["skip_bad_lines"],
        overwrite=values["overwrite"],
    )
    if values["dry_run"]:
        from flowprep.plan import plan as plan_of

        plan = plan_of(request, tell=lambda text: click.echo(text, err=True))
        if values["as_json"]:
            click.echo(json.dumps(plan.to_json(), indent=2))
        else:
            show_plan(plan)
        return 0
    with shown_progress() as listener:
        if values["list_only"]:
            saved = run.record_list(request, listener)
            show_list(saved, places.out, as_json=values["as_json"])
            return 0
        summary = run.execute(request, listener)
    if values["as_json"]:
        click.echo(json.dumps(summary.to_json(), indent=2))
    show_summary(summary, has_retry=True)
    return summary.exit_code


def content_settings(context: click.Context, values: dict[str, Any]) -> ExtractSettings:
    """The settings that the options ask for."""
    return ExtractSettings(
        dataset=values["dataset"],
        decode=settings_from("decode", DecodeSettings, values),
        resize=_resize_settings(context, values),
        flow=settings_from("flow", FlowSettings, values, parameters=parse_parameters(values["parameters"])),
        quantise=settings_from("quantise", QuantiseSettings, values),
        jpeg=settings_from("jpeg", JpegSettings, values),
        store=settings_from("store", StoreSettings, values),
    )


def _resize_settings(context: click.Context, values: dict[str, Any]) -> ResizeSettings:
    """One of --short-side, --size and --keep-size."""
    short_given = context.get_parameter_source("resize__short_side") is click.core.ParameterSource.COMMANDLINE
    if short_given + bool(values["size"]) + values["keep_size"] > 1:
        raise SettingsError("give one of --short-side, --size and --keep-size")
    if values["keep_size"]:
        return ResizeSettings(short_side=None)
    if values["size"]:
        width, height = parse_size(values["size"])
        return ResizeSettings(short_side=None, width=width, height=height)
    return ResizeSettings(short_side=values["resize__short_side"])
