"""The learning rate, epoch by epoch: arithmetic alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from fusion_train.config import TrainSettings


@final
class Schedule:
    """`fixed`: the listed rates; the last one stays if there are more epochs.

    `plateau`: a tenth when the held-out accuracy saturates.

    `epoch` is the one that is being trained, from 0. After each, `end_epoch` is told the held-out accuracy, if there
    is one.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self._settings = settings
        self._rates = settings.rate_of_epochs()
        self.epoch = 0
        self.num_drops = 0
        self.best = -1.0
        self.best_epoch = -1
        self._waited = 0
        self._ended = False

    @property
    def rate(self) -> float:
        """Learning rate of this epoch."""
        if self._settings.by_plateau:
            return self._rates[0] * 0.1**self.num_drops
        return self._rates[min(self.epoch, len(self._rates) - 1)]

    @property
    def trains_head_only(self) -> bool:
        """Whether the prediction layer alone is trained in this epoch."""
        return self.epoch < self._settings.head_epochs

    @property
    def is_over(self) -> bool:
        """Whether there is no further epoch."""
        return self._ended or self.epoch >= self._settings.max_epochs

    def end_epoch(self, accuracy: float | None) -> bool:
        """Go to the next epoch. Returns whether the accuracy is the best so far."""
        is_best = accuracy is not None and accuracy > self.best
        if accuracy is not None:
            if is_best:
                self.best, self.best_epoch = accuracy, self.epoch
                self._waited = 0
            elif not self.trains_head_only:
                self._waited += 1
            if self._settings.by_plateau and self._waited >= self._settings.patience:
                self._waited = 0
                self._ended = self.num_drops >= self._settings.num_drops
                self.num_drops += not self._ended
        self.epoch += 1
        return is_best

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        names = ("epoch", "num_drops", "best", "best_epoch", "_waited", "_ended")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        for name, value in state.items():
            setattr(self, name, value)
