"""Cases 24 to 26 and 49: videos that crash their child, hang it or eat its memory, and what that costs the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.children import BAD, SETTINGS, faulty_work, outcomes, videos_named

from flowprep import supervisor
from flowprep.childprocess import Work
from flowprep.publisher import open_publisher
from flowprep.records import State


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    with faulty_work(tmp_path, monkeypatch) as work:
        yield work


def test_case_24_25_26_exactly_the_bad_videos_are_quarantined_and_every_neighbour_is_done_once(work: Work) -> None:
    good = [f"{letter}{number}" for letter in "abceghklrsz" for number in range(5)][:50]
    tasks = videos_named(work, [*good, *BAD])
    work = replace(work, stall_seconds=4.0)
    done = outcomes(work, tasks, jobs=4)
    assert {name: one.row.reasons for name, one in done.items() if not one.row.state.stored} == {
        name: (reason,) for name, reason in BAD.items()
    }
    for name, reason in BAD.items():
        bad = done[name]
        assert bad.row.state is State.QUARANTINED
        assert [attempt.outcome for attempt in bad.attempts] == [reason.code, reason.code]
        assert len({attempt.worker for attempt in bad.attempts}) == 2
        assert bad.row.source_bytes == (work.videos / f"{name}.avi").stat().st_size
        assert len(bad.row.source_sha256) == 64
    for name in good:
        assert (str(done[name].row.state), done[name].num_attempts, done[name].row.flows) == ("ok", 1, 5)
    # Neighbours of those that die keep their child; the four first ones and one for each death are all there are.
    num_deaths = sum(len(one.attempts) for name, one in done.items() if name in BAD)
    assert len({attempt.worker for one in done.values() for attempt in one.attempts}) <= 4 + num_deaths
    assert "something went wrong in C" in done["crash"].attempts[0].stderr
    assert "Segmentation fault" in done["crash"].attempts[1].stderr  # with the Python stack
    publisher = open_publisher(work.out, SETTINGS)
    for task in tasks:
        assert publisher.read_row(task.video, task.list_index) == done[task.video.id].row


def test_case_24_25_26_30_31_what_happens_once_costs_a_try_and_no_more(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_BACK_OFF_SECONDS", 0.0)
    codes = {
        "crash": "crash",
        "kill": "memory",
        "grow": "memory",
        "hold": "timeout",
        "io": "failed",
        "changed": "failed",
    }
    tasks = videos_named(work, ["a", *(f"{word}-once" for word in codes)])
    done = outcomes(replace(work, stall_seconds=4.0), tasks, jobs=3)
    assert {str(one.row.state) for one in done.values()} == {"ok"}
    assert done.pop("a").num_attempts == 1
    assert {name: [attempt.outcome for attempt in one.attempts] for name, one in done.items()} == {
        f"{word}-once": [code, "ok"] for word, code in codes.items()
    }


def test_case_30_and_31_what_may_heal_is_tried_twice_and_other_failures_once(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_BACK_OFF_SECONDS", 0.0)
    tasks = videos_named(work, ["io", "changed", "internal", "damaged"])
    path = work.videos / "damaged.avi"
    path.write_bytes(path.read_bytes()[:-2000])
    done = outcomes(work, tasks)
    assert {(name, str(one.row.state), one.row.reasons[0].code, one.num_attempts) for name, one in done.items()} == {
        ("io", "failed", "io", 2),
        ("changed", "failed", "changed", 2),
        ("internal", "failed", "internal", 1),
        ("damaged", "failed", "container", 1),
    }


@pytest.mark.parametrize("poison", [["crash"], ["abort", "crash", "exit"]], ids=["one", "three"])
def test_case_49_poison_among_200(work: Work, poison: list[str]) -> None:
    """Exactly those are given up, after two tries each in children of their own; each other video is done once."""
    tasks = videos_named(work, [*(f"v{number:03d}" for number in range(200 - len(poison))), *poison])
    done = outcomes(work, tasks, jobs=2)
    assert len(done) == 200
    given_up = {name: one.row.reasons for name, one in done.items() if one.row.state is State.QUARANTINED}
    assert given_up == {name: (BAD[name],) for name in poison}
    assert {one.num_attempts for name, one in done.items() if name not in poison} == {1}
    assert {one.num_attempts for name, one in done.items() if name in poison} == {2}
    assert len({one.row.stream_sha256["rgb"] for name, one in done.items() if name not in poison}) == 1
