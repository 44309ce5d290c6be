"""`flowprep` whose children wait before each video. Run as a script in place of the command.

`SLOW_SECONDS` is how long; it leaves a file `<video>.begun` beside each video that has begun. With `HOLD_FOLDER` in its
place they wait for as long as they are held, see `helpers.holding`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from flowprep import child

COMMAND = (sys.executable, __file__, "--child")


def _child_main(arguments: list[str]) -> None:
    from flowprep import pipeline
    from flowprep.records import Row

    real = pipeline.extract_video

    def extract_video(video: Any, list_index: int, videos: Path, *rest: Any, **named: Any) -> Row:
        if "HOLD_FOLDER" in os.environ:
            from held import wait_while_held

            wait_while_held(Path(video.path).stem)
        else:
            (videos / video.path).with_suffix(".begun").touch()
            time.sleep(float(os.environ["SLOW_SECONDS"]))
        return real(video, list_index, videos, *rest, **named)

    pipeline.extract_video = extract_video
    child.main(arguments)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child_main(sys.argv[2:])
    else:
        from flowprep_cli.main import main

        child.COMMAND = COMMAND
        main()
