"""One of two processes that train a fused network and evaluate it; run by test_train with the variables of torchrun."""

import dataclasses
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from helpers.training import small

from flowprep.stores import open_store
from fusion_train.evaluate import evaluate
from fusion_train.models import backbones
from fusion_train.models.layers import Layer
from fusion_train.models.vgg import DEBUG
from fusion_train.runtime import started
from fusion_train.train import LAST, train

SVM_ALONE = (
    "model.fusion=bilinear", "model.temporal_fusion=pool2d", "model.backprop_to=fusion", "model.keep_temporal=false",
    "train.videos_at_once=2", "train.num_val_clips=2",
)  # fmt: skip
"""Frozen streams and the SVM of their bilinear features."""

NORMED = dataclasses.replace(DEBUG, layers=(DEBUG.layers[0], Layer("bn1", "bn"), *DEBUG.layers[1:]))
"""The small net with batch normalisation after its first convolution, here in the place of `debug`."""
BY_BATCH = (
    "model.batch_norm=batch", "train.val=groups", "train.val_share=0.4", "train.num_val_clips=2", "train.batch_size=2",
    "train.videos_at_once=1", "train.save_every=1",
)  # fmt: skip
"""Batch normalisation with the statistics of batches, and held-out videos for both processes."""


def main() -> None:
    """STORE OUT."""
    torch.set_num_threads(1)
    store_path, out = map(Path, sys.argv[1:])
    with open_store(store_path) as store, started("cpu") as runtime:
        path = train(store, small("fused", "train.videos_at_once=2"), out, runtime=runtime)
        for tower, table in evaluate(path, store, part="test", runtime=runtime).items():
            table.save(out / f"{tower}_seen_by_{runtime.rank}.npz")
        train(store, small("fused", *SVM_ALONE), out / "svm", runtime=runtime)

        backbones._TABLES["debug"] = NORMED
        whole, resumed = out / "normed", out / "normed_resumed"

        def keep_first(row: Mapping[str, Any]) -> None:
            """In the first process: the checkpoint of step 1, before that of step 2 takes its place."""
            if row["step"] == 2 and "loss" in row:
                resumed.mkdir()
                shutil.copy(whole / LAST, resumed)

        train(store, small("spatial", *BY_BATCH), whole, runtime=runtime, report=keep_first)
        train(store, small("spatial", *BY_BATCH), resumed, runtime=runtime)


if __name__ == "__main__":
    main()
