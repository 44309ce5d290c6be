"""Write the generated pages: docs/cli.md, and the table of reasons in docs/formats.md.

`python docs/generate.py` writes them anew, `python docs/generate.py --check` exits 1 if one is out of date. Both are
made from the commands, settings and records themselves, not from `--help`, so that no terminal's width or colour shows.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from flowprep.config import BACKENDS
from flowprep.flow.parameters import parse_parameters
from flowprep.records import REASONS, RETRIED_BY_DEFAULT
from flowprep.settings import Settings
from flowprep_cli.fusion_main import cli as fusion_cli
from flowprep_cli.main import cli, main

DOCS = Path(__file__).parent
_BEGIN = "<!-- reasons: written by docs/generate.py -->"
_END = "<!-- reasons: end -->"
_DEFAULT_IN_HELP = " [default: "


def pages() -> dict[Path, str]:
    """What each generated page must hold."""
    formats = DOCS / "formats.md"
    return {DOCS / "cli.md": commands_page(), formats: with_reasons(formats.read_text("utf-8"))}


def commands_page() -> str:
    """The reference of all commands."""
    lines = [
        "# Commands",
        "",
        "Written by `docs/generate.py` from the commands themselves; do not edit. `--help` after a command says the",
        "same. What `--json` prints goes to stdout, everything else that `extract`, `flow` and `synth` say to stderr.",
        "",
        f"Exit codes. {' '.join(_exit_codes().split())}",
    ]
    for program, group in (("flowprep", cli), ("fusion-train", fusion_cli)):
        for name in sorted(group.commands):
            lines += ["", *_command(f"{program} {name}", group.commands[name])]
    lines += ["", "## Flow parameters", "", *_flow_parameters()]
    return "\n".join(lines) + "\n"


def _exit_codes() -> str:
    """The paragraph on exit codes in the entry point's docstring."""
    return (inspect.getdoc(main) or "").partition("\n\n")[2]


def _command(name: str, command: click.Command) -> Iterator[str]:
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    placeholders = [str(a.name).upper() if a.required else f"[{str(a.name).upper()}]" for a in arguments]
    required = [f"{option.opts[-1]} {_value(option)}" for option in options if option.required]
    yield f"## {name}"
    yield ""
    yield f"`{' '.join([name, *required, *placeholders, '[OPTIONS]'])}`"
    yield ""
    yield inspect.cleandoc(command.help or "")
    yield ""
    yield from _table(("option", "default", "meaning"), (_option_row(option) for option in options))


def _option_row(option: click.Option) -> tuple[str, str, str]:
    meaning, _, default = (option.help or "").partition(_DEFAULT_IN_HELP)
    value = "" if option.is_flag else f" {_value(option)}"
    names = ", ".join(f"`{name}{value}`" for name in (*option.opts, *option.secondary_opts))
    if isinstance(option.type, click.Choice):
        meaning += f" One of {', '.join(f'`{choice}`' for choice in option.type.choices)}."
    return names, default.rstrip("]") or _default(option), meaning


def _value(option: click.Option) -> str:
    """What stands for the option's value."""
    if option.metavar:
        return option.metavar
    return "NAME" if isinstance(option.type, click.Choice) else option.type.name.upper()


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    value = option.default
    if isinstance(value, bool):
        # Of a pair of flags the one that holds is named; a single flag is off.
        return f"`{option.opts[0] if value else option.secondary_opts[0]}`" if option.secondary_opts else ""
    return f"`{value}`" if isinstance(value, (int, float, str, Path)) else ""


def _flow_parameters() -> Iterator[str]:
    yield "For `--param NAME=VALUE`, and for `flowprep.compute_flow(frames, NAME=VALUE)`."
    for backend, variants in BACKENDS.items():
        for variant in variants or (None,):
            parameters: Settings = parse_parameters(backend, variant, {})
            yield ""
            yield f"### {backend}{f', variant {variant}' if variant else ''}"
            yield ""
            yield from _table(("parameter", "default", "limits", "meaning"), _parameter_rows(parameters))


def _parameter_rows(parameters: Settings) -> Iterator[tuple[str, ...]]:
    values = parameters.to_json()
    for field in dataclasses.fields(parameters):
        name = field.name.rstrip("_")
        filled_in = " (by preset)" if field.default is None else ""
        yield f"`{name}`", f"`{values[name]}`{filled_in}", _limits(field.metadata), field.metadata["help"]


def _limits(metadata: Mapping[str, Any]) -> str:
    if metadata["choices"]:
        return ", ".join(f"`{choice}`" for choice in metadata["choices"])
    words = (("above", "above"), ("minimum", "from"), ("maximum", "to"))
    return " ".join(f"{word} {metadata[key]:g}" for key, word in words if metadata[key] is not None)


def with_reasons(page: str) -> str:
    """`page` with the table of reasons between its two markers."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SystemExit(f"docs/formats.md has lost its markers {_BEGIN!r} and {_END!r}; put them back")
    rows = (
        (f"`{code}`", meaning, "yes" if code in RETRIED_BY_DEFAULT else "") for code, meaning in sorted(REASONS.items())
    )
    table = "\n".join(_table(("code", "meaning", "tried again by a plain re-run"), rows))
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def run(*, check: bool) -> None:
    """Write the pages, or exit 1 with the names of those that are out of date."""
    stale = {path: text for path, text in pages().items() if not path.exists() or path.read_text("utf-8") != text}
    if check and stale:
        names = " and ".join(f"docs/{path.name}" for path in stale)
        raise SystemExit(f"{names} {'is' if len(stale) == 1 else 'are'} out of date; run `make docs`")
    for path, text in stale.items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--check"]):
        raise SystemExit(f"docs/generate.py takes nothing or --check, got {' '.join(sys.argv[1:])}")
    run(check=sys.argv[1:] == ["--check"])
