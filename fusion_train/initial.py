"""`--init-from CHECKPOINT`: a network that starts from others that are trained, on this data set or another.

HMDB51's temporal stream starts from UCF101's in the paper. The checkpoint says which stream it is; a fused one has
both streams and the fusion's filters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from flowprep.errors import SettingsError, StoreError
from fusion_train.config import FusionSettings

STREAMS = ("spatial", "temporal")


def networks_in(checkpoints: Sequence[Path], known: Mapping[Path, str] | None = None) -> dict[str, Path]:
    """Each checkpoint by the network that is in it: spatial, temporal or fused. Paths are made absolute.

    `known` has networks of former calls by absolute path: what has started from a file does not need it any more, so
    the file may be gone.

    Raises:
        MissingDataError: There is no such file.
        SettingsError: It is no checkpoint, or two have the same stream.
    """
    from fusion_train.checkpoint import Checkpoint

    found: dict[str, Path] = {}
    for given in checkpoints:
        path = given.expanduser().resolve()
        try:
            if path in (known or {}) and not path.is_file():
                network = (known or {})[path]
            else:
                network = Checkpoint.load(given.expanduser(), mapped=True).settings.model.network
        except StoreError as error:
            raise SettingsError(
                f"--init-from takes checkpoints of fusion-train, and {path} is none; other files of weights are given "
                f"with --set model.spatial_weights=FILE or model.temporal_weights=FILE"
            ) from error
        clash = next((name for name in found if name == network or "fused" in (name, network)), None)
        if clash is not None:
            raise SettingsError(
                f"--init-from: {found[clash]} has a {clash} network and {path} a {network} one, which are the same "
                "streams; give one of them"
            )
        found[network] = path
    return found


def known_of(settings: FusionSettings) -> dict[Path, str]:
    """The files that a network of these settings has started from, and what is in them, as `networks_in` takes it.

    A single stream may start from another one, of which its settings do not know; it is taken for the same.
    """
    from fusion_train.initial_files import NO_FILES

    known: dict[Path, str] = {}
    network = settings.model.network
    for name in (*STREAMS, "fusion") if network == "fused" else (network,):
        weights = getattr(settings.model, f"{name}_weights")
        if weights not in NO_FILES:
            path = Path(weights).expanduser().resolve()
            known[path] = "fused" if name == "fusion" or path in known else name
    return known


def started_from(settings: FusionSettings, stage: str, networks: Mapping[str, Path]) -> FusionSettings:
    """The settings of a network of a run that starts from `networks_in` checkpoints; of another stream, nothing."""
    weights = {}
    for stream in STREAMS:
        path = networks.get(stream) or networks.get("fused")
        if path is not None and stage in (stream, "fused"):
            weights[f"{stream}_weights"] = str(path)
    return _with_weights(settings, stage, networks, weights)


def alone_from(settings: FusionSettings, stage: str, networks: Mapping[str, Path]) -> FusionSettings:
    """The same of a network that is trained alone: a single stream takes the one checkpoint, whatever stream it has.

    Raises:
        SettingsError: A single stream is to start from two.
    """
    if stage == "fused" or not networks:
        return started_from(settings, stage, networks)
    if len(networks) > 1:
        raise SettingsError(f"the {stage} stream starts from one checkpoint, got {len(networks)} with --init-from")
    (path,) = networks.values()
    return _with_weights(settings, stage, {}, {f"{stage}_weights": str(path)})


def _with_weights(
    settings: FusionSettings, stage: str, networks: Mapping[str, Path], weights: dict[str, str]
) -> FusionSettings:
    model = settings.model
    has_filter = model.fusion in ("conv", "bilinear")
    if stage == "fused" and "fused" in networks and has_filter:
        weights["fusion_weights"] = str(networks["fused"])
    if not weights:
        return settings
    # A checkpoint has fc6 and fc7, whatever its own start was.
    return dataclasses.replace(settings, model=dataclasses.replace(model, random_fc=False, **weights))  # type: ignore[arg-type]
