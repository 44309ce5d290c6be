"""A Markdown extension: `$u$` and `$$u$$` become MathML, which browsers draw without a script or a font from elsewhere.

The same text is mathematics on GitHub, which has its own renderer.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.blockprocessors import BlockProcessor
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

_INLINE = r"(?<![\\$])\$(?=\S)([^$\n]+?)(?<=\S)\$(?![\w$])"
_INLINE_PRIORITY = 185  # after code spans (190), before backslash escapes (180), which LaTeX is full of
_BLOCK_PRIORITY = 95  # after indented code, before lists and headings


class _Inline(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:  # noqa: N802
        return self.md.htmlStash.store(convert(m.group(1))), m.start(0), m.end(0)


class _Block(BlockProcessor):
    def test(self, parent: Element, block: str) -> bool:
        return block.startswith("$$") and block.rstrip().endswith("$$")

    def run(self, parent: Element, blocks: list[str]) -> None:
        latex = blocks.pop(0).strip().removeprefix("$$").removesuffix("$$").strip()
        SubElement(parent, "p").text = self.parser.md.htmlStash.store(convert(latex, display="block"))


class MathExtension(Extension):
    """Both forms."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Register the processors."""
        md.inlinePatterns.register(_Inline(_INLINE, md), "mathml-inline", _INLINE_PRIORITY)
        md.parser.blockprocessors.register(_Block(md.parser), "mathml-block", _BLOCK_PRIORITY)


def makeExtension(**settings: Any) -> MathExtension:  # noqa: N802
    """Called by Markdown by this name."""
    return MathExtension(**settings)
