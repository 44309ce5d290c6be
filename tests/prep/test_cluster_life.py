"""What the driver of a cluster hears and looks for: events without number, signs of life, videos not seen yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.played_cluster import WAITS, Course, Played, all_of

from flowprep.childprocess import Work
from flowprep.config import ExtractSettings, FlowSettings


@pytest.fixture
def work(tmp_path: Path) -> Work:
    settings = ExtractSettings(flow=FlowSettings(backend="dis"))
    return Work(videos=tmp_path / "videos", out=tmp_path / "out", settings=settings, durability="fast")


def test_no_event_is_lost_however_many_wait(work: Work) -> None:
    """Each of these ends is heard or the run stands still: they come where a driver takes a break in its listening."""
    played = Played(work)

    def act(cluster: Played, worker: str, order: dict[str, object]) -> None:
        for _ in range(998 - cluster.events.qsize()):
            cluster.say(event="frames", num=1)
        cluster.do(worker, order)

    played.act = act
    course = Course(work, played, 6)
    assert (course.error, course.ids, course.notes) == (None, all_of(6), [])
    assert played.num_connections == 1
    assert WAITS.silence_seconds < 1, "what is lost is found out soon"
