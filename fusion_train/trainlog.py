"""What a training says of itself: log.jsonl, log.csv, and TensorBoard where it is asked for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from flowprep.errors import BackendUnavailableError
from fusion_train.outage import whole_file, writing

COLUMNS = (
    "step", "epoch", "rate", "loss", "top1", "clips_per_second", "wait_share", "val_loss", "val_top1", "val_mean_class",
    "seconds",
)  # fmt: skip
"""Of log.csv; a line of log.jsonl has those that are known, and the loss of each tower. `loss` and `top1` are those of
the step's clips in training; `val_loss` and `val_top1` of held-out videos, whose scores are means over their clips."""

_BOARD = "tensorboard"


@final
class TrainLog:
    """Lines by step, appended. A resumed training drops what was logged after its checkpoint."""

    def __init__(self, folder: Path, *, resumed_step: int, tensorboard: bool = False, active: bool = True) -> None:
        """One of several processes writes, the `active` one.

        Raises:
            BackendUnavailableError: TensorBoard is asked for and not installed.
            RunStoppedError, MissingDataError: The folder cannot be written, as `whole_file` says.
        """
        self._active = active
        self._board: Any = None
        if not active:
            return
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._jsonl, self._csv = folder / "log.jsonl", folder / "log.csv"
        # The SVM of bilinear fusion is fitted at the end, and again if that is resumed.
        rows = [row for row in read_log(folder) if row["step"] <= resumed_step and "svm_train_top1" not in row]
        for path, text in ((self._jsonl, "".join(map(_json_line, rows))), (self._csv, _csv_lines(rows, head=True))):
            with whole_file(path) as file:
                file.write(text.encode())
        if tensorboard:
            self._board = _board(folder, resumed_step)

    def add(self, row: Mapping[str, Any], report: Callable[[Mapping[str, Any]], None] | None = None) -> None:
        """Append a line to each file, and tell it to `report`. Raises RunStoppedError where the disk is full."""
        if not self._active:
            return
        if report is not None:
            report(row)
        for path, text in ((self._jsonl, _json_line(row)), (self._csv, _csv_lines([row], head=False))):
            with writing(path), path.open("a", encoding="utf-8") as file:
                file.write(text)
        if self._board is not None:
            with writing(self._jsonl.parent / _BOARD):
                for name, value in row.items():
                    if name not in ("step", "seconds") and isinstance(value, int | float):
                        self._board.add_scalar(name, value, row["step"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()


def read_log(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of log.jsonl; a last one that was cut off is left out."""
    path = folder / "log.jsonl"
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            return


def _json_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _csv_lines(rows: list[dict[str, Any]] | list[Mapping[str, Any]], *, head: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    if head:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise BackendUnavailableError(
            "`train.tensorboard` needs TensorBoard, which is not installed: pip install 'flowprep[tensorboard]'"
        ) from error
    with writing(folder / _BOARD):
        return SummaryWriter(str(folder / _BOARD), purge_step=step + 1)
