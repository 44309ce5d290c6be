"""The code blocks of the documentation: where each stands, what it is, and why it is not run if it says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNNABLE = ("sh", "python")
_EXCUSE = re.compile(r"<!-- not run: (.+) -->")
_FENCE = re.compile(r"^( *)```(\w*)\s*$")


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block; `not_run` is the reason that the line above it gives, as `<!-- not run: .. -->`."""

    page: str
    line: int
    language: str
    text: str
    not_run: str | None


def pages() -> list[Path]:
    """README, CONTRIBUTING and all of docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def code_blocks(page: Path) -> Iterator[CodeBlock]:
    """The blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    index = 0
    while index < len(lines):
        opening = _FENCE.match(lines[index])
        if opening is None:
            index += 1
            continue
        indent, language = opening.groups()
        end = next(k for k in range(index + 1, len(lines)) if lines[k].strip() == "```")
        above = next((line for line in reversed(lines[:index]) if line.strip()), "")
        excuse = _EXCUSE.fullmatch(above.strip())
        yield CodeBlock(
            page=str(page.relative_to(ROOT)),
            line=index + 1,
            language=language,
            text="\n".join(line.removeprefix(indent) for line in lines[index + 1 : end]) + "\n",
            not_run=excuse.group(1) if excuse else None,
        )
        index = end + 1
