"""Real clips, flow pairs and split lists beside the repository; tests that need them skip where they are absent.

FLOWPREP_TEST_DATA names another folder of them.
"""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("FLOWPREP_TEST_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
VIDEOS = SHARED / "videos"
SPLITS = SHARED / "splits"
FLOW = SHARED / "flow"

NO_DATA = "../shared/data is not here: real clips are needed"
needs_shared = pytest.mark.skipif(not VIDEOS.is_dir(), reason=NO_DATA)
