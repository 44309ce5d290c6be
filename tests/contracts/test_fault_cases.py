"""Each fault case has tests of its number, which the document names, or a reason why not."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ROOT / "tests" / "faults"
DOCUMENT = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")

TESTED = {*range(1, 63), *range(64, 77), 81, *range(83, 88), 89}
"""Bad files and lists (1 to 44), processes and clusters (45 to 62), arrays (64), disks (65 to 76), security, fuzz."""

_NAME = re.compile(r"test_case_((?:\d\d_(?:and_)?)+)[a-z]")
_ROWS = re.compile(r"^\| (\d+(?:, \d+)*) \| ([^|]+) \|(?: ([^|]+) \|)?$", re.MULTILINE)


def numbered_tests() -> dict[int, list[str]]:
    """Names of tests by the numbers in them; files that lie elsewhere come with their folder, as `prep/test_x.py`."""
    found = defaultdict(list)
    for path in sorted([*FAULTS.glob("test_*.py"), *FAULTS.parent.glob("prep/test_*.py")]):
        file = path.name if path.parent == FAULTS else f"{path.parent.name}/{path.name}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (match := _NAME.match(node.name)):
                for number in re.findall(r"\d\d", match[1]):
                    found[int(number)].append(f"{file}::{node.name}")
    return found


def table() -> dict[int, tuple[str, str]]:
    """Rows of the document: by number, the case and where it is."""
    rows = [(number, case, where) for number, case, where in _ROWS.findall(DOCUMENT) if where]
    numbers = [int(number) for number, _, _ in rows]
    assert numbers == sorted(set(numbers))
    return {int(number): (case.strip(), where.strip()) for number, case, where in rows}


def remarks() -> set[int]:
    """Numbers in the table of what is not tested, or is not as in the list."""
    rows = [numbers for numbers, _, where in _ROWS.findall(DOCUMENT) if not where]
    return {int(number) for numbers in rows for number in numbers.split(", ")}


def test_each_case_has_a_test_or_a_reason_why_not() -> None:
    assert sorted(TESTED - numbered_tests().keys()) == []
    assert sorted({*range(1, 90)} - TESTED - remarks()) == []


def test_the_document_names_each_case_and_the_files_of_its_tests() -> None:
    rows, tests = table(), numbered_tests()
    assert rows.keys() >= TESTED == tests.keys()
    for number in rows:
        named = set(re.findall(r"`((?:\w+/)?test_\w+\.py)`", rows[number][1]))
        assert named == {test.partition("::")[0] for test in tests[number]}, f"case {number}: {sorted(tests[number])}"


def test_numbers_in_names_are_those_of_cases() -> None:
    """A test that begins with a bare number would be held to nothing."""
    assert [number for number in numbered_tests() if not 1 <= number <= 89] == []
    assert any(len(tests) > 1 for tests in numbered_tests().values())
    names = [name for path in FAULTS.glob("test_*.py") for name in re.findall(r"def (test_\d\w*)", path.read_text())]
    assert names == []
