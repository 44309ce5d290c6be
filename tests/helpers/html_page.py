"""A page read by the standard library's parser, with what a well-formed and self-contained one must keep."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "br", "hr", "input"}
ADDRESSES = ("src", "href", "srcset", "action", "data", "poster", "xlink:href", "formaction", "background", "ping")

Attributes = dict[str, str | None]


class Page(HTMLParser):
    """Elements in their order with attributes, texts by element, and what is wrong with the nesting."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text("utf-8")
        self.elements: list[tuple[str, Attributes]] = []
        self.texts: list[tuple[str, str]] = []
        self.problems: list[str] = []
        self._open: list[str] = []
        self.feed(self.source)
        self.close()
        self.problems += [f"{tag} is not closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = Counter(name for name, _ in attrs)
        self.problems += [f"{tag} has {name} twice" for name, times in names.items() if times > 1]
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"{tag} is closed at {self.getpos()} where it is not open")

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1] if self._open else "", " ".join(data.split())))

    def all(self, tag: str) -> list[Attributes]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        """All that is to be read, on one line."""
        return " ".join(text for tag, text in self.texts if tag not in ("style", "script"))

    def check(self) -> None:
        """Assert that tags nest, ids are unique and lead somewhere, nothing is loaded, and pictures have words."""
        assert self.problems == []
        ids = Counter(attributes["id"] for _, attributes in self.elements if "id" in attributes)
        assert all(times == 1 for times in ids.values()), ids
        for tag, attributes in self.elements:
            for name, value in attributes.items():
                assert not name.startswith("on"), f"{tag} has {name}"
                if name in ADDRESSES:
                    assert value is not None
                    assert value.startswith("data:") or (value[0] == "#" and value[1:] in ids), f"{tag} {name}={value}"
        assert "url(" not in self.source
        assert "@import" not in self.source
        assert all(attributes.get("alt") for attributes in self.all("img"))
        assert all(attributes.get("scope") in ("col", "row") for attributes in self.all("th"))
        for attributes in self.all("svg"):
            assert attributes.get("aria-hidden") == "true" or (attributes["role"] == "img" and attributes["aria-label"])
        assert len(self.all("script")) == 1
        assert [attributes["lang"] for attributes in self.all("html")] == ["en"]
