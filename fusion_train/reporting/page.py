"""The page: a template, a style sheet and a few lines of script, in one file that asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from flowprep import __version__
from fusion_train.reporting.classes import gain_bar
from fusion_train.reporting.results import percent, points


def render(content: Mapping[str, Any]) -> str:
    """HTML of what the template names. All texts in `content` are escaped unless they are `Markup`.

    A policy in the head allows the page's own script by its hash, and pictures inside the page; nothing else is run or
    asked for, even if a text were not escaped.
    """
    script = _read("sort.js")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "points": points, "gain_bar": gain_bar}
    template = environment.from_string(_read("page.html"))
    return template.render(
        content,
        version=__version__,
        style=Markup(_read("style.css")),  # noqa: S704 - files of this package
        script=Markup(script),  # noqa: S704
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _read(name: str) -> str:
    return (resources.files("fusion_train.reporting") / "templates" / name).read_text("utf-8")
