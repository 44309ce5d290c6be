"""`--set train.batch_size=32`: single settings by their path, after a preset has given all of them."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from flowprep.errors import SettingsError
from flowprep.settings import Settings
from fusion_train.config import FusionSettings

STAGES = ("spatial", "temporal", "fused")
"""Networks that are trained, in their order; `fused.train.rates=1e-4` sets something for one of them."""


def overridden(settings: FusionSettings, texts: Iterable[str], *, stage: str) -> FusionSettings:
    """The settings of a stage with `SECTION.NAME=VALUE` or `STAGE.SECTION.NAME=VALUE` set, in the order given.

    Where a value decides what others are left to, name those too: `data.protocol` does not change `data.tau_min`, which
    the preset has set already.

    Raises:
        SettingsError: A path does not exist (the message has the nearest ones), or a value is wrong.
    """
    changes: dict[str, dict[str, Any]] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        parts = path.strip().split(".")
        if not equals or len(parts) not in (2, 3):
            raise SettingsError(f"--set takes SECTION.NAME=VALUE, e.g. --set train.batch_size=32, got {text!r}")
        of = parts.pop(0) if len(parts) == 3 else stage
        _known(of, STAGES, "stage")
        section, name = parts
        _known(section, [field.name for field in dataclasses.fields(settings)], "section")
        kind = type(getattr(settings, section))
        _known(name, [field.name for field in dataclasses.fields(kind)], f"setting of {section}")
        if of == stage:
            changes.setdefault(section, {})[name] = _value(value.strip(), typing.get_type_hints(kind)[name], path)
    changed: dict[str, Settings] = {
        section: dataclasses.replace(getattr(settings, section), **values) for section, values in changes.items()
    }
    if "model" in changes and "stack_length" in changes["model"] and "stack_length" not in changes.get("data", {}):
        length = changes["model"]["stack_length"]
        changed["data"] = dataclasses.replace(typing.cast(Any, changed.get("data", settings.data)), stack_length=length)
    return dataclasses.replace(settings, **typing.cast(Any, changed))


def _known(name: str, names: Sequence[str], what: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        meant = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"
        raise SettingsError(f"there is no {what} {name!r}{meant}")


def _value(text: str, hint: Any, path: str) -> Any:
    """A text as what the field is; the limits are checked where the settings are made."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if type(None) in options and text.lower() == "none":
        return None
    (wanted,) = (option for option in options if option is not type(None))
    if wanted is bool:
        if text.lower() not in ("true", "false"):
            raise SettingsError(f"`{path}` must be true or false, got {text!r}")
        return text.lower() == "true"
    try:
        return wanted(text)
    except ValueError:
        english = {int: "a whole number", float: "a number"}.get(wanted, wanted.__name__)
        raise SettingsError(f"`{path}` must be {english}, got {text!r}") from None
