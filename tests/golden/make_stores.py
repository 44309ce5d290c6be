"""Makes the golden stores beside this file: two videos and a failed one, as a tree and as a shard of format 1.

Run `PYTHONPATH=.:tests python tests/golden/make_stores.py` from the repository root. They are made once for each
format version and are never changed afterwards: every later version must read them.
"""

import shutil
from pathlib import Path

from contracts.store import make_listing, write_store

from flowprep.config import ExtractSettings, StoreSettings

HERE = Path(__file__).parent

for name, store in {"tree_1": StoreSettings(format="jpeg"), "shards_1": StoreSettings(shard_videos=2)}.items():
    shutil.rmtree(HERE / name, ignore_errors=True)
    write_store(HERE / name, ExtractSettings(store=store), make_listing(3), failing={2})
    shutil.rmtree(HERE / name / ".flowprep")
