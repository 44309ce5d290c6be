"""`fusion-train` as one process of several, of which the second cannot decode; run with torchrun's variables."""

import os
from typing import Any

from flowprep.errors import StoreError
from flowprep_cli.fusion_main import main
from fusion_train import runtime
from fusion_train.data.dataset import ClipDataset


def _damaged(*_: Any) -> None:
    raise StoreError("frame 3 of v_Archery_g01_c01 is damaged; `flowprep verify --repair` mends it")


if __name__ == "__main__":
    runtime._PATIENCE_SECONDS = 3.0
    if os.environ["RANK"] == "1":
        ClipDataset.decode = _damaged  # type: ignore[method-assign]
    main()
