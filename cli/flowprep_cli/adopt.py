"""`flowprep adopt`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from flowprep.config import LAYOUTS, FlowSettings, QuantiseSettings, RunSettings
from flowprep.datasets import NAMES
from flowprep.errors import MissingDataError, looking
from flowprep_cli.options import settings_from, settings_options

F = TypeVar("F", bound=Callable[..., Any])


def _fact(name: str, help: str) -> Callable[[F], F]:
    """An option for a fact that is never assumed: it has no default, unlike the setting of that name."""
    fields = {**QuantiseSettings.__dataclass_fields__, **FlowSettings.__dataclass_fields__}
    metadata = fields[name].metadata
    kind: Any = click.Choice(metadata["choices"]) if metadata["choices"] else (int if name == "step" else float)
    return click.option(metadata["option"], name, type=kind, metavar=metadata["metavar"], help=help)


@click.command(short_help="Take over a tree that another tool has made.")
@click.argument("dir", type=click.Path(path_type=Path))
@click.option("--layout", type=click.Choice(LAYOUTS), required=True, help="Names and alignment of the tree.")
@_fact("bound_px", "Bound in pixels that the flow was clipped to; never assumed.")
@_fact("rounding", "How the flow became 8 bits, round (denseflow, TSN, gpu_flow) or truncate; never assumed.")
@_fact("step", "Step of the flow, where layout and names leave it open.")
@click.option("--dataset", type=click.Choice([name for name in NAMES if name != "list"]), default="folder",
              show_default=True, help="Form of the dataset that the tree was made of.")  # fmt: skip
@click.option("--splits", type=click.Path(path_type=Path), help="Folder of the official lists.")
@click.option("--trust-rounding", is_flag=True, help="Take --rounding although the zero level of the flow contradicts.")
@settings_options("run", RunSettings, without=("retry", "memory_gib", "stall_seconds", "part", "device"),
                  jobs="Videos that are checked at a time; 0 is one a core.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def adopt(dir: Path, *, layout: str, bound_px: float | None, rounding: str | None, step: int | None, dataset: str,
          splits: Path | None, trust_rounding: bool, as_json: bool, **values: Any) -> int:  # fmt: skip
    """Make a store of the tree DIR that denseflow, TSN, mmaction2 or Feichtenhofer's gpu_flow has made.

    Every JPEG is read and checked and none is touched: the books of a store are written beside them. Run it again when
    files were mended.
    """
    run_settings = settings_from("run", RunSettings, values)

    from flowprep.adopt import adopt as adopt_tree
    from flowprep.datasets import find_places
    from flowprep.stores.foreign import Facts
    from flowprep_cli.progress import show_summary, shown_progress

    with looking():
        if not dir.is_dir():
            raise MissingDataError(f"there is no folder {dir}; give the tree that another tool has made")
    places = find_places(dataset, videos=dir, splits=splits, out=dir)
    with shown_progress("adopt") as listener:
        adopted = adopt_tree(
            dir,
            Facts(layout=layout, bound_px=bound_px, rounding=rounding, step=step),
            dataset=dataset,
            splits=places.splits,
            trust_rounding=trust_rounding,
            run=run_settings,
            listener=listener,
        )
    if as_json:
        click.echo(json.dumps(adopted.to_json(), indent=2))
    show_summary(adopted.summary)
    return adopted.summary.exit_code
