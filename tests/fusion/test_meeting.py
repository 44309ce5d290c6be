"""Several processes: what the first does alone, what fails in all of them, and what fails in one."""

from __future__ import annotations

import json
import runpy
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import one_rank_fails
from helpers.ranks import run_two_ranks
from helpers.training import RUNTIME, SMALL, write_store
from torch import distributed

from flowprep.errors import BackendUnavailableError, DeviceMemoryError, FlowprepError, SettingsError
from fusion_train import meeting, runtime
from fusion_train.meeting import Meeting


def in_both(work: Callable[[Meeting, int], Any]) -> list[Any]:
    """What `work` gives, or the error that it raises, in two members of a meeting."""
    store = distributed.HashStore()

    def member(rank: int) -> Any:
        try:
            return work(Meeting(store, rank, 2), rank)
        except FlowprepError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(member, range(2)))


def test_what_the_first_does_alone_all_get() -> None:
    did: list[int] = []

    def work(meeting: Meeting, rank: int) -> list[Any]:
        def alone(value: Any) -> Any:
            time.sleep(0.1)
            did.append(rank)
            return value

        return [meeting.of_first(lambda: alone(0.25)), meeting.of_first(lambda: alone(["a"]))]

    assert in_both(work) == [[0.25, ["a"]]] * 2
    assert did == [0, 0]


@pytest.mark.parametrize(
    ("error", "kinds"),
    [
        (SettingsError("a class has no video"), (SettingsError, SettingsError)),
        (DeviceMemoryError("out of memory"), (DeviceMemoryError, DeviceMemoryError)),
    ],
)
def test_what_fails_in_the_first_fails_in_all(error: FlowprepError, kinds: tuple[type, type]) -> None:
    def fail() -> None:
        raise error

    found = in_both(lambda meeting, _: meeting.of_first(fail))
    assert [str(one) for one in found] == [str(error)] * 2
    assert tuple(map(type, found)) == kinds


def test_a_failure_is_that_of_all_or_of_one() -> None:
    def both(meeting: Meeting, rank: int) -> list[bool]:
        time.sleep(0.2 * rank)
        first = meeting.all_have_failed(seconds=30)
        return [first, meeting.all_have_failed(seconds=0.3) if rank else first]

    assert in_both(both) == [[True, True], [True, False]]


def test_one_process_is_not_asked_whether_all_have_failed() -> None:
    assert RUNTIME.all_have_failed()
    assert RUNTIME.of_first(lambda: 3) == 3


def test_one_process_needs_no_torch_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyTorch is built for some machines: the package is there, and what it is made of is not."""
    for name in [name for name in sys.modules if name.startswith("torch.distributed.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(distributed, "is_available", lambda: False)
    assert "Meeting" in runpy.run_path(str(meeting.__file__))
    started = runpy.run_path(str(runtime.__file__))["started"]
    with started("cpu") as alone:
        assert alone.is_main
        assert alone.gathered([1]) == [1]
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = "is built without torch.distributed, which 2 processes need; install another build, or start one"
    with pytest.raises(BackendUnavailableError, match=message), started("cpu"):
        pass


def test_a_row_that_fails_in_all_processes_is_named_and_what_fails_in_one_ends_it_at_once(tmp_path: Path) -> None:
    """The first row's network is damaged for both. In the second row one cannot decode, and the other waits for it."""
    store, out = write_store(tmp_path / "store", num_clips=1), tmp_path / "out"
    mark = out / "networks" / "debug-spatial" / "split_1" / "seed_0" / "done.json"
    mark.parent.mkdir(parents=True)
    mark.write_text("{")
    sets = [f"--set={text}" for text in (*SMALL, "train.videos_at_once=2")]
    rows = ("--only", "3-vggm-spatial", "--only", "3-vggm-temporal")
    command = [sys.executable, one_rank_fails.__file__, "ablate", "--data", str(store), "--out", str(out),
               "--preset", "debug", "--device", "cpu", *rows, *sets]  # fmt: skip
    _, (code, said) = run_two_ranks(command, tmp_path)
    assert code == 4, said
    assert said.splitlines()[-1].startswith("Error: frame 3 of v_Archery_g01_c01 is damaged; `flowprep verify")
    found = {row["name"]: row for row in json.loads((out / "ablation.json").read_text())["rows"]}
    assert found["3-vggm-spatial"]["state"] == "failed"
    assert found["3-vggm-spatial"]["why"] == f"{mark} is damaged; delete its folder to train that stage anew"
    assert found["3-vggm-temporal"]["state"] == "open"
