"""Case 86 of what `fusion-train` reads: weights, checkpoints and score tables run no code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import debug_network
from helpers.weight_files import Bomb, save_bomb

from flowprep.errors import SettingsError, StoreError
from fusion_train.checkpoint import Checkpoint
from fusion_train.models.weights import initialise
from fusion_train.scores import ScoreTable


@pytest.mark.parametrize("name", ["bomb.pt", "bomb.npz"])
def test_case_86_code_in_a_file_of_weights_is_not_run(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    save_bomb(tmp_path / name, victim)
    with pytest.raises(SettingsError, match=name):
        initialise(debug_network(network="spatial", spatial_weights=str(tmp_path / name)))
    assert not victim.exists()


def test_case_86_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    content: dict[str, Any] = {"kind": "fusion-train-checkpoint", "format": 1, "network": Bomb(tmp_path / "victim")}
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(StoreError, match="damaged or no checkpoint"):
        Checkpoint.load(tmp_path / "a.pt")
    assert not (tmp_path / "victim").exists()


def test_case_86_code_in_a_score_table_is_not_run(tmp_path: Path) -> None:
    bomb = np.array([Bomb(tmp_path / "victim")], object)
    file = io.BytesIO()
    np.savez(file, head=bomb, ids=bomb)
    (tmp_path / "scores.npz").write_bytes(file.getvalue())
    with pytest.raises(StoreError, match=r"scores\.npz is damaged or no score table"):
        ScoreTable.load(tmp_path / "scores.npz")
    assert not (tmp_path / "victim").exists()
