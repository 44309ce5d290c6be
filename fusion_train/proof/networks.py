"""All networks of one seed: both streams on the pretext task, then every configuration from their convolutions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from flowprep.stores import Store
from flowprep.stores.splitsfile import read_splits
from fusion_train.config import FusionSettings
from fusion_train.data.dataset import ClipDataset
from fusion_train.data.maps import FrozenMaps
from fusion_train.data.splits import read_parts
from fusion_train.evaluate import evaluate
from fusion_train.frozen import NAMES, frozen_maps
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


def run_seed(
    pretext: Store, fusion: Store, folder: Path, proof: ProofSettings, *, seed: int, rows: Sequence[Row],
    runtime: Runtime, say: Say,
) -> dict[str, dict[str, Share]]:  # fmt: skip
    """By title of a row and measure, the share that is right.

    Below `folder` are `pretext/STREAM` and, by what is measured on, `test` or `held_out`. What is there, made with the
    same settings, is not made again.

    Raises:
        SettingsError: `folder` has networks of other settings.
    """
    for stream in STREAMS:
        say(f"seed {seed}: {stream} stream on the pretext task")
        train(pretext, pretext_settings(proof, stream, seed), folder / "pretext" / stream, runtime=runtime)
    made = folder / ("held_out" if proof.held_out else "test")
    tables: dict[str, ScoreTable] = {}
    cache: dict[tuple[str, bool], FrozenMaps] = {}
    for name in needed(tuple(rows)):
        path = made / f"{name.replace(' ', '')}.npz"
        settings = configuration_settings(proof, CONFIGURATIONS[name], seed, folder / "pretext")
        if path.exists():
            tables[name] = ScoreTable.load(path)
            if tables[name].origin["settings"] == settings.to_json():
                continue
        say(f"seed {seed}: {name}")
        maps = None
        if proof.uses_maps:
            maps = {}
            for stream in streams_of(settings.model):
                key = stream, settings.data.blank == stream
                if key not in cache:
                    cache[key] = _maps(fusion, settings, stream, runtime)
                maps[stream] = cache[key]
        network = train(fusion, settings, path.with_suffix(""), runtime=runtime, maps=maps)
        part = "validation" if proof.held_out else "test"
        (tables[name],) = evaluate(network, fusion, part=part, runtime=runtime, maps=maps).values()
        if runtime.is_main:
            tables[name].save(path)
    found = {}
    for row in rows:
        of = [tables[name] for name in row.of]
        found[row.title] = shares(of[0] if len(of) == 1 else fuse(of))
    return found


def _maps(fusion: Store, settings: FusionSettings, stream: str, runtime: Runtime) -> FrozenMaps:
    """Of a stream of the store as these settings show it, for all networks."""
    name = NAMES[stream]
    model = dataclasses.replace(settings.model, network=name)
    network = build_network(model, num_classes=len(read_splits(fusion.path).classes))
    options = settings.train
    parts = read_parts(fusion, options.split, validation=options.val, share=options.val_share, seed=options.seed)
    datasets = [
        ClipDataset(fusion, ids, settings.data, streams=(stream,))
        for ids in (parts.train, parts.validation or parts.test)
    ]
    num_passes = options.num_epochs * options.passes
    return frozen_maps(network, stream, datasets, num_passes=num_passes, seed=options.seed, device=runtime.device)
