"""The command line that goes on with a store, made from its settings and its list."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowprep.config import ExtractSettings, FlowSettings, ResizeSettings
from flowprep.flow.parameters import parse_parameters
from flowprep.settings import Settings
from flowprep.stores.savedlist import SavedList


def extract_command(out: Path, settings: ExtractSettings, saved: SavedList, part: str | None = None) -> str:
    """`flowprep extract ...` with every option that is not at its default."""
    words = ["flowprep", "extract", "--dataset", settings.dataset, "--videos", str(saved.videos or "DIR")]
    if saved.splits is not None:
        words += ["--splits", str(saved.splits)]
    words += ["--out", str(out)]
    if saved.skip_bad_lines:
        words.append("--skip-bad-lines")
    for field in dataclasses.fields(settings):
        section = getattr(settings, field.name)
        if isinstance(section, ResizeSettings):
            words += _resize_options(section)
        elif isinstance(section, Settings):
            words += _options(section)
        if isinstance(section, FlowSettings) and settings.store.flow:
            words += _parameters(section)
    if part is not None:
        words += ["--part", part]
    return shlex.join(words)


def adopt_command(out: Path, settings: ExtractSettings, saved: SavedList) -> str:
    """`flowprep adopt ...` with every fact that was stated of a tree of another tool."""
    words = ["flowprep", "adopt", str(out), "--layout", settings.store.layout]
    if settings.store.flow:
        words += ["--bound", _text(settings.quantise.bound_px), "--rounding", settings.quantise.rounding]
        words += ["--step", str(settings.flow.step)]
    if settings.dataset != "folder":
        words += ["--dataset", settings.dataset]
    if saved.splits is not None:
        words += ["--splits", str(saved.splits)]
    return shlex.join(words)


def _options(section: Settings) -> Iterator[str]:
    for field in dataclasses.fields(section):
        option, value = field.metadata.get("option"), getattr(section, field.name)
        if not option or value == field.default:
            continue
        if isinstance(value, bool):
            on, _, off = option.partition("/")
            yield on if value else off
        else:
            yield from (option, _text(value))


def _resize_options(size: ResizeSettings) -> Iterator[str]:
    if size.width is not None:
        yield from ("--size", f"{size.width}x{size.height}")
    elif size.short_side is None:
        yield "--keep-size"
    else:
        yield from _options(size)


def _parameters(flow: FlowSettings) -> Iterator[str]:
    """Those that the backend would not take by itself."""
    defaults = parse_parameters(flow.backend, flow.variant, {}).to_json()
    defaults = {name.rstrip("_"): value for name, value in defaults.items()}
    for name, value in flow.parameters.items():
        if value != defaults.get(name.rstrip("_")):
            yield from ("--param", f"{name}={_text(value)}")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
