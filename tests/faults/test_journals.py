"""Case 72 of journals: torn and altered lines are left out, and many writers share no file."""

from pathlib import Path

from flowprep.journal import Journal, read_journal


def test_case_72_journal_lines_that_are_torn_or_altered_are_left_out(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        for number in range(4):
            journal.append("video", id=f"v{number}", worker="w\u00e4\udcff")
    data = bytearray(journal.path.read_bytes())
    data[data.index(b'"v1"') + 2] = ord("9")
    journal.path.write_bytes(data[:-10])
    events = list(read_journal(journal.path))
    assert [event["id"] for event in events] == ["v0", "v2"]
    assert events[0]["worker"] == "w\u00e4\udcff"
