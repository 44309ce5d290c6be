"""What `flowprep merge` says of a store that is not ended: commands that can be entered as they stand."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from flowprep.config import ExtractSettings, FlowSettings
from flowprep.merge import Merged, PartLeft
from flowprep.records import Listing
from flowprep.stores.savedlist import SavedList
from flowprep_cli.merge import _show_unfinished


@pytest.mark.parametrize(("parts", "num_commands"), [((), 1), (("1/2", "2/2"), 3)])
def test_commands_for_a_folder_with_a_blank_in_its_name(
    parts: tuple[str, ...], num_commands: int, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = Listing(dataset="folder", videos=(), classes=(), splits={})
    merged = Merged(
        out=Path("my store"),
        part=None,
        num_videos=4,
        num_pending=2,
        parts=tuple(PartLeft(part=part, num_videos=2, num_pending=1, holder=None) for part in parts),
        at_work=(),
        settings=ExtractSettings(dataset="folder", flow=FlowSettings(backend="dis")),
        saved=SavedList(listing=listing, videos=Path("my videos")),
        summary=None,
    )
    _show_unfinished(merged)
    said = capsys.readouterr().err
    commands = [line for line in said.splitlines() if line.startswith("  flowprep ")]
    assert len(commands) == num_commands
    assert all("my store" in shlex.split(command) for command in commands)
    assert "\n\n" not in said
