import dataclasses
from pathlib import Path

import pytest

from flowprep import commit, resume
from flowprep.config import ExtractSettings
from flowprep.errors import MissingDataError, SettingsError, StoreError
from flowprep.records import Listing, Reason, Segment, Video
from flowprep.stores.savedlist import SavedList, list_lines, list_path, read_identities, read_list

VIDEOS = (
    Video(id="a/b", path="a/b.avi", class_name="a", label=0),
    Video(id="t_000001_000009", path="t.mp4", segment=Segment(start_seconds=1.5, end_seconds=9.0, certain=False)),
    Video(id="t_000002_000009", path="t.mp4", segment=Segment(start_seconds=2.0, end_seconds=9.0)),
    Video(id="g\udcff", path="g\udcff.avi", problem=Reason("missing", "g: it is not there")),
)
LISTING = Listing(
    dataset="list",
    videos=VIDEOS,
    classes=("a",),
    splits={"1": {"train": ("a/b",), "test": ("g\udcff",)}},
    unlisted=("x.avi",),
    notes=("one note",),
    num_duplicates=2,
)


def write(out: Path, saved: SavedList) -> None:
    list_path(out).parent.mkdir(parents=True, exist_ok=True)
    commit.write_lines(list_path(out), list_lines(saved))


@pytest.mark.parametrize("num_bytes", [None, [5, 6, 6, 0]])
def test_a_list_is_read_as_it_was_written(tmp_path: Path, num_bytes: list[int] | None) -> None:
    saved = SavedList(listing=LISTING, videos=tmp_path / "v", splits=None, skip_bad_lines=True, num_bytes=num_bytes)
    write(tmp_path, saved)
    assert read_list(tmp_path) == saved


def test_identities_leave_out_what_may_change(tmp_path: Path) -> None:
    write(tmp_path, SavedList(listing=LISTING, videos=None))
    found = list(read_identities(tmp_path))
    assert found[0] == {"id": "a/b", "class": "a", "label": 0, "times": None}
    assert [entry["times"] for entry in found] == [None, None, [2.0, 9.0], None]


def test_a_changed_entry_is_refused_with_what_has_changed(tmp_path: Path) -> None:
    checked = resume.check(tmp_path, ExtractSettings(), LISTING)
    resume.begin(tmp_path, ExtractSettings(), SavedList(listing=LISTING, videos=None), checked=checked)
    for now, what in (
        ({"label": 1}, "now has label 1 instead of 0 "),
        ({"label": 1, "class_name": "b"}, "now has class 'b' instead of 'a' and label 1 instead of 0 "),
        ({"id": "a/c"}, "is now a/c; "),
    ):
        changed = dataclasses.replace(LISTING, videos=(dataclasses.replace(VIDEOS[0], **now), *VIDEOS[1:]))
        with pytest.raises(SettingsError, match="entry 1, a/b in the store") as caught:
            resume.check(tmp_path, ExtractSettings(), changed)
        assert what in str(caught.value)
    with pytest.raises(
        SettingsError, match=r"entry 4, .* in the store .*, is gone; a list may only grow at its end: to keep"
    ):
        resume.check(tmp_path, ExtractSettings(), dataclasses.replace(LISTING, videos=VIDEOS[:3]))


def test_a_missing_list_and_a_damaged_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no store"):
        read_list(tmp_path)
    write(tmp_path, SavedList(listing=LISTING, videos=None))
    whole = list_path(tmp_path).read_bytes()
    lines = whole.splitlines(keepends=True)
    damages = (
        b"",
        whole[:-20],
        b"".join(lines[:-1]),
        b"".join([*lines, lines[-1]]),
        lines[0].replace(b"flowprep-list", b"something") + b"".join(lines[1:]),
        lines[0] + b"{}\n" + b"".join(lines[2:]),
        lines[0] + b"[]\n" + b"".join(lines[2:]),
    )
    for damaged in damages:
        list_path(tmp_path).write_bytes(damaged)
        with pytest.raises(StoreError, match=r"list\.jsonl"):
            read_list(tmp_path)
        with pytest.raises(StoreError, match=r"list\.jsonl"):
            list(read_identities(tmp_path))
