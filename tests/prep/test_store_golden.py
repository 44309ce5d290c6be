"""Stores of format 1 that were written once (tests/golden/make_stores.py) stay readable for ever."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from flowprep.stores import open_store

GOLDEN = Path(__file__).parents[1] / "golden"
SHA256 = {  # first 16 digits of each stream's SHA-256
    "v_a_g01": {"rgb": "0664bec24d27aa87", "flow_x": "38d14b13e4d545c5", "flow_y": "f15fc72b64de2d8b"},
    "v_b g'02": {"rgb": "bba9150d8f2a4c72", "flow_x": "7deed348012c28f4", "flow_y": "ad6e60869dee71c7"},
}


@pytest.mark.parametrize("name", ["tree_1", "shards_1"])
def test_golden_stores_are_readable(name: str) -> None:
    with open_store(GOLDEN / name) as store:
        assert list(store.ids) == list(SHA256)
        clips = [store.clip(video_id) for video_id in store.ids]
        assert [(clip.num_frames, clip.num_flows) for clip in clips] == [(4, 3), (6, 5)]
        assert [(clip.class_name, clip.label, clip.height, clip.width) for clip in clips] == [
            ("class0", 0, 12, 16),
            ("class1", 1, 12, 16),
        ]
        for video_id, streams in SHA256.items():
            for stream, digest in streams.items():
                num = store.clip(video_id).num_frames - (stream != "rgb")
                data = b"".join(bytes(store.jpeg(video_id, stream, index)) for index in range(num))
                assert hashlib.sha256(data).hexdigest()[:16] == digest
        assert store.pts_seconds("v_a_g01").tolist() == [k / 25.0 + 1 / 3 for k in range(4)]
        flow = store.flow_px("v_b g'02", 2)
        assert flow.shape == (12, 16, 2)
        assert np.abs(flow).max() <= store.settings.quantise.bound_px
