"""Names of layers, and files of features: whole, or a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import small

from flowprep.errors import MissingDataError, SettingsError, StoreError
from fusion_train.features import FeatureTable, find_layer, layer_names, tapped
from fusion_train.models.build import build_network
from fusion_train.models.two_stream import Network


def network(stage: str) -> Network:
    torch.manual_seed(0)
    return build_network(small(stage).model, num_classes=2).eval()


def table() -> FeatureTable:
    features = np.arange(6, dtype=np.float32).reshape(2, 3)
    return FeatureTable(
        layer="spatial.fc5", checkpoint_sha256="0" * 64, ids=("a/é", "b"), features=features, origin={"skipped": ["c"]}
    )


def test_a_stream_may_be_left_out_where_one_alone_has_the_layer() -> None:
    assert find_layer(network("spatial"), "fc5") == "spatial.fc5"
    fused = network("fused")
    assert find_layer(fused, "temporal.fc5") == "temporal.fc5"
    with pytest.raises(SettingsError, match=r"layer 'fc5' stands for spatial\.fc5 and temporal\.fc5; this network has"):
        find_layer(fused, "fc5")
    with pytest.raises(SettingsError, match="layer 'fc9' is not there; this network has"):
        find_layer(fused, "fc9")


def test_every_layer_that_is_listed_has_features() -> None:
    fused = network("fused")
    rgb, flow = torch.rand(2, 3, 3, 32, 32) * 255, torch.rand(2, 3, 20, 32, 32) * 255
    names = layer_names(fused)
    assert "fusions.0" in names
    for name in names:
        with tapped(fused, name) as tap, torch.no_grad():
            fused(rgb, flow)
            both = tap.pop()
            fused(rgb[:1], flow[:1])
            fused(rgb[1:], flow[1:])
            np.testing.assert_allclose(tap.pop(), both, rtol=1e-4, atol=1e-5, err_msg=name)
        assert both.ndim == 1


def test_features_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    table().save(path)
    found, expected = FeatureTable.load(path), table()
    assert (found.layer, found.checkpoint_sha256) == (expected.layer, expected.checkpoint_sha256)
    assert (found.ids, found.origin) == (expected.ids, expected.origin)
    np.testing.assert_array_equal(found.features, expected.features)
    assert found.features.dtype == np.float32


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_file_that_is_cut_is_damaged(share: float, tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    table().save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(StoreError, match=r"f\.npz is damaged or no feature file.*; export again"):
        FeatureTable.load(path)


def test_bytes_that_have_changed_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    table().save(path)
    data = bytearray(path.read_bytes())
    data[data.index(table().features.tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="is damaged or no feature file"):
        FeatureTable.load(path)


def test_what_is_no_feature_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"no feature file .*gone\.npz; `fusion-train predict` writes it"):
        FeatureTable.load(tmp_path / "gone.npz")
    path = tmp_path / "other.npz"
    np.savez(path, head=np.array('{"kind": "fusion-train-scores", "format": 1}'))
    with pytest.raises(StoreError, match="is not a feature file of format 1"):
        FeatureTable.load(path)
    np.savez(path, head=np.array([1, 2]))
    with pytest.raises(StoreError, match="is damaged or no feature file"):
        FeatureTable.load(path)
    np.savez(path, head=np.array(["an object", None], object))
    with pytest.raises(StoreError, match="is damaged or no feature file"):  # its pickle is not executed
        FeatureTable.load(path)


def test_a_folder_that_is_not_writable_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingDataError, match=r"f\.npz cannot be written"):
        table().save(tmp_path / "file" / "f.npz")
