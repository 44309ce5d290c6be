"""Files of initial weights by what is in them: a path alone does not say from what a network has started.

A training that goes on, and a run that is entered again, compare SHA-256 sums where both sides have them; where a file
is gone meanwhile, or an older version has kept no sum, they compare where the path leads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion_train.checkpoint import file_sha256
from fusion_train.config import ModelSettings

_STREAMS = ("spatial", "temporal")
FIELDS = (*(f"{stream}_weights" for stream in _STREAMS), "fusion_weights")
"""Settings that may name a file of weights."""
NO_FILES = ("none", "torchvision", "torchvision-features")
"""What they may have that is no path."""
_SHOWN = 8


def initial_sha256(model: ModelSettings) -> dict[str, str]:
    """The SHA-256 sum of each file of initial weights that is there, by the name of its setting."""
    return {name: file_sha256(path) for name, path in _files(model).items() if path.is_file()}


def missing_files(model: ModelSettings) -> list[Path]:
    """Files of initial weights that are not there; those that torchvision would download are not looked for."""
    return [path for path in _files(model).values() if not path.is_file()]


def _files(model: ModelSettings) -> dict[str, Path]:
    """The files that a network starts from, by the name of the setting."""
    used = [f"{stream}_weights" for stream in _STREAMS if model.network in (stream, "fused")]
    if model.network == "fused":
        used.append("fusion_weights")
    return {name: Path(getattr(model, name)).expanduser() for name in used if getattr(model, name) not in NO_FILES}


def comparable(
    there: Mapping[str, Any],
    asked: Mapping[str, Any],
    sums_there: Mapping[str, str] | None,
    sums_asked: Mapping[str, str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two settings as JSON, which differ in a file of weights only if it is another one.

    Args:
        there: What something was made with.
        asked: What is asked for.
        sums_there: `initial_sha256` at that time, None where it was not kept.
        sums_asked: The same of now.

    Returns:
        Both, with equal texts for equal files, and with the sums behind the paths where those differ.
    """
    models = dict(there["model"]), dict(asked["model"])
    for name in FIELDS:
        if not any(name in model for model in models):
            continue
        sums = (sums_there or {}).get(name), sums_asked.get(name)
        texts = [str(model.get(name, "none")) for model in models]
        if None in sums:
            is_same = place(texts[0]) == place(texts[1])
        else:
            is_same = sums[0] == sums[1]
            texts = [f"{text} (SHA-256 {str(found)[:_SHOWN]}..)" for text, found in zip(texts, sums, strict=True)]
        for model, text in zip(models, texts, strict=True):
            model[name] = texts[0] if is_same else text
    return {**there, "model": models[0]}, {**asked, "model": models[1]}


def place(weights: str) -> str:
    """Where a path to weights leads; what is no path stays as it is."""
    return weights if weights in NO_FILES else str(Path(weights).expanduser().resolve())
