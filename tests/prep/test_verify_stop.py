"""Ctrl-C during `verify`: what has not begun is not looked at any more."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from helpers.damage import IDS, cheap_settings, make_store, make_videos
from helpers.in_process import be_quick

from flowprep.config import VerifySettings
from flowprep.verify import check, verify
from flowprep.verify.looked import Looked


def test_what_is_queued_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    be_quick(monkeypatch)
    store = make_store(tmp_path / "store", make_videos(tmp_path / "sources"), cheap_settings("jpeg"))
    looked_at: list[int] = []
    stopped = threading.Event()

    def slow(evidence: Any, index: int, *, deep: bool) -> Looked:
        looked_at.append(index)
        if index:
            stopped.wait(1.0)
        return Looked()

    def stop(num_done: int, num_videos: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "check_video", slow)
    with pytest.raises(KeyboardInterrupt):
        verify(store, settings=VerifySettings(jobs=1), progress=stop)
    assert looked_at in ([0], [0, 1])
    assert len(IDS) > 4
