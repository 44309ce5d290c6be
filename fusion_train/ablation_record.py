"""What a run of an ablation's row was made with, and whether that is what is asked for now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flowprep.settings import differences
from fusion_train.ablation_plan import PlannedNetwork, PlannedRow
from fusion_train.initial_files import comparable
from fusion_train.stages import lasting_of_stage


def record_of(
    row: PlannedRow,
    split: str,
    seed: int,
    manifest_sha256: str,
    initial: Callable[[PlannedNetwork], Mapping[str, str]],
) -> dict[str, Any]:
    """What a run of a row must have been made with to count: plain JSON, without where its networks lie.

    `initial` gives the SHA-256 sums of a network's files of initial weights, see `initial_files.initial_sha256`. Those
    of streams that are networks of the row too are left out.
    """
    networks = {one.name: lasting_of_stage(one.settings_of(Path(), split, seed)) for one in row.all_networks}
    sums = {one.name: initial(one).items() for one in row.all_networks}
    return {
        "manifest_sha256": manifest_sha256,
        "networks": networks,
        "initial_sha256": {
            name: {field: sha256 for field, sha256 in found if field in networks[name]["model"]}
            for name, found in sums.items()
        },
        "evaluated": {one.name: one.settings.data.to_json() for one in row.networks},
        "lists_sha256": dict(zip(row.splits, row.lists_sha256, strict=False)).get(split),
    }


def changed(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """One text for each thing in which two records differ. Files of weights do by their sums, or by where they lie.

    Raises KeyError, TypeError, ValueError or AttributeError where `there` is no record.
    """
    sums_there = there.get("initial_sha256", {})
    there = {"lists_sha256": asked["lists_sha256"], **there}  # older records have neither
    mine, theirs = dict(asked["networks"]), dict(there.get("networks", {}))
    for name in mine.keys() & theirs.keys():
        sums = sums_there.get(name), asked["initial_sha256"][name]
        theirs[name], mine[name] = comparable(theirs[name], mine[name], *sums)
    compared = {"networks": theirs, "initial_sha256": {}}, {"networks": mine, "initial_sha256": {}}
    return differences({**there, **compared[0]}, {**asked, **compared[1]})
