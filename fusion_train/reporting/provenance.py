"""What a run was made of: settings of its networks, and what identifies data, checkpoints and software."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

from flowprep.stores import Store
from fusion_train.checkpoint import data_fingerprint
from fusion_train.presets import PRESETS
from fusion_train.protocols import full_settings
from fusion_train.reporting.contents import RunContents

_FOLLOWS = {"train.split", "model.network"}
"""Settings that a run sets by itself, which are no choice beside the preset."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SettingRow:
    """A setting of each network, in their order. `is_changed`: it is not what the preset has."""

    name: str
    values: tuple[str, ...]
    is_changed: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A name and what is said of it; `is_code` is to be copied as it is."""

    name: str
    text: str
    is_code: bool = False


def setting_rows(run: RunContents) -> tuple[tuple[str, ...], list[SettingRow]]:
    """Names of the networks that are trained, and their settings, of the first split that has one."""
    for split in run.splits:
        trained = {name: stage.settings for name, stage in split.stages.items() if stage.done}
        if trained:
            break
    else:
        return (), []
    flat = {name: dict(_flat(settings)) for name, settings in trained.items()}
    names = dict.fromkeys(name for settings in flat.values() for name in settings)
    changed = {name for stage, settings in flat.items() for name in _changes(run.preset, stage, settings)}
    return tuple(trained), [
        SettingRow(
            name=name,
            values=tuple(_said(settings[name]) if name in settings else "" for settings in flat.values()),
            is_changed=name in changed,
        )
        for name in names
    ]


def _changes(preset: str | None, stage: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Names of settings that are not what the preset has."""
    if preset is not None and preset in PRESETS:
        there = dict(_flat(full_settings(preset, stage).to_json()))
        yield from (name for name in settings.keys() & there.keys() - _FOLLOWS if settings[name] != there[name])


def facts(run: RunContents, store: Store | None) -> list[Fact]:
    """What identifies data and software."""
    found = [Fact(name="preset", text=run.preset or "not recorded")]
    if run.data is not None:
        found.append(Fact(name="store of the run", text=str(run.data), is_code=True))
    fingerprints = {str(s.done["manifest_sha256"]) for split in run.splits for s in split.stages.values() if s.done}
    found += [Fact(name="data (SHA-256 of the manifest)", text=text, is_code=True) for text in sorted(fingerprints)]
    if store is not None:
        found.append(Fact(name="flow", text=_flow_of(store)))
    for split in run.splits:
        for stage in split.stages.values():
            if stage.done:
                name = f"split {split.name}, {stage.name} network (SHA-256)"
                found.append(Fact(name=name, text=str(stage.done["network_sha256"]), is_code=True))
                if isinstance(made_with := stage.done.get("versions"), Mapping):
                    text = ", ".join(f"{key} {value}" for key, value in made_with.items())
                    found.append(Fact(name="trained with", text=text))
    return found


def changed_store(run: RunContents, store: Store) -> bool:
    """Whether the store is not, or no longer, the one that the networks were trained on."""
    trained_on = {s.done["manifest_sha256"] for split in run.splits for s in split.stages.values() if s.done}
    return bool(trained_on) and data_fingerprint(store) not in trained_on


def _flow_of(store: Store) -> str:
    settings = store.settings
    by = (
        "by another tool"
        if settings.store.adopted
        else " ".join(filter(None, (settings.flow.backend, settings.flow.variant)))
    )
    return f"{by}, step {settings.flow.step}, bound {settings.quantise.bound_px:g} px, {settings.quantise.rounding}"


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, values in settings.items():
        if section != "evaluate":
            yield from ((f"{section}.{name}", value) for name, value in values.items())


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
