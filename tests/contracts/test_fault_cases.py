"""Each fault case that concerns one machine has a test of its number in `tests/faults`, or a named reason why not."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ROOT / "tests" / "faults"
DOCUMENT = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")

ONE_MACHINE = {*range(1, 50), *range(64, 77), 81, 86, 87, 89}
"""Bad files and lists (1 to 44), kills (45 to 49), arrays (64), disks (65 to 76), numbers, security, fuzz."""

_NAME = re.compile(r"test_case_((?:\d\d_(?:and_)?)+)[a-z]")


def numbered_tests() -> dict[int, list[str]]:
    """Names of tests by the numbers in them."""
    found = defaultdict(list)
    for path in sorted(path for path in FAULTS.glob("test_*.py") if not path.name.startswith("test_dask_")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (match := _NAME.match(node.name)):
                for number in re.findall(r"\d\d", match[1]):
                    found[int(number)].append(f"{path.name}::{node.name}")
    return found


def table() -> dict[int, tuple[str, str]]:
    """Rows of the document: by number, the case and where it is."""
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|$", DOCUMENT, re.MULTILINE)
    numbers = [int(number) for number, _, _ in rows]
    assert numbers == sorted(set(numbers))
    return {int(number): (case.strip(), where.strip()) for number, case, where in rows}


def test_each_case_of_one_machine_has_a_test() -> None:
    assert sorted(ONE_MACHINE - numbered_tests().keys()) == []


def test_the_document_names_each_case_and_the_files_of_its_tests() -> None:
    rows, tests = table(), numbered_tests()
    assert rows.keys() >= ONE_MACHINE
    for number in ONE_MACHINE:
        named = set(re.findall(r"`(test_\w+\.py)`", rows[number][1]))
        assert named == {test.partition("::")[0] for test in tests[number]}, f"case {number}: {sorted(tests[number])}"


def test_numbers_in_names_are_those_of_cases() -> None:
    assert [number for number in numbered_tests() if not 1 <= number <= 89] == []
    assert any(len(tests) > 1 for tests in numbered_tests().values())
