"""From rows of the paper to networks: which settings each has, and which of them rows share.

A stream belongs to its backbone, a fused network to its recipe; rows of whatever table that need the same one have it
under the same name, so it is trained once a split and seed.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from flowprep.errors import SettingsError
from flowprep.stores import Store
from flowprep.stores.splitsfile import read_splits
from fusion_train.ablation_rows import PAPER_ROWS, TABLES, PaperRow, Recipe
from fusion_train.config import FusionSettings, ModelSettings
from fusion_train.data.splits import lists_sha256
from fusion_train.initial_files import FIELDS, place
from fusion_train.models.build import new_network
from fusion_train.overrides import overridden
from fusion_train.protocols import full_settings
from fusion_train.run import chosen_splits
from fusion_train.train import NETWORK

LAYERS = {
    "vggm": {name: name for name in ("relu2", "relu3", "relu4", "relu5", "fc6", "fc8")},
    "vgg16": {"relu2": "relu2_2", "relu3": "relu3_3", "relu4": "relu4_3", "relu5": "relu5_3", "fc6": "fc6",
              "fc8": "fc8"},
    "resnet50": {"relu2": "res2c", "relu3": "res3d", "relu4": "res4f", "relu5": "res5c", "fc8": "fc"},
    "debug": {"relu2": "relu1", "relu3": "relu2", "relu5": "relu3", "fc6": "fc4", "fc8": "fc5"},
}  # fmt: skip
"""What stands for the layers of VGG-M in other backbones: the last one before the same pooling, or none."""

_DECIDED = ("model.network", "model.spatial", "model.temporal", "model.fusion", "model.at", "model.temporal_fusion",
            "model.keep_temporal", "train.split", "train.seed")  # fmt: skip
_NUM_CLASSES = {"ucf101": 101, "hmdb51": 51}
_FREE = ("num_threads", "log_every", "save_every", "tensorboard", "clips_at_once")


@final
@dataclass(frozen=True, kw_only=True)
class PlannedNetwork:
    """A network under its name, with the settings of seed 0 and the first split, and what it starts from.

    How it is evaluated (`settings.data`) is the row's; all else is the same wherever the name is.
    """

    name: str
    settings: FusionSettings
    starts_from: tuple[PlannedNetwork, ...] = ()

    def folder(self, out: Path, split: str, seed: int) -> Path:
        """Where the network of a split and seed lies."""
        return out / "networks" / self.name / f"split_{split}" / f"seed_{seed}"

    def settings_of(self, out: Path, split: str, seed: int) -> FusionSettings:
        """The settings of one training; a fused network has the streams that it starts from in them."""
        settings = self.settings
        model = settings.model
        if self.starts_from:
            weights = {f"{below.settings.model.network}_weights": str(below.folder(out, split, seed) / NETWORK)
                       for below in self.starts_from}  # fmt: skip
            # What it starts from has the last layers too, whatever the streams were initialised with.
            model = dataclasses.replace(model, random_fc=False, **weights)  # type: ignore[arg-type]
        train = dataclasses.replace(settings.train, split=split, seed=seed)
        return dataclasses.replace(settings, model=model, train=train)


@final
@dataclass(frozen=True, kw_only=True)
class PlannedRow:
    """A row, with the networks whose scores it averages. `left_out` says why it cannot be had, or is cited: no network.

    `num_layers` counts layers with weights, of all its networks; `lists_sha256` are of the lists of its splits.
    """

    paper: PaperRow
    splits: tuple[str, ...]
    lists_sha256: tuple[str, ...] = ()
    networks: tuple[PlannedNetwork, ...] = ()
    num_layers: int | None = None
    num_parameters: int | None = None
    left_out: str = ""
    notes: tuple[str, ...] = ()

    @property
    def all_networks(self) -> tuple[PlannedNetwork, ...]:
        """Its networks, each after those that it starts from."""
        found = {one.name: one for network in self.networks for one in (*network.starts_from, network)}
        return tuple(found.values())


@final
@dataclass(frozen=True, kw_only=True)
class AblationPlan:
    """All rows of the tables that were asked for; `chosen` are the names of those to be run."""

    dataset: str
    preset: str | None
    sets: tuple[str, ...]
    rows: tuple[PlannedRow, ...]
    chosen: frozenset[str]
    seeds: tuple[int, ...]

    @property
    def paper_dataset(self) -> str | None:
        """The data set of which the paper has figures, None where it is another one."""
        return self.dataset if self.dataset in ("ucf101", "hmdb51") else None


def plan_ablation(
    store: Store,
    *,
    tables: Sequence[int],
    only: Sequence[str] = (),
    num_seeds: int = 1,
    split: str | None = None,
    preset: str | None = None,
    sets: Sequence[str] = (),
) -> AblationPlan:
    """What an ablation on a store consists of. Nothing is read but the splits, and nothing is trained.

    Args:
        store: Of the videos.
        tables: Numbers of the paper's tables; with `only` those of its rows are added, and are all where none is given.
        only: Names of the rows to be run. All where none is given.
        num_seeds: Seeds are 0, 1, ..
        split: For all tables, a name or `all`; by default 1, or all of them where the paper's table has all.
        preset: Takes the place of all networks.
        sets: As `--set` takes them.

    Raises:
        SettingsError: A table, row, preset or setting does not exist, or a setting is one that rows differ in.
        DatasetError: The store has no official split.
    """
    _check(tables, only, num_seeds, sets)
    dataset = read_splits(store.path).dataset
    num_classes = len(read_splits(store.path).classes)
    wanted = {*tables, *(int(name.partition("-")[0]) for name in only)} or set(TABLES)
    rows: list[PlannedRow] = []
    for paper in PAPER_ROWS:
        if paper.table in wanted:
            splits = chosen_splits(store, split or ("all" if TABLES[paper.table].all_splits else "1"))
            row = _planned(paper, splits, dataset, num_classes, preset, sets, rows)
            rows.append(dataclasses.replace(row, lists_sha256=tuple(lists_sha256(store, name) for name in splits)))
    return AblationPlan(
        dataset=dataset,
        preset=preset,
        sets=tuple(f"{path}={value}" for path, value in lasting_sets(sets).items()),
        rows=tuple(rows),
        chosen=frozenset(only or (row.paper.name for row in rows)),
        seeds=tuple(range(num_seeds)),
    )


def lasting_sets(sets: Sequence[str]) -> dict[str, str]:
    """What `--set` texts set by path, the last one counting, without what may change from one call to the next.

    Files of weights are named by where their paths lead.
    """
    found = {}
    for text in sets:
        path, _, value = (part.strip() for part in text.partition("="))
        field = path.rpartition(".")[2]
        if field not in _FREE:
            found[path] = place(value) if field in FIELDS else value
    return found


def _check(tables: Sequence[int], only: Sequence[str], num_seeds: int, sets: Sequence[str]) -> None:
    for number in tables:
        if number not in TABLES:
            raise SettingsError(f"`table` must be one of {', '.join(map(str, TABLES))}, got {number}")
    names = [row.name for row in PAPER_ROWS if row.recipe is not None]
    for name in only:
        if name not in names:
            raise SettingsError(f"there is no row {name!r} to run; there are {', '.join(names)}")
    if num_seeds < 1:
        raise SettingsError(f"`seeds` must be at least 1, got {num_seeds}")
    for text in sets:
        path = ".".join(text.partition("=")[0].strip().split(".")[-2:])
        if path in _DECIDED:
            cure = {"train.seed": "; give --seeds", "train.split": "; give --split"}.get(
                path, "; give --preset or --only"
            )
            raise SettingsError(f"`{path}` is what rows are made of, and --set cannot change it{cure}")


def _planned(
    paper: PaperRow,
    splits: tuple[str, ...],
    dataset: str,
    num_classes: int,
    preset: str | None,
    sets: Sequence[str],
    before: Sequence[PlannedRow],
) -> PlannedRow:
    notes = (*paper.notes, *(paper.of_ucf101 if dataset == "ucf101" else ()))
    if num_classes != _NUM_CLASSES.get(dataset, num_classes):
        notes = (*notes, f"The paper's figures are of {_NUM_CLASSES[dataset]} classes, this store has {num_classes}.")
    recipe = paper.recipe
    if recipe is None:
        return PlannedRow(paper=paper, splits=splits, notes=notes)
    family = "hmdb51" if dataset == "hmdb51" else "ucf101"
    streams = [_stream(which, family, getattr(recipe, which), paper.table, preset, sets)
               for which in ("spatial", "temporal")]  # fmt: skip
    if recipe.what != "fused":
        networks = tuple(one for one in streams if recipe.what in ("late fusion", one.settings.model.network))
    else:
        fused = _fused(recipe, family, paper.table, preset, sets, streams)
        if isinstance(fused, str):
            return PlannedRow(paper=paper, splits=splits, left_out=fused, notes=notes)
        networks = (fused,)
        if preset is not None:
            notes = (*notes, f"Fused at {fused.settings.model.at} of {preset}.")
    if same := [row for row in before if row.paper.table == paper.table and _names(row.networks) == _names(networks)]:
        why = f"with {preset} the same as {same[0].paper.name}"
        return PlannedRow(paper=paper, splits=splits, left_out=why, notes=notes)
    try:
        sizes = [_size(one.settings.model, num_classes) for one in networks]
    except SettingsError as error:
        if preset is None:
            raise
        return PlannedRow(paper=paper, splits=splits, left_out=str(error), notes=notes)
    return PlannedRow(
        paper=paper,
        splits=splits,
        networks=networks,
        num_layers=sum(size[0] for size in sizes),
        num_parameters=sum(size[1] for size in sizes),
        notes=notes,
    )


def _stream(
    which: str, family: str, backbone: str, table: int, preset: str | None, sets: Sequence[str]
) -> PlannedNetwork:
    settings = full_settings(preset or f"{family}-{backbone}", which)
    data = dataclasses.replace(settings.data, num_test_clips=TABLES[table].num_test_frames)
    settings = overridden(dataclasses.replace(settings, data=data), sets, stage=which)
    return PlannedNetwork(name=f"{preset or backbone}-{which}", settings=settings)


def _fused(
    recipe: Recipe, family: str, table: int, preset: str | None, sets: Sequence[str], streams: Sequence[PlannedNetwork]
) -> PlannedNetwork | str:
    """The network, or why there is none."""
    base = recipe.spatial if recipe.spatial == recipe.temporal else f"{recipe.spatial}-{recipe.temporal}"
    settings = full_settings(preset or f"{family}-{base}", "fused")
    points = []
    for layer in recipe.at:
        pair = [LAYERS[backbone].get(layer) for backbone in (settings.model.spatial, settings.model.temporal)]
        if None in pair:
            return f"{preset} has no layer that stands for {layer} of VGG-M"
        points.append(":".join(dict.fromkeys(map(str, pair))))
    model = dataclasses.replace(
        settings.model,
        fusion=recipe.fusion,
        at=",".join(points),
        temporal_fusion=recipe.temporal_fusion,
        keep_temporal=recipe.keep_temporal,
    )
    data = dataclasses.replace(settings.data, num_test_clips=TABLES[table].num_test_clips)
    settings = overridden(dataclasses.replace(settings, model=model, data=data), sets, stage="fused")
    over_time = [] if recipe.temporal_fusion == "pool2d" else [recipe.temporal_fusion.partition("+")[0]]
    towers = ["two-towers"] if recipe.keep_temporal else []
    name = "-".join([preset or base, recipe.fusion, *recipe.at, *over_time, *towers])
    return PlannedNetwork(name=name, settings=settings, starts_from=tuple(streams))


def _names(networks: Sequence[PlannedNetwork]) -> list[str]:
    return [one.name for one in networks]


@functools.cache
def _size(model: ModelSettings, num_classes: int) -> tuple[int, int]:
    """Layers with weights, and parameters."""
    with torch.device("meta"):
        network = new_network(model, num_classes=num_classes)
    layers = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d)]
    return len(layers), sum(parameter.numel() for parameter in network.parameters())
