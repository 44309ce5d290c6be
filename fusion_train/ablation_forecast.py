"""`fusion-train ablate --dry-run`: which networks are still to be trained, for which rows, and how long that takes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from flowprep.stores import Store
from fusion_train.ablate import finished_run
from fusion_train.ablation_plan import AblationPlan, PlannedNetwork, PlannedRow
from fusion_train.checkpoint import data_fingerprint
from fusion_train.forecast import Forecast, forecast_network
from fusion_train.runtime import Runtime
from fusion_train.stages import DONE


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkForecast:
    """A network that rows are made of: `num_done` trainings are there, `num_left` are to do, `of_one` is one of them.

    What only finished runs of rows need is not trained again, though it may be gone.
    """

    name: str
    rows: tuple[str, ...]
    num_done: int
    num_left: int
    of_one: Forecast

    @property
    def seconds(self) -> float:
        """Of all trainings that are left."""
        return self.of_one.seconds * self.num_left

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        one = dataclasses.asdict(self.of_one)
        return {
            "name": self.name,
            "rows": list(self.rows),
            "num_done": self.num_done,
            "num_left": self.num_left,
            "seconds": self.seconds,
            **{
                name: one[name]
                for name in ("stage", "num_steps", "num_parameters", "num_trained", "memory_bytes", "memory_is_so_far")
            },
        }


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AblationForecast:
    """`runs_left` by row to be run: splits times seeds that have no result yet."""

    runs_left: dict[str, int]
    networks: tuple[NetworkForecast, ...]

    @property
    def seconds(self) -> float:
        """Of all trainings, without evaluation."""
        return sum(one.seconds for one in self.networks)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "runs_left": self.runs_left,
            "networks": [one.to_json() for one in self.networks],
            "seconds": self.seconds,
        }


def forecast_ablation(store: Store, plan: AblationPlan, out: Path, runtime: Runtime) -> AblationForecast:
    """What a plan would take from where it is. Two steps of each network are measured; nothing is written.

    Raises:
        SettingsError: What `out` has was made with other settings.
    """
    manifest = data_fingerprint(store)
    rows = [row for row in plan.rows if row.networks and row.paper.name in plan.chosen]
    left = {row.paper.name: _runs_left(out, row, plan.seeds, manifest) for row in rows}
    networks = {one.name: one for row in rows for one in row.all_networks}
    found = []
    for network in networks.values():
        users = [row for row in rows if network.name in {one.name for one in row.all_networks}]
        runs = {(split, seed) for row in users for split in row.splits for seed in plan.seeds}
        trained = {run for run in runs if (network.folder(out, *run) / DONE).exists()}
        to_train = {run for row in users for run in left[row.paper.name]} - trained
        found.append(
            NetworkForecast(
                name=network.name,
                rows=tuple(row.paper.name for row in users),
                num_done=len(trained),
                num_left=len(to_train),
                of_one=_of_one(store, network, users[0].splits[0], runtime, is_done=not to_train),
            )
        )
    return AblationForecast(runs_left={name: len(runs) for name, runs in left.items()}, networks=tuple(found))


def _runs_left(out: Path, row: PlannedRow, seeds: tuple[int, ...], manifest: str) -> set[tuple[str, int]]:
    pairs = {(split, seed) for split in row.splits for seed in seeds}
    return {pair for pair in pairs if finished_run(out, row, *pair, manifest) is None}


def _of_one(store: Store, network: PlannedNetwork, split: str, runtime: Runtime, *, is_done: bool) -> Forecast:
    train = dataclasses.replace(network.settings.train, split=split)
    settings = dataclasses.replace(network.settings, train=train)
    return forecast_network(
        store, settings, split=split, stage=settings.model.network, is_done=is_done, runtime=runtime
    )
