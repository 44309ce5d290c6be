"""Command line options made from the fields of settings, and settings made from the options' values."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from flowprep.errors import SettingsError
from flowprep.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=Settings)


def settings_options(
    section: str, settings: type[Settings], *, without: tuple[str, ...] = (), **helps: str
) -> Callable[[F], F]:
    """A decorator that gives a command one option for each field that names one, but for those in `without`.

    Values arrive as `section__field`. `helps` has other help texts for some of the fields.
    """

    def decorate(command: F) -> F:
        # Decorators apply from the bottom up, and --help shall list the fields in their order.
        for field in reversed(dataclasses.fields(settings)):
            if field.metadata.get("option") and field.name not in without:
                text = helps.get(field.name, field.metadata["help"])
                command = _option(section, settings, field, text)(command)
        return command

    return decorate


def _option(section: str, settings: type[Settings], field: dataclasses.Field[Any], help: str) -> Callable[[F], F]:
    metadata = field.metadata
    kind = _plain_type(typing.get_type_hints(settings)[field.name])
    arguments: dict[str, Any] = {"default": field.default, "help": help}
    if kind is bool:
        arguments["is_flag"] = True
    elif metadata["choices"]:
        arguments["type"] = click.Choice(metadata["choices"])
    else:
        arguments["type"] = kind
        arguments["metavar"] = metadata["metavar"]
    arguments["show_default"] = kind is not bool and field.default is not None and "[default" not in help
    return click.option(metadata["option"], f"{section}__{field.name}", **arguments)


class HomePath(click.Path):
    """A path in which `~` is the home folder: shells leave it as it is in `--videos=~/clips`."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """The path, with `~` or `~name` at its beginning replaced."""
        return super().convert(os.path.expanduser(value), parameter, context)


def expand_homes(group: click.Group) -> None:
    """Have all paths of all commands be `HomePath`."""
    for command in group.commands.values():
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):
                parameter.type = HomePath(path_type=Path)


def _plain_type(hint: Any) -> type:
    """The type of an optional or plain field."""
    if isinstance(hint, types.UnionType):
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    assert isinstance(hint, type)
    return hint


def settings_from(section: str, settings: type[S], values: Mapping[str, Any], **others: Any) -> S:
    """The settings whose fields are the options `section__field` of `values`, and `others`."""
    prefix = f"{section}__"
    given = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    return settings(**{**given, **others})


def parse_parameters(texts: tuple[str, ...]) -> dict[str, Any]:
    """The parameters of `--param NAME=VALUE`: numbers and true/false become such, other values stay texts."""
    parameters: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise SettingsError(f"--param takes NAME=VALUE, e.g. --param num_warps=3, got {text!r}")
        parameters[name.strip()] = _parse_value(value.strip())
    return parameters


def _parse_value(text: str) -> int | float | bool | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of a text such as 340x256."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise SettingsError(f"--size takes WIDTHxHEIGHT, e.g. 340x256, got {text!r}")
    return int(parts[0]), int(parts[1])
