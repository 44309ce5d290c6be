"""`fusion-train import-weights`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("import-weights", short_help="A MATLAB file of weights as a state dict.")
@click.argument("file", metavar="FILE.mat", type=click.Path(path_type=Path))
@click.option("-o", "--out", metavar="FILE.pt", type=click.Path(path_type=Path), help="[default: beside FILE.mat]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def import_weights(file: Path, out: Path | None, as_json: bool) -> None:
    """Read a net of MatConvNet, say what it is, and write it as FILE.pt.

    ImageNet's VGG-M-2048, VGG-16 and ResNet-50, the authors' single streams and fused nets. Trainings read such files
    by themselves too (`--weights FILE.mat`).
    """
    from fusion_train.models.importing import import_mat

    out = out or file.with_suffix(".pt")
    net = import_mat(file, out)
    if as_json:
        streams = [stream.to_json() for stream in net.streams]
        click.echo(json.dumps({"out": str(out), "streams": streams, "filters": net.filters}, indent=2))
        return
    for stream in net.streams:
        mean = " ".join(f"{value:.1f}" for value in stream.mean[:3]) + (" .." if len(stream.mean) > 3 else "")
        click.echo(
            f"{stream.name} stream: {stream.backbone}, {stream.in_channels} input channels of mean {mean}; "
            f"{', '.join(stream.layers)}; {stream.num_classes} classes"
        )
    for shape in net.filters:
        click.echo(f"fusion filter: {' x '.join(str(side) for side in shape)}")
    click.echo(f"{out}: take it with --weights, or --set model.spatial_weights and the like")
