"""How busy a device was: what bounds a run is on its side, or on that of the workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

WAITING_SHARE = 0.2
"""Share of its time that a device waited for frames, from which the workers bound the run (chosen)."""


@final
@dataclass(slots=True)
class Load:
    """Seconds that the owners of a device computed, and waited for the next batch. Before the first one none counts."""

    busy_seconds: float = 0.0
    waited_seconds: float = 0.0

    def add(self, waited: float, busy: float) -> None:
        """Add a batch and the time before it."""
        self.waited_seconds += waited
        self.busy_seconds += busy

    @property
    def waiting_share(self) -> float:
        """Of all its time, 0 to 1."""
        return self.waited_seconds / (self.waited_seconds + self.busy_seconds) if self.busy_seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """A JSON object: seconds, and which side bounds the run."""
        return {
            "busy_seconds": round(self.busy_seconds, 3),
            "waited_seconds": round(self.waited_seconds, 3),
            "bound_by": "workers" if self.waiting_share > WAITING_SHARE else "device",
        }


def load_notes(loads: Mapping[str, Load]) -> Iterator[str]:
    """A sentence for each device that has computed."""
    for name, load in loads.items():
        percent = f"{100 * load.waiting_share:.0f} %"
        if load.busy_seconds <= 0:
            continue
        if load.waiting_share > WAITING_SHARE:
            yield (
                f"{name} waited {percent} of its time for frames: the workers (decoding, encoding, disk) bound the "
                "run; more --jobs help while there are cores, and flowprep bench says which stage it is"
            )
        else:
            yield f"{name} waited {percent} of its time for frames: it bounds the run, and more --jobs would not help"
