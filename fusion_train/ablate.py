"""`fusion-train ablate`: the rows of the paper's tables, one after the other, each for all splits and seeds.

What rows share is trained once. A run of a row that has ended has left its file, written last, and is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from flowprep.errors import FlowprepError, RunStoppedError, SettingsError, StoreError
from flowprep.settings import differences
from flowprep.stores import Store
from fusion_train.ablation_plan import AblationPlan, PlannedNetwork, PlannedRow, lasting_sets
from fusion_train.ablation_record import changed, record_of
from fusion_train.ablation_rows import TABLES
from fusion_train.ablation_table import FILE, Ablation, AblationRow, AblationRun, PaperFigures, merged, read_ablation
from fusion_train.checkpoint import data_fingerprint
from fusion_train.initial_files import initial_sha256
from fusion_train.late_fusion import fuse
from fusion_train.metrics import measure
from fusion_train.outage import whole_file
from fusion_train.runtime import Runtime
from fusion_train.scores import ScoreTable
from fusion_train.stages import Say, check_weights, initial_of, is_begun, scores_once, train_once
from fusion_train.train import NETWORK

FORMAT = 1
_KIND = "fusion-train-ablation-run"


def ablate(store: Store, plan: AblationPlan, out: Path, *, runtime: Runtime, say: Say) -> Ablation:
    """Do what is left of a plan: first seed 0 of all rows, so that there soon is a whole table, then seed 1, ..

    A row that fails is in the result with its sentence, and the others go on; the next call tries it again. Of several
    processes all must fail at it: what fails in one alone ends them, since the others wait for it inside the row.

    Args:
        store: The videos.
        plan: The rows, see `plan_ablation`.
        out: Gets `ablation.json`, anew after every run of a row, `networks/` and `rows/`.
        runtime: This process. All processes of torchrun call this.
        say: Called with what begins, and with lines of training logs.

    Raises:
        SettingsError: `out` has another ablation than this: another store, preset or other settings.
        RunStoppedError: The disk is full or broken.
        MissingDataError: Nothing can be written into `out`.
    """
    work = _Ablation(store, plan, out, runtime, say)
    work.begin()
    for seed in plan.seeds:
        for row in plan.rows:
            for split in row.splits if row.networks and row.paper.name in plan.chosen else ():
                work.do(row, split, seed)
    return work.result()


def finished_run(out: Path, row: PlannedRow, split: str, seed: int, manifest_sha256: str) -> AblationRun | None:
    """What a run of a row has found, if it has ended.

    Raises:
        SettingsError: It was made with other settings.
        StoreError: Its file is damaged.
    """
    path = _run_path(out, row, split, seed)
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text("utf-8"))
        if (data["kind"], data["format"]) != (_KIND, FORMAT):
            raise ValueError(f"it is of kind {data['kind']} and format {data['format']}")
        asked = record_of(row, split, seed, manifest_sha256, lambda one: initial_sha256(one.settings.model))
        otherwise = changed(data["record"], _plain(asked))
        run = AblationRun(**data["run"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete it to measure that row anew") from error
    if otherwise:
        raise SettingsError(
            f"{path} was made otherwise ({'; '.join(otherwise)}); give another --out, or delete that file"
        )
    return run


@final
class _Ablation:
    """An ablation in work: what has been found, and what has failed."""

    def __init__(self, store: Store, plan: AblationPlan, out: Path, runtime: Runtime, say: Say) -> None:
        self.store, self.plan, self.out, self.runtime, self.say = store, plan, out, runtime, say
        self.manifest_sha256 = data_fingerprint(store)
        self.before = self._earlier()
        self.said: set[str] = set()
        self.failed_rows: dict[str, str] = {}
        self.failed_networks: dict[Path, str] = {}
        """Sentences, not errors: those would hold the memory of the training that they come from."""
        self.runs: dict[str, list[AblationRun]] = {row.paper.name: [] for row in plan.rows}

    def _earlier(self) -> tuple[AblationRow, ...]:
        path = self.out / FILE
        if not path.exists():
            return ()
        there = read_ablation(path)
        theirs, mine = (
            {"preset": preset, "manifest_sha256": manifest, "sets": lasting_sets(sets)}
            for preset, manifest, sets in (
                (there.preset, there.manifest_sha256, there.sets),
                (self.plan.preset, self.manifest_sha256, self.plan.sets),
            )
        )
        if others := differences(theirs, mine):
            raise SettingsError(f"{path} is of another ablation ({'; '.join(others)}); give another --out")
        return there.rows

    def begin(self) -> None:
        """Take in what is there, and say what initial weights are missing before anything is trained."""
        for row in self.plan.rows:
            for split in row.splits if row.networks else ():
                for seed in self.plan.seeds:
                    self._take_in(row, split, seed)
        failed: list[tuple[str, str, Path]] = []
        streams = {one.name: one for row in self._to_do() for one in row.all_networks if not one.starts_from}
        for stream in streams.values():
            folders = [
                stream.folder(self.out, split, seed) for split in self._splits_of(stream) for seed in self.plan.seeds
            ]
            to_begin = [folder for folder in folders if not is_begun(folder)]
            try:
                if to_begin:
                    check_weights(self.store, stream.settings.model)
            except FlowprepError as error:
                failed += [(stream.name, str(error), folder) for folder in to_begin]
        for name, why, folder in self.runtime.gathered(failed):  # a file may be missing on one machine alone
            self.failed_networks.setdefault(folder, why)
            if why not in self.said:
                self.said.add(why)
                self.say(f"{name} cannot be trained: {why}", None)
        self._write()

    def _take_in(self, row: PlannedRow, split: str, seed: int) -> None:
        try:
            found = finished_run(self.out, row, split, seed, self.manifest_sha256)
        except FlowprepError as error:
            self.failed_rows[row.paper.name] = str(error)
        else:
            if found is not None:
                self.runs[row.paper.name].append(found)

    def _to_do(self) -> list[PlannedRow]:
        return [row for row in self.plan.rows if row.paper.name in self.plan.chosen and row.networks
                and len(self.runs[row.paper.name]) < len(row.splits) * len(self.plan.seeds)]  # fmt: skip

    def _splits_of(self, network: PlannedNetwork) -> Sequence[str]:
        rows = [row for row in self._to_do() if network.name in {one.name for one in row.all_networks}]
        return list(dict.fromkeys(split for row in rows for split in row.splits))

    def do(self, row: PlannedRow, split: str, seed: int) -> None:
        """One run of a row, unless it has ended."""
        name = row.paper.name
        if any((run.split, run.seed) == (split, seed) for run in self.runs[name]):
            return
        self.say(f"row {name}, split {split}, seed {seed}", None)
        try:
            if _run_path(self.out, row, split, seed).exists():
                finished_run(self.out, row, split, seed, self.manifest_sha256)  # why it does not count
            self.runs[name].append(self._measured(row, split, seed))
        except RunStoppedError:
            raise
        except FlowprepError as error:
            if not self.runtime.all_have_failed():
                raise
            is_known = str(error) in self.said
            self.said.add(str(error))
            self.failed_rows[name] = str(error)
            self.say(f"  {name} failed{', for a reason said above' if is_known else f': {error}'}", None)
        self.runtime.release_memory()
        self.runtime.wait_for_all()
        self._write()

    def _measured(self, row: PlannedRow, split: str, seed: int) -> AblationRun:
        for network in row.all_networks:
            self._train(network, split, seed)
        # The means of towers and of streams alike: equal weights, before the softmax.
        table = _mean([one for network in row.networks for one in self._scores(network, row, split, seed)])
        metrics = measure(table)
        run = AblationRun(
            split=split,
            seed=seed,
            num_videos=metrics.top1.num_videos,
            top1=metrics.top1.value,
            top5=metrics.top5.value,
            mean_class=metrics.mean_class,
        )
        if self.runtime.is_main:
            path = _run_path(self.out, row, split, seed)
            table.save(path.with_suffix(".npz"))
            record = record_of(
                row, split, seed, self.manifest_sha256, lambda one: initial_of(one.folder(self.out, split, seed))
            )
            content = {"kind": _KIND, "format": FORMAT, "record": record, "run": run.to_json()}
            _publish(path, content)
        return run

    def _train(self, network: PlannedNetwork, split: str, seed: int) -> None:
        folder = network.folder(self.out, split, seed)
        if folder in self.failed_networks:  # with the same settings it would fail again
            raise FlowprepError(self.failed_networks[folder])
        below = [one.folder(self.out, split, seed) / NETWORK for one in network.starts_from]
        settings = network.settings_of(self.out, split, seed)
        name = f"{network.name}, split {split}, seed {seed}"
        try:
            train_once(self.store, settings, folder, starts_from=below, runtime=self.runtime, say=self.say, name=name)
        except RunStoppedError:
            raise
        except FlowprepError as error:
            self.failed_networks[folder] = str(error)
            raise

    def _scores(self, network: PlannedNetwork, row: PlannedRow, split: str, seed: int) -> list[ScoreTable]:
        final = TABLES[row.paper.table].all_splits
        tables = scores_once(
            self.store,
            network.settings_of(self.out, split, seed),
            network.folder(self.out, split, seed),
            saved_as="test_final" if final else "test",
            runtime=self.runtime,
            say=self.say,
            name=f"{network.name}, split {split}, seed {seed}",
        )
        return list(tables.values())

    def result(self) -> Ablation:
        """All rows of the tables, with those of earlier calls."""
        rows = merged(self.before, [self._row(row) for row in self.plan.rows])
        return Ablation(
            dataset=self.plan.dataset,
            paper_dataset=self.plan.paper_dataset,
            manifest_sha256=self.manifest_sha256,
            preset=self.plan.preset,
            sets=self.plan.sets,
            titles={number: TABLES[number].title for number in sorted({row.table for row in rows})},
            rows=rows,
        )

    def _row(self, planned: PlannedRow) -> AblationRow:
        paper, name = planned.paper, planned.paper.name
        runs = tuple(sorted(self.runs[name], key=lambda run: (run.seed, run.split)))
        percent = paper.percent(self.plan.paper_dataset)
        why = planned.left_out
        if planned.networks:
            is_whole = len(runs) == len(planned.splits) * len(self.plan.seeds)
            state = "done" if is_whole else "failed" if name in self.failed_rows else "open"
            why = self.failed_rows[name] if state == "failed" else ""
            if state == "open" and name not in self.plan.chosen:  # not tried now
                state, why = next(((row.state, row.why) for row in self.before
                                   if row.name == name and row.state == "failed"), (state, why))  # fmt: skip
        else:
            state = "left out" if planned.left_out else "cited"
        return AblationRow(
            table=paper.table,
            name=name,
            cells=paper.cells,
            state=state,
            why=why,
            splits=planned.splits if planned.networks else (),
            seeds=self.plan.seeds if planned.networks else (),
            runs=runs,
            num_layers=planned.num_layers,
            num_parameters=planned.num_parameters,
            paper=PaperFigures(
                top1=None if percent is None else percent / 100,
                of=TABLES[paper.table].of,
                num_layers=paper.num_layers,
                num_parameters=None if paper.millions is None else round(paper.millions * 1e6),
            ),
            networks=tuple(one.name for one in planned.all_networks),
            notes=planned.notes,
        )

    def _write(self) -> None:
        if self.runtime.is_main:
            _publish(self.out / FILE, self.result().to_json())


def _mean(tables: Sequence[ScoreTable]) -> ScoreTable:
    return tables[0] if len(tables) == 1 else fuse(tables)


def _run_path(out: Path, row: PlannedRow, split: str, seed: int) -> Path:
    return out / "rows" / row.paper.name / f"split_{split}_seed_{seed}.json"


def _plain(content: Any) -> Any:
    """As it comes back from JSON: tuples are lists."""
    return json.loads(json.dumps(content))


def _publish(path: Path, content: Mapping[str, Any]) -> None:
    with whole_file(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
