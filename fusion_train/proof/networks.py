"""All networks of the proof: both streams on the pretext task, then every configuration from their convolutions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from flowprep.stores import Store
from flowprep.stores.splitsfile import read_splits
from fusion_train.checkpoint import data_fingerprint
from fusion_train.config import FusionSettings
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.maps import FrozenMaps
from fusion_train.data.splits import read_parts
from fusion_train.evaluate import evaluate
from fusion_train.frozen import NAMES, frozen_maps
from fusion_train.initial_files import initial_sha256
from fusion_train.late_fusion import fuse
from fusion_train.metrics import Share
from fusion_train.models.build import build_network
from fusion_train.proof.bits import shares
from fusion_train.proof.rows import CONFIGURATIONS, Row, needed
from fusion_train.proof.settings import STREAMS, ProofSettings, configuration_settings, pretext_settings
from fusion_train.runtime import Runtime
from fusion_train.scores import ScoreTable
from fusion_train.train import train
from fusion_train.training import streams_of

Say = Callable[[str], None]


def run_seeds(
    pretext: Store,
    fusion: Store,
    folder: Path,
    proof: ProofSettings,
    *,
    rows: Sequence[Row],
    runtime: Runtime,
    say: Say,
) -> list[dict[str, dict[str, Share]]]:
    """For each seed, by title of a row and measure, the share that is right.

    Below `folder` are `pretext_SEED/STREAM`, and networks in `ProofSettings.folder`, by seed. What is there, made with
    the same settings, of the same store and from the same pretext streams, is not made again.

    Raises:
        SettingsError: `folder` has networks of other settings, another store or other pretext streams.
    """
    cache: dict[tuple[str, bool], FrozenMaps] = {}
    found: list[dict[str, dict[str, Share]]] = []
    for seed in proof.seeds:
        backbone = folder / f"pretext_{proof.pretext_seed(seed)}"
        if not found or proof.own_pretext:
            cache.clear()
            _learn_pretext(pretext, backbone, proof, proof.pretext_seed(seed), runtime, say)
        tables: dict[str, ScoreTable] = {}
        for name in needed(tuple(rows)):
            settings = configuration_settings(proof, CONFIGURATIONS[name], seed, backbone)
            path = folder / proof.folder(settings) / str(seed) / f"{name.replace(' ', '')}.npz"
            say(f"seed {seed}: {name}")
            tables[name] = _scores(fusion, settings, path, proof, runtime, cache)
        of = {row.title: [tables[name] for name in row.of] for row in rows}
        found.append({title: shares(given[0] if len(given) == 1 else fuse(given)) for title, given in of.items()})
    return found


def _learn_pretext(pretext: Store, folder: Path, proof: ProofSettings, seed: int, runtime: Runtime, say: Say) -> None:
    for stream in STREAMS:
        say(f"seed {seed}: {stream} stream on the pretext task")
        train(pretext, pretext_settings(proof, stream, seed), folder / stream, runtime=runtime)


def _scores(
    fusion: Store,
    settings: FusionSettings,
    path: Path,
    proof: ProofSettings,
    runtime: Runtime,
    cache: dict[tuple[str, bool], FrozenMaps],
) -> ScoreTable:
    """What a network says of the videos that are measured on, from its file or after its training."""
    if path.exists():
        there = ScoreTable.load(path)
        if _is_of(there, fusion, settings):
            return there
    maps = None
    if proof.uses_maps:
        maps = {}
        for stream in streams_of(settings.model):
            key = stream, settings.data.blank == stream
            if key not in cache:
                cache[key] = _maps(fusion, settings, stream, proof, runtime)
            maps[stream] = cache[key]
    network = train(fusion, settings, path.with_suffix(""), runtime=runtime, maps=maps)
    part = "validation" if proof.held_out else "test"
    (table,) = evaluate(network, fusion, part=part, runtime=runtime, maps=maps).values()
    if runtime.is_main:
        table.save(path)
    return table


def _is_of(table: ScoreTable, fusion: Store, settings: FusionSettings) -> bool:
    """Whether a table is of this store, and of a network of these settings that has started from these streams."""
    sums = initial_sha256(settings.model)
    return (
        table.origin["settings"] == settings.to_json()
        and table.manifest_sha256 == data_fingerprint(fusion)
        and table.origin.get("initial_sha256", sums) == sums  # older tables have none
    )


def _maps(fusion: Store, settings: FusionSettings, stream: str, proof: ProofSettings, runtime: Runtime) -> FrozenMaps:
    """Of a stream of the store as these settings show it, for the networks of all seeds with these layers."""
    model = dataclasses.replace(settings.model, network=NAMES[stream])
    network = build_network(model, num_classes=len(read_splits(fusion.path).classes))
    options = settings.train
    seeds = (options.seed,) if proof.own_pretext else proof.seeds
    training: dict[str, None] = {}
    evaluation: dict[str, None] = {}
    for seed in seeds:
        parts = read_parts(fusion, options.split, validation=options.val, share=options.val_share, seed=seed)
        training |= dict.fromkeys(parts.train)
        evaluation |= dict.fromkeys(parts.validation or parts.test)
    return frozen_maps(
        network,
        stream,
        training=ClipDataset(fusion, tuple(training), settings.data, streams=(stream,)),
        evaluation=ClipDataset(fusion, tuple(evaluation), settings.data, streams=(stream,)),
        num_passes=options.max_epochs * options.passes,
        seeds=seeds,
        device=runtime.device,
    )
