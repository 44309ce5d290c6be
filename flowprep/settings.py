"""Settings: frozen, keyword-only, validated on construction, with a JSON round trip.

The same objects go from the command line (which generates its options from the fields), through the pipeline, into
manifests, shards and checkpoints, and back. What can be set is in the modules called `config`.

Note [loads nothing heavy]: this module is imported by `--help`; it needs the standard library alone.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from flowprep.errors import SettingsError


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    option: str | None = None,
    metavar: str | None = None,
    added: bool = False,
) -> Any:
    """A dataclass field with a default, a help text, limits, and the command line option if it has one of its own.

    `added` after stores of the format were written: its default is left out of JSON, which stays as it was.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "minimum": minimum,
        "maximum": maximum,
        "above": above,
        "option": option,
        "metavar": metavar,
        "added": added,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings: checks types and limits of the fields, and converts to and from JSON."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            object.__setattr__(self, field.name, _checked(field.name, value, hints[field.name], field.metadata))

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object of all fields, without those that were `added` later and have their default."""
        return {
            field.name: value.to_json() if isinstance(value, Settings) else value
            for field in dataclasses.fields(self)
            for value in (getattr(self, field.name),)
            if not (field.metadata.get("added") and value == field.default)
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The settings of a JSON object. Raises SettingsError that names an unknown or missing field."""
        hints = typing.get_type_hints(cls)
        fields = {field.name: field for field in dataclasses.fields(cls)}
        names = list(fields)
        for name in data:
            if name not in names:
                raise SettingsError(f"unknown setting `{name}` in {cls.__name__}; known are {', '.join(names)}")
        values = {}
        for name in names:
            if name not in data and fields[name].metadata.get("added"):
                continue
            if name not in data:
                raise SettingsError(f"setting `{name}` is missing in {cls.__name__}")
            hint = hints[name]
            nested = isinstance(hint, type) and issubclass(hint, Settings)
            values[name] = hint.from_json(data[name]) if nested else data[name]
        return cls(**values)


def _checked(name: str, value: Any, hint: Any, metadata: Mapping[str, Any]) -> Any:
    """`value` if it has the type and keeps the limits of its field (an int where a float is asked for is converted)."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    wanted = next(option for option in options if option is not type(None))
    wanted = typing.get_origin(wanted) or wanted
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if (wanted is Mapping and not isinstance(value, Mapping)) or (
        wanted is not Mapping and (not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool))
    ):
        raise SettingsError(f"`{name}` must be {_english(wanted)}, got {value!r}")
    choices, minimum, maximum, above = (metadata.get(key) for key in ("choices", "minimum", "maximum", "above"))
    if choices is not None and value not in choices:
        raise SettingsError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}")
    if minimum is not None and not value >= minimum:
        raise SettingsError(f"`{name}` must be at least {minimum}, got {value}")
    if above is not None and not value > above:
        raise SettingsError(f"`{name}` must be above {above}, got {value}")
    if maximum is not None and not value <= maximum:
        raise SettingsError(f"`{name}` must be at most {maximum}, got {value}")
    if isinstance(value, float) and value != value:
        raise SettingsError(f"`{name}` must be a number, got nan")
    return value


def _english(wanted: type) -> str:
    names: dict[type, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return names.get(wanted, f"a {wanted.__name__}")


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One text a setting in which two JSON forms differ, e.g. `quantise.bound_px: 20.0 there, 15.0 asked for`."""
    found = []
    for name in sorted({*old, *new}):
        there, here = old.get(name), new.get(name)
        if name == "parameters" and any(old.get(key) != new.get(key) for key in ("backend", "variant")):
            continue  # those of another algorithm are all different
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            found += differences(there, here, f"{prefix}{name}.")
        elif there != here:
            found.append(f"{prefix}{name}: {there} there, {here} asked for")
    return found
