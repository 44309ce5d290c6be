"""One of two processes that train a fused network and evaluate it; run by test_train with the variables of torchrun."""

import sys
from pathlib import Path

import torch
from helpers.training import small

from flowprep.stores import open_store
from fusion_train.evaluate import evaluate
from fusion_train.runtime import started
from fusion_train.train import train

SVM_ALONE = (
    "model.fusion=bilinear", "model.temporal_fusion=pool2d", "model.backprop_to=fusion", "model.keep_temporal=false",
    "train.videos_at_once=2", "train.num_val_clips=2",
)  # fmt: skip
"""Frozen streams and the SVM of their bilinear features."""


def main() -> None:
    """STORE OUT."""
    torch.set_num_threads(1)
    store_path, out = map(Path, sys.argv[1:])
    with open_store(store_path) as store, started("cpu") as runtime:
        path = train(store, small("fused", "train.videos_at_once=2"), out, runtime=runtime)
        for tower, table in evaluate(path, store, part="test", runtime=runtime).items():
            table.save(out / f"{tower}_seen_by_{runtime.rank}.npz")
        train(store, small("fused", *SVM_ALONE), out / "svm", runtime=runtime)


if __name__ == "__main__":
    main()
