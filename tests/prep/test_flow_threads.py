"""Threads of `native`: none waits for one that never comes."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contracts.flow_backend import moving_texture

from flowprep import compute_flow, machine
from flowprep.errors import SettingsError
from flowprep.flow import create_backend

FRAMES = moving_texture(2, 64, 48)


def test_a_thread_that_cannot_be_started_is_an_error_and_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    with create_backend("native", num_threads=3) as backend:
        prepared = backend.prepare(FRAMES)
        submit = ThreadPoolExecutor.submit
        calls = []

        def refuse_the_third(self: Any, *arguments: Any) -> Any:
            calls.append(arguments)
            if len(calls) == 3:
                raise RuntimeError("can't start new thread")
            return submit(self, *arguments)

        monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse_the_third)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            backend.compute(prepared[:1], prepared[1:])
        monkeypatch.undo()
        flow = backend.compute(prepared[:1], prepared[1:])  # its threads are free again
    np.testing.assert_array_equal(flow, compute_flow(FRAMES, num_threads=1))


def test_a_forked_process_may_go_on_with_an_inherited_backend() -> None:
    with create_backend("native", num_threads=2) as backend:
        prepared = backend.prepare(FRAMES)
        flow = backend.compute(prepared[:1], prepared[1:])
        assert threading.active_count() > 1
        child = _fork()
        if child == 0:
            same = np.array_equal(backend.compute(prepared[:1], prepared[1:]), flow)
            os._exit(0 if same else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _fork() -> int:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: a fork beside threads may hang
        return os.fork()


def test_num_threads_is_checked_and_changes_nothing() -> None:
    expected = compute_flow(FRAMES, num_threads=1)
    np.testing.assert_array_equal(compute_flow(FRAMES, num_threads=5), expected)
    with pytest.raises(SettingsError, match="`num_threads` must be at least 1, got 0"):
        compute_flow(FRAMES, num_threads=0)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"a/b": "max 100000", "a": "max 100000"}, []),
        ({"a/b": "150000 100000", "a": "max 100000"}, [2]),
        ({"a/b": "400000 100000", "a": "100000 100000"}, [4, 1]),
        ({}, []),
    ],
)
def test_quotas_of_control_groups(tmp_path: Path, limits: dict[str, str], expected: list[int]) -> None:
    root = tmp_path / "cgroup"
    (root / "a" / "b").mkdir(parents=True)
    for group, text in limits.items():
        (root / group / "cpu.max").write_text(text + "\n")
    (tmp_path / "self").write_text("1:cpu:/ignored\n0::/a/b\n")
    assert machine._quotas(tmp_path / "self", root) == expected
    assert machine._quotas(tmp_path / "nothing", root) == []
