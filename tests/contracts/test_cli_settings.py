"""Commands cannot drift from settings, nor the documents from commands."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
import pytest

from flowprep.cluster.settings import ClusterSettings
from flowprep.config import (
    BenchSettings,
    DecodeSettings,
    ExtractSettings,
    FlowSettings,
    JpegSettings,
    PreviewSettings,
    QuantiseSettings,
    ResizeSettings,
    RunSettings,
    StoreSettings,
    SynthSettings,
)
from flowprep.errors import SettingsError
from flowprep.settings import Settings
from flowprep_cli.extract import content_settings
from flowprep_cli.fusion_main import cli as fusion_cli
from flowprep_cli.main import cli
from flowprep_cli.options import parse_parameters, parse_size, settings_from

ROOT = Path(__file__).resolve().parents[2]

SECTIONS: dict[str, dict[str, type[Settings]]] = {
    "extract": {
        "decode": DecodeSettings,
        "resize": ResizeSettings,
        "flow": FlowSettings,
        "quantise": QuantiseSettings,
        "jpeg": JpegSettings,
        "store": StoreSettings,
        "run": RunSettings,
        "cluster": ClusterSettings,
    },
    "flow": {"flow": FlowSettings},
    "bench": {
        "bench": BenchSettings,
        "decode": DecodeSettings,
        "resize": ResizeSettings,
        "flow": FlowSettings,
        "quantise": QuantiseSettings,
        "jpeg": JpegSettings,
        "store": StoreSettings,
    },
    "synth": {"synth": SynthSettings},
    "preview": {"preview": PreviewSettings},
}
"""Command to section (the first half of a value's name) to settings."""

WITHOUT_OPTION = {
    "extract": {
        "resize.width": "by --size WxH, since one side alone is refused",
        "resize.height": "by --size WxH",
        "flow.parameters": "by --param NAME=VALUE, since their names depend on the backend",
        "jpeg.subsampling": "one value only",
        "jpeg.progressive": "one value only",
        "jpeg.optimize": "one value only",
        "jpeg.restart_interval": "one value only",
        "store.adopted": "what is extracted is our own",
    },
    "flow": {
        "flow.parameters": "by --param NAME=VALUE",
        "flow.step": "two images have one step",
        "flow.backward": "exchange the images",
    },
    "bench": {
        "flow.parameters": "by --param NAME=VALUE",
        "store.flow": "flow is what is measured",
        "store.adopted": "what is extracted is our own",
        "jpeg.subsampling": "one value only",
        "jpeg.progressive": "one value only",
        "jpeg.optimize": "one value only",
        "jpeg.restart_interval": "one value only",
        "resize.width": "one rule of size is enough for a measurement",
        "resize.height": "one rule of size is enough for a measurement",
    },
    "synth": {},
    "preview": {},
}
"""Fields that have no option of their own, and why."""

NOT_A_SETTING = {
    "extract": {
        "dataset", "root", "videos", "splits", "out", "skip_bad_lines", "parameters", "size", "keep_size", "dry_run",
        "list_only", "overwrite", "as_json",
    },
    "flow": {"source", "target", "out", "parameters"},
    "bench": {"videos", "out", "parameters", "as_json"},
    "synth": {"out"},
    "preview": {"store", "video", "out", "as_json"},
}  # fmt: skip
"""Options and arguments that are no field of settings."""


def parsed(command: str, *arguments: str) -> click.Context:
    """The context of a command whose arguments are parsed, and which is not run. Raises click.UsageError."""
    return cli.commands[command].make_context(command, list(arguments))


def extract_settings(*arguments: str) -> ExtractSettings:
    context = parsed("extract", "--dataset", "folder", *arguments)
    return content_settings(context, context.params)


def fields(command: str) -> list[tuple[str, str, type[Settings], dataclasses.Field[Any]]]:
    return [
        (f"{section}.{field.name}", f"{section}__{field.name}", settings, field)
        for section, settings in SECTIONS[command].items()
        for field in dataclasses.fields(settings)
    ]


def options(command: str) -> dict[str, click.Parameter]:
    return {str(parameter.name): parameter for parameter in cli.commands[command].params}


# -- options and fields ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", SECTIONS)
def test_every_field_has_one_option_or_a_reason(command: str) -> None:
    names = [str(parameter.name) for parameter in cli.commands[command].params]
    expected = [value for path, value, _, _ in fields(command) if path not in WITHOUT_OPTION[command]]
    assert sorted(names) == sorted([*expected, *NOT_A_SETTING[command]])


@pytest.mark.parametrize("command", SECTIONS)
def test_reasons_are_of_fields_that_exist(command: str) -> None:
    assert set(WITHOUT_OPTION[command]) <= {path for path, _, _, _ in fields(command)}


def test_sections_are_all_content_settings() -> None:
    sections = {
        field.name: type(getattr(ExtractSettings(), field.name)) for field in dataclasses.fields(ExtractSettings)
    }
    nested = {name: kind for name, kind in sections.items() if issubclass(kind, Settings)}
    assert {**nested, "run": RunSettings, "cluster": ClusterSettings} == SECTIONS["extract"]
    assert set(sections) - set(nested) == {"dataset", "algorithms"}  # --dataset; numbers of this version's stages


@pytest.mark.parametrize("command", cli.commands)
def test_no_option_stands_for_two_things(command: str) -> None:
    parameters = cli.commands[command].params
    texts = [text for p in parameters if isinstance(p, click.Option) for text in (*p.opts, *p.secondary_opts)]
    assert [text for text, count in Counter(texts).items() if count > 1] == []


@pytest.mark.parametrize("command", SECTIONS)
def test_defaults_are_those_of_the_settings(command: str) -> None:
    required = {
        "extract": ["--dataset", "folder"],
        "flow": ["a.png", "b.png", "-o", "f.flo"],
        "bench": ["videos"],
        "synth": ["out"],
        "preview": ["store", "video", "-o", "f.png"],
    }
    values = parsed(command, *required[command]).params
    for section, settings in SECTIONS[command].items():
        assert settings_from(section, settings, values) == settings()


@pytest.mark.parametrize("dataset", ["ucf101", "list"])
def test_extract_without_options_has_the_default_settings(dataset: str) -> None:
    context = parsed("extract", "--dataset", dataset)
    assert content_settings(context, context.params) == ExtractSettings(dataset=dataset)


@pytest.mark.parametrize("command", SECTIONS)
def test_choices_and_help_are_those_of_the_field(command: str) -> None:
    for path, value, _, field in fields(command):
        if path in WITHOUT_OPTION[command]:
            continue
        option = options(command)[value]
        assert isinstance(option, click.Option)
        assert option.help == field.metadata["help"], path
        choices = tuple(option.type.choices) if isinstance(option.type, click.Choice) else None
        assert choices == field.metadata["choices"], path
        assert [*option.opts, *option.secondary_opts] == field.metadata["option"].split("/"), path


@pytest.mark.parametrize("command", [*cli.commands.values(), *fusion_cli.commands.values()], ids=lambda c: c.name)
def test_every_option_has_a_help_text_that_ends_as_a_sentence(command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert re.search(r"(\.|\])$", parameter.help or ""), parameter.name
    assert command.help
    assert command.short_help


def test_help_shows_no_escapes() -> None:
    text = cli.get_help(cli.make_context("flowprep", ["info"]))
    assert "\\b" not in text
    assert "\b" not in text


@pytest.mark.parametrize(
    ("arguments", "section", "field", "value"),
    [
        (["--bound", "15"], "quantise", "bound_px", 15.0),
        (["--no-rgb"], "store", "rgb", False),
        (["--no-flow"], "store", "flow", False),
        (["--format", "jpeg", "--layout", "tsn"], "store", "layout", "tsn"),
        (["--backend", "opencv", "--variant", "cpu"], "flow", "variant", "cpu"),
        (["--step", "3", "--backward"], "flow", "step", 3),
        (["--fps", "12.5"], "decode", "fps", 12.5),
        (["--param", "num_warps=3", "--param", "tau=0.2"], "flow", "parameters", {"num_warps": 3, "tau": 0.2}),
        (["--short-side", "128"], "resize", "short_side", 128),
        (["--size", "340x256"], "resize", "width", 340),
        (["--size", "340x256"], "resize", "height", 256),
        (["--size", "340x256"], "resize", "short_side", None),
        (["--keep-size"], "resize", "short_side", None),
    ],
)
def test_option_sets_its_field(arguments: list[str], section: str, field: str, value: object) -> None:
    assert getattr(getattr(extract_settings(*arguments), section), field) == value


@pytest.mark.parametrize(
    "arguments",
    [
        ["--size", "340x256", "--keep-size"],
        ["--size", "340x256", "--short-side", "256"],
        ["--short-side", "256", "--keep-size"],
    ],
)
def test_one_rule_of_size_at_most(arguments: list[str]) -> None:
    with pytest.raises(SettingsError, match="one of --short-side, --size and --keep-size"):
        extract_settings(*arguments)


@pytest.mark.parametrize("arguments", [["--layout", "tree"], ["--step", "two"], ["--bounds", "20"], ["--no-strict"]])
def test_what_no_option_takes_is_wrong_use(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError):
        extract_settings(*arguments)


# -- texts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "size"), [("340x256", (340, 256)), ("340X256", (340, 256)), ("1x1", (1, 1))])
def test_parse_size(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "340", "340x", "x256", "340x256x3", "-340x256", "340.0x256", "340,256", "axb", "³x4"]
)
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(SettingsError, match=r"WIDTHxHEIGHT.*340x256.*got"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("num_warps=3", "num_warps", 3),
        ("tau=0.25", "tau", 0.25),
        ("epsilon=1e-3", "epsilon", 0.001),
        ("gaussian_window=true", "gaussian_window", True),
        ("gaussian_window=False", "gaussian_window", False),
        ("preset=medium", "preset", "medium"),
        (" tau = 0.2 ", "tau", 0.2),
        ("coarsest_scale=-1", "coarsest_scale", -1),
    ],
)
def test_parse_parameters(text: str, name: str, value: object) -> None:
    parameters = parse_parameters((text,))
    assert parameters == {name: value}
    assert type(parameters[name]) is type(value)


@pytest.mark.parametrize("text", ["tau", "=3", "tau=", " = ", ""])
def test_parse_parameters_refuses(text: str) -> None:
    with pytest.raises(SettingsError, match=r"NAME=VALUE.*got"):
        parse_parameters((text,))


# -- documents ---------------------------------------------------------------------------------------------------------


def test_generated_pages_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def documented_commands() -> list[tuple[str, str]]:
    """Document and line of every `flowprep ...` in its shell blocks and inline code, and in the group's help."""
    found = [("--help", line.split("  ")[0]) for line in (cli.help or "").splitlines() if line.startswith("flowprep ")]
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        blocks = re.findall(r"^ *```sh\n(.*?)```", text, re.DOTALL | re.MULTILINE)
        lines = [line.strip() for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`(flowprep [a-z][^`\n]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        found += [(path.name, line) for line in lines if re.match(r"flowprep [a-z]", line)]
    return found


def test_readme_shows_the_main_commands() -> None:
    shown = {line.split()[1] for document, line in documented_commands() if document == "README.md"}
    assert shown == set(cli.commands)


@pytest.mark.parametrize(("document", "line"), documented_commands())
def test_documented_commands_parse(document: str, line: str) -> None:
    arguments = shlex.split(line, comments=True)[1:]
    if len(arguments) == 1 or "[OPTIONS]" in arguments:  # a mention, or a usage line
        assert arguments[0] in cli.commands
        return
    context = parsed(*arguments)
    if arguments[0] == "extract":
        content_settings(context, context.params)
