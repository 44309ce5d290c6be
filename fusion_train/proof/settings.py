"""Settings of all networks of the proof: the same budget, rates and initial weights for each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import final

from fusion_train.config import FusionSettings
from fusion_train.proof.rows import Configuration
from fusion_train.protocols import full_settings
from fusion_train.train import NETWORK

STREAMS = ("spatial", "temporal")
HELD_OUT = 0.25
"""Share of the training list on which settings are chosen: a fourth, since few videos decide little."""
PRETEXT_RATES = "6x2e-2,2x2e-3"
AT = {"synthetic": "relu3", "debug": "relu3", "vggm": "relu5"}
"""The last layer before the last pooling, by backbone."""


@final
@dataclass(frozen=True, kw_only=True)
class ProofSettings:
    """What of the proof can be chosen. `size_px` is the side of the videos.

    `held_out` evaluates on whole groups of the training list in the place of the test list: settings are chosen so.
    With `own_pretext` each seed has convolutions of its own, else all have those of the first.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    backbone: str = "synthetic"
    size_px: int = 96
    held_out: bool = False
    own_pretext: bool = False
    num_epochs: int | None = None
    rates: str | None = None
    batch_size: int = 32
    videos_at_once: int = 32
    num_pretext_epochs: int = 8
    pretext_rates: str = PRETEXT_RATES
    num_threads: int = 1

    def pretext_seed(self, seed: int) -> int:
        """The seed of the convolutions from which the networks of a seed start."""
        return seed if self.own_pretext else self.seeds[0]

    def folder(self, settings: FusionSettings) -> str:
        """Where networks of these settings are kept: settings that are tried out on held-out groups do not mix."""
        kind = "held_out" if self.held_out else "test"
        tried = f"_{settings.train.rates}_{settings.train.max_epochs}" if self.held_out else ""
        return f"{kind}{'_own_pretext' if self.own_pretext else ''}{tried}"

    @property
    def uses_maps(self) -> bool:
        """Whether frozen layers are run once for all networks: where all their maps fit into memory."""
        return self.backbone != "vggm"


def pretext_settings(proof: ProofSettings, stream: str, seed: int) -> FusionSettings:
    """A stream that learns textures or directions from single frames or stacks, all layers."""
    own = _own(proof, stream, seed)
    return dataclasses.replace(
        own,
        model=dataclasses.replace(own.model, backprop_to="input"),
        data=dataclasses.replace(own.data, num_chunks=1, tau_min=1),
        train=dataclasses.replace(
            own.train,
            val="groups",
            val_share=0.1,
            num_val_clips=25,
            schedule="fixed",
            rates=proof.pretext_rates,
            num_epochs=proof.num_pretext_epochs,
            batch_size=min(16, proof.batch_size),
            videos_at_once=min(16, proof.videos_at_once),
        ),
    )


def configuration_settings(
    proof: ProofSettings, configuration: Configuration, seed: int, pretext: Path
) -> FusionSettings:
    """A network of the table; `pretext` is the folder with the streams of the pretext task."""
    own = _own(proof, configuration.network, seed)
    return dataclasses.replace(
        own,
        model=dataclasses.replace(
            own.model,
            temporal_fusion=configuration.temporal_fusion,
            spatial_weights=str(pretext / "spatial" / NETWORK),
            temporal_weights=str(pretext / "temporal" / NETWORK),
        ),
        data=dataclasses.replace(own.data, blank=configuration.blank),
    )


def _own(proof: ProofSettings, network: str, seed: int) -> FusionSettings:
    found = full_settings("synthetic", network)
    at = AT[proof.backbone]
    train = dataclasses.replace(
        found.train,
        seed=seed,
        val="groups" if proof.held_out else "none",
        val_share=HELD_OUT if proof.held_out else found.train.val_share,
        schedule="fixed",
        batch_size=proof.batch_size,
        videos_at_once=proof.videos_at_once,
        num_val_clips=1,
        num_threads=proof.num_threads,
        num_epochs=proof.num_epochs or found.train.num_epochs,
        rates=proof.rates or found.train.rates,
    )
    return dataclasses.replace(
        found,
        model=dataclasses.replace(found.model, spatial=proof.backbone, temporal=proof.backbone, at=at),
        data=dataclasses.replace(found.data, crop_size=proof.size_px, num_chunks=5, num_test_clips=1, same_clips=True),
        train=train,
        evaluate=dataclasses.replace(
            found.evaluate, videos_at_once=32, clips_at_once=32, num_threads=proof.num_threads
        ),
    )
