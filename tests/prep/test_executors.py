"""Children that crash, hang or eat memory cost their own video two tries, and its neighbours nothing."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.children import BAD, FAULTY, SETTINGS, faulty_work, outcomes, videos_named
from helpers.processes import children_of, eventually

from flowprep import child, commit, executors, process
from flowprep.childprocess import Task, Work
from flowprep.config import ExtractSettings, FlowSettings, StoreSettings
from flowprep.errors import BackendUnavailableError, RunStoppedError, StoreError
from flowprep.machine import is_running
from flowprep.publisher import open_publisher
from flowprep.records import Reason, Row, State
from flowprep.supervisor import Done


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    with faulty_work(tmp_path, monkeypatch) as work:
        yield work


# -- blame -------------------------------------------------------------------------------------------------------------


def test_an_error_of_ours_is_told_with_its_traceback(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        done = outcomes(work, videos_named(work, ["internal", "internal-2"]))
    assert [name for name in done if "KeyError: 'nobody expects this'" in caplog.text] == ["internal-2", "internal"]
    assert done["internal-2"].attempts[0].stderr.count("Traceback") == 1  # the neighbour's is the neighbour's
    assert "internal-2: an error of ours" in caplog.text


def test_a_child_that_dies_after_its_commit_has_done_its_video(work: Work) -> None:
    done = outcomes(work, videos_named(work, ["late", "x"]))
    assert [(str(one.row.state), one.num_attempts) for one in done.values()] == [("ok", 1), ("ok", 1)]


def test_an_earlier_outcome_is_not_taken_for_that_of_a_child_that_died(work: Work) -> None:
    tasks = videos_named(work, ["crash"])
    publisher = open_publisher(work.out, SETTINGS)
    publisher.publish_row(Row.unstored(tasks[0].video, State.FAILED, Reason("io", "before")), 0)
    done = outcomes(work, tasks)["crash"]
    assert (done.row.reasons, done.num_attempts) == ((BAD["crash"],), 2)
    assert publisher.read_row(tasks[0].video, 0) == done.row


def test_a_tree_is_left_as_whole_as_shards(work: Work) -> None:
    tree = replace(SETTINGS, store=StoreSettings(format="jpeg"))
    done = outcomes(replace(work, settings=tree), videos_named(work, ["a", "crash"]))
    assert [str(one.row.state) for one in done.values()] == ["ok", "quarantined"]
    assert sorted(path.name for path in work.out.iterdir()) == [".flowprep", "a"]


def test_libraries_that_print_disturb_nothing(work: Work) -> None:
    done = outcomes(work, videos_named(work, ["noise", "x"]))
    assert [(str(one.row.state), one.num_attempts) for one in done.values()] == [("ok", 1), ("ok", 1)]


@pytest.mark.parametrize(
    "reply",
    ["wire.encode({'event': 'row', 'row': {}})", "wire.encode({'event': 'frames', 'num': 'x'})", "bytes([255] * 8)"],
)
def test_what_is_no_message_costs_the_video_that_it_came_from(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: str
) -> None:
    script = tmp_path / "liar.py"
    script.write_text(
        "import sys, time\n"
        "from flowprep import wire\n"
        "def send(data):\n"
        "    sys.stdout.buffer.write(data)\n"
        "    sys.stdout.buffer.flush()\n"
        "wire.read(sys.stdin.buffer)\n"
        "send(wire.encode({'event': 'ready', 'build': 'none'}))\n"
        "while wire.read(sys.stdin.buffer):\n"
        "    send(wire.encode({'event': 'begun'}))\n"
        f"    send({reply})\n"
        "    time.sleep(1000)\n"
    )
    monkeypatch.setattr(child, "COMMAND", (sys.executable, str(script)))
    done = outcomes(work, videos_named(work, ["a"]))["a"]
    assert (done.row.state, done.row.reasons[0].code, done.num_attempts) == (State.QUARANTINED, "crash", 2)


# -- children that are not to blame on a video -------------------------------------------------------------------------


def test_a_child_that_is_killed_while_it_waits_blames_nobody(work: Work) -> None:
    results, others = executors.run_tasks(work, videos_named(work, ["a", "b"]), 1), children_of(os.getpid())
    assert next(results).num_attempts == 1
    (pid,) = set(children_of(os.getpid())) - set(others)
    os.kill(pid, signal.SIGKILL)
    done = next(results)
    assert (str(done.row.state), done.num_attempts) == ("ok", 1)
    assert list(results) == []


def test_children_that_cannot_start_end_the_run_with_their_own_words(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = videos_named(work, ["a"])
    broken = tmp_path / "broken.py"
    broken.write_text("import a_library_that_is_not_there")
    monkeypatch.setattr(child, "COMMAND", (sys.executable, str(broken)))
    with pytest.raises(RunStoppedError, match=r"cannot start: .*ModuleNotFoundError: No module named 'a_library"):
        outcomes(work, tasks)
    monkeypatch.setattr(child, "COMMAND", (str(tmp_path / "nothing"),))
    with pytest.raises(RunStoppedError, match=r"cannot start: .*nothing"):
        outcomes(work, tasks)
    assert open_publisher(work.out, SETTINGS).read_row(tasks[0].video, 0) is None


def test_children_that_die_before_they_begin_end_the_run_and_blame_no_video(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = videos_named(work, ["a"])
    script = tmp_path / "shy.py"
    script.write_text(
        "import sys\n"
        "from flowprep import wire\n"
        "sys.stdout.buffer.write(wire.encode({'event': 'ready', 'build': 'none'}))\n"
    )
    monkeypatch.setattr(child, "COMMAND", (sys.executable, str(script)))
    with pytest.raises(RunStoppedError, match="die before they begin"):
        outcomes(work, tasks)
    assert open_publisher(work.out, SETTINGS).read_row(tasks[0].video, 0) is None


def test_a_backend_that_does_not_run_here_ends_the_run_with_its_reason(work: Work) -> None:
    settings = ExtractSettings(flow=FlowSettings(backend="opencv-cuda", variant="cuda"))
    with pytest.raises(BackendUnavailableError, match="opencv-cuda"):
        outcomes(replace(work, settings=settings), videos_named(work, ["a"]))


def test_a_full_disk_in_a_child_stops_the_run_and_blames_no_video(work: Work) -> None:
    tasks = videos_named(work, ["a", "full", "sleep"])
    with pytest.raises(RunStoppedError, match=r"disk of .* is full"):
        outcomes(work, tasks, jobs=2)
    publisher = open_publisher(work.out, SETTINGS)
    assert [publisher.read_row(task.video, task.list_index) for task in tasks[1:]] == [None, None]


def test_a_damaged_store_stops_the_run(work: Work) -> None:
    tasks = videos_named(work, ["a", "b", "c"])
    open_publisher(work.out, SETTINGS)
    (work.out / ".flowprep" / "commits").write_text("no folder")
    with pytest.raises(StoreError, match="commits must be a folder"):
        outcomes(work, tasks, jobs=2)


# -- the whole run -----------------------------------------------------------------------------------------------------


def test_names_that_are_not_text_reach_the_child(work: Work) -> None:
    name = os.fsdecode(b"caf\xe9")
    assert str(outcomes(work, videos_named(work, [name]))[name].row.state) == "ok"


def test_tasks_are_taken_as_they_are_needed_and_none_after_a_stop(work: Work) -> None:
    stop = threading.Event()
    taken = []

    def tasks() -> Iterator[Task]:
        for task in videos_named(work, "abcdefghij"):
            taken.append(task.video.id)
            yield task

    results = executors.run_tasks(work, tasks(), 2, stop=stop)
    first = next(results)
    stop.set()
    rest = list(results)
    assert 1 <= len([first, *rest]) <= 5
    assert {str(done.row.state) for done in rest} <= {"ok"}
    assert len(taken) < 10


def test_a_stop_waits_for_the_video_in_work(work: Work) -> None:
    stop = threading.Event()
    began: list[int] = []

    def progress(num_frames: int) -> None:
        began.append(num_frames)
        stop.set()

    done = list(executors.run_tasks(work, videos_named(work, "abc"), 1, stop=stop, progress=progress))
    assert [(one.row.id, str(one.row.state)) for one in done] == [("a", "ok")]
    assert sum(began) == 6


def test_progress_is_told_in_frames(work: Work) -> None:
    frames: list[int] = []
    list(executors.run_tasks(work, videos_named(work, "ab"), 2, progress=frames.append))
    assert sum(frames) == 12


def closing(results: Iterator[Done]) -> None:
    results.close()  # type: ignore[attr-defined]


def raising(results: Iterator[Done]) -> None:
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)  # type: ignore[attr-defined]


def interrupted(results: Iterator[Done]) -> None:
    """Ctrl-C while the run waits, and again while it cleans up."""
    timers = [threading.Timer(delay, signal.raise_signal, [signal.SIGINT]) for delay in (0.1, 0.12, 0.3)]
    is_waiting = True

    def handler(*_: object) -> None:
        if is_waiting:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    try:
        for timer in timers:
            timer.start()
        with pytest.raises(KeyboardInterrupt):
            next(results)
    finally:
        is_waiting = False  # one that comes late interrupts nothing else
        for timer in timers:
            timer.cancel()
            timer.join()
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("end", [closing, raising, interrupted])
def test_a_run_that_ends_early_leaves_no_child_and_does_not_wait(
    work: Work, end: Callable[[Iterator[Done]], None], jobs: int
) -> None:
    names = ["a", "sleep-1", "sleep-2", "sleep-3"][: 2 if end is interrupted and jobs == 1 else 4]
    tasks = videos_named(work, names)
    results = executors.run_tasks(work, tasks, jobs)
    next(results)
    try:
        end(results)
    except KeyboardInterrupt:
        assert end is interrupted
    publisher = open_publisher(work.out, work.settings)
    rows = [publisher.read_row(task.video, task.list_index) for task in tasks[1:]]
    assert set(rows) == {None}, "it waited until a video that never ends was given up"


def test_a_ctrl_c_while_a_dead_child_is_cleaned_up_after_leaves_nothing_staged(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = commit.remove_leftovers, []

    def remove_leftovers(out: Path) -> int:
        calls.append(out)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(out)

    monkeypatch.setattr(commit, "remove_leftovers", remove_leftovers)
    with pytest.raises(KeyboardInterrupt):
        list(executors.run_tasks(work, videos_named(work, ["crash"]), 1))
    assert len(calls) == 2


def test_a_run_that_is_killed_leaves_no_child(work: Work) -> None:
    videos_named(work, ["sleep"])
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from flowprep import child, executors\n"
        "from flowprep.childprocess import Task, Work\n"
        "from flowprep.config import ExtractSettings, FlowSettings\n"
        "from flowprep.records import Video\n"
        f"child.COMMAND = (sys.executable, {str(FAULTY)!r})\n"
        f"work = Work(videos=Path({str(work.videos)!r}), out=Path({str(work.out)!r}), durability='fast',\n"
        "    settings=ExtractSettings(flow=FlowSettings(backend='dis')))\n"
        "next(executors.run_tasks(work, [Task(list_index=0, video=Video(id='s', path='sleep.avi'))], 1))\n"
    )
    run = subprocess.Popen([sys.executable, "-c", script])
    try:
        assert eventually((work.videos / "sleep.done").exists, seconds=120)
        assert eventually(lambda: any((work.out / ".flowprep" / "staging").iterdir()))
        children = children_of(run.pid)
    finally:
        run.kill()
        run.wait()
    assert len(children) == 1
    assert eventually(lambda: not is_running(children[0]))
    assert commit.remove_leftovers(work.out) == 1  # as the next run does


def test_a_child_that_does_not_leave_is_killed(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_GRACE_SECONDS", 0.2)
    script = tmp_path / "sticky.py"
    script.write_text(
        f"import runpy, signal, sys\nsys.argv[0] = {str(FAULTY)!r}\n"
        f"runpy.run_path({str(FAULTY)!r}, run_name='__main__')\nsignal.pause()\n"
    )
    monkeypatch.setattr(child, "COMMAND", (sys.executable, str(script)))
    assert str(outcomes(work, videos_named(work, ["a"]))["a"].row.state) == "ok"
