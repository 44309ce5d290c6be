"""Lines of a list into fields: tabs, commas or white space, quotes, comments.

The first line that is neither blank nor a comment decides for the whole file:

- it has a tab outside quotes: fields are separated by tabs;
- else it has a comma outside quotes: by commas;
- else by white space. The path may then hold blanks, and all but the last fields of a line belong to it: two fields
  where the first line ends in a whole number (`My clip.mp4 3`), else one, the path. A first line in quotes
  (`"My clip.mp4" cooking`) or a header (`path label id`) says itself how many fields there are.

A field may stand in double quotes, with `""` for a quote, and then hold anything, line ends too. Blanks around a field
that is not quoted are dropped. A line that begins with `#` is a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from flowprep.datasets.text import shown

COLUMNS = ("path", "label", "class", "id", "start", "end", "split")
"""Names that a header may have. Without one the columns are path, label, id, start, end."""

_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_BLANK = " \t\r"
_MAX_QUOTED = 10_000  # characters in which an open quote must close: no path is longer
_INTEGER = re.compile(r"[+-]?[0-9]+")


class FieldError(ValueError):
    """A line that cannot be split. `line` is its number from 1."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


class _OpenQuoteError(ValueError):
    """A quote is not closed on this line: the field goes on in the next one."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How the lines of one file are split. `delimiter` is "" for white space."""

    delimiter: str
    columns: tuple[str, ...]
    has_header: bool
    integer_last: bool


def rows(text: str) -> Iterator[tuple[int, tuple[str, ...], list[str]]]:
    """(line number from 1, column names, fields) of each entry of a list; the names are the same for all.

    Raises FieldError with the line where a header is unknown, a quote stays open or the number of fields differs.
    """
    form: _Form | None = None
    lines = enumerate(text.split("\n"), start=1)
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        while True:
            try:
                entry_form = form or _form(number, line)
                fields = _fields(number, line, entry_form)
                break
            except _OpenQuoteError:
                _, more = next(lines, (0, None))
                if more is None or len(line) > _MAX_QUOTED:
                    raise FieldError(number, "a quote is opened and never closed") from None
                line = f"{line}\n{more}"
        if form is None:
            form = entry_form
            if form.has_header:
                continue
        if len(fields) != len(form.columns):
            raise FieldError(number, f"expected {len(form.columns)} columns as in the first line, got {len(fields)}")
        yield number, form.columns, fields


def _form(number: int, line: str) -> _Form:
    """The form that the first line decides."""
    is_quoted = line.lstrip().startswith('"')
    if is_quoted and _QUOTED.match(line.lstrip()) is None:
        raise _OpenQuoteError
    bare = _QUOTED.sub("", line)
    delimiter = "\t" if "\t" in bare.strip() else "," if "," in bare else ""
    if delimiter or is_quoted:
        fields = _delimited(number, line, delimiter) if delimiter else _spaced(number, line)
    else:
        fields = line.split()
    names = [field.lower() for field in fields]
    if "path" in names and (delimiter or set(names) <= set(COLUMNS)):
        for name in names:
            if name not in COLUMNS or names.count(name) > 1:
                raise FieldError(
                    number, f"the header has {shown(name)}; its columns are {', '.join(COLUMNS)}, each once"
                )
        return _Form(delimiter, tuple(names), has_header=True, integer_last=False)
    integer_last = False
    if not delimiter and not is_quoted:
        integer_last = len(fields) > 1 and _INTEGER.fullmatch(fields[-1]) is not None
        num_columns = 2 if integer_last else 1
    else:
        num_columns = len(fields)
    if num_columns not in (1, 2, 3, 5):
        raise FieldError(number, f"expected 1, 2, 3 or 5 columns (path, label, id, start and end), got {num_columns}")
    columns = ("path", "label", "id", "start", "end")[:num_columns]
    return _Form(delimiter, columns, has_header=False, integer_last=integer_last)


def _fields(number: int, line: str, form: _Form) -> list[str]:
    if form.delimiter:
        if '"' not in line:
            return [field.strip(_BLANK) for field in line.split(form.delimiter)]
        return _delimited(number, line, form.delimiter)
    line = line.strip(_BLANK)
    if line.startswith('"'):
        return _spaced(number, line)
    num_columns = len(form.columns)
    if form.columns[0] != "path":
        return line.split(None, num_columns - 1) if '"' not in line else _spaced(number, line)
    fields = line.rsplit(None, num_columns - 1)
    if form.integer_last and len(fields) == 2 and not _INTEGER.fullmatch(fields[1]):
        raise FieldError(number, f"expected a label that is a whole number at the end, got {shown(fields[1])}")
    if num_columns == 1 and not form.has_header and len(line.split()) > 1 and _INTEGER.fullmatch(line.split()[-1]):
        raise FieldError(number, "a label follows the path here but not in the first line; quote a path with a number")
    return fields


def _delimited(number: int, line: str, delimiter: str) -> list[str]:
    """The fields between delimiters, of which there is one less than fields."""
    blank = _BLANK.replace(delimiter, "")
    fields = []
    at = 0
    while True:
        at = _skip(line, at, blank)
        if line.startswith('"', at):
            field, at = _quoted(line, at)
            at = _skip(line, at, blank)
            if at < len(line) and line[at] != delimiter:
                raise FieldError(number, 'text follows a closing quote; write "" for a quote inside quotes')
            fields.append(field)
            end = at if at < len(line) else -1
        else:
            end = line.find(delimiter, at)
            fields.append((line[at:] if end < 0 else line[at:end]).strip(_BLANK))
        if end < 0:
            return fields
        at = end + 1


def _spaced(number: int, line: str) -> list[str]:
    """The fields between white space, each one quoted or without blanks."""
    fields = []
    at = _skip(line, 0, _BLANK)
    while at < len(line):
        if line[at] == '"':
            field, at = _quoted(line, at)
            if at < len(line) and line[at] not in _BLANK:
                raise FieldError(number, 'text follows a closing quote; write "" for a quote inside quotes')
        else:
            start = at
            while at < len(line) and line[at] not in _BLANK:
                at += 1
            field = line[start:at]
        fields.append(field)
        at = _skip(line, at, _BLANK)
    return fields


def _skip(line: str, at: int, blank: str) -> int:
    while at < len(line) and line[at] in blank:
        at += 1
    return at


def _quoted(line: str, at: int) -> tuple[str, int]:
    """The field whose quote opens at `at`, and the place behind its closing quote."""
    quoted = _QUOTED.match(line, at)
    if quoted is None:
        raise _OpenQuoteError
    return quoted[1].replace('""', '"'), quoted.end()
