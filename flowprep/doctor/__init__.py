"""Whether flowprep works on this machine: libraries, backends, processor, memory, GPU, disk; and what to mend.

Nothing here needs a library beyond the standard one, so that it runs where OpenCV, Numba or PyAV cannot be imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowprep.doctor.disk import examine_disk, examine_videos
from flowprep.doctor.finding import Finding
from flowprep.doctor.gpu import examine_gpu
from flowprep.doctor.hardware import examine_hardware
from flowprep.doctor.packages import Imported, examine_packages, try_imports
from flowprep.flow.selection import AUTO_ORDER, BackendStatus, backends

__all__ = ["Finding", "Health", "examine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What was found, in the order in which to read it."""

    findings: tuple[Finding, ...]

    @property
    def works(self) -> bool:
        """False if `extract` is impossible here."""
        return not any(finding.blocks for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"works": self.works, "findings": [dataclasses.asdict(finding) for finding in self.findings]}


def examine(out: Path = Path(), videos: Path | None = None) -> Health:
    """Examine this machine, the disk of `out`, where a store would go, and the folder of videos.

    Needs no GPU, and leaves nothing behind; for a moment there is a hidden folder beside what is in `out`.
    """
    return Health(findings=tuple(_findings(out, videos)))


def _findings(out: Path, videos: Path | None) -> Iterator[Finding]:
    imported = try_imports()
    yield from examine_packages(imported)
    yield from _backends(imported)
    yield from examine_hardware()
    yield from examine_gpu()
    yield from examine_disk(out)
    if videos is not None:
        yield from examine_videos(videos, out)


def _backends(imported: Mapping[str, Imported]) -> Iterator[Finding]:
    """A finding a backend. What crashes Python is not loaded here too."""
    if any(imported[module].crashed for module in ("numpy", "cv2", "numba")):
        text = "not examined, since a library crashes Python"
        yield Finding(topic="backends", name="flow", state="problem", text=text, cure="mend the libraries first")
        return
    found = backends()
    none = not any(status.available for status in found)
    auto = any(status.available for status in found if status.name in AUTO_ORDER)
    for status in found:
        yield _backend(status, blocks=none and status.name in AUTO_ORDER)
    if not auto and not none:
        names = " or ".join(status.name for status in found if status.available)
        text = f"no backend of our own runs here, so that extract wants --backend {names}"
        yield Finding(topic="backends", name="flow auto", state="problem", text=text)


def _backend(status: BackendStatus, *, blocks: bool) -> Finding:
    variants = f" (TV-L1 variant {' and '.join(status.variants)})" if status.variants else ""
    facts = dataclasses.asdict(status)
    if status.available:
        return Finding(
            topic="backends", name=f"flow {status.name}", state="ok", text=f"runs{variants}", facts=facts
        )  # fmt: skip
    return Finding(
        topic="backends",
        name=f"flow {status.name}",
        # The last that `auto` takes should run everywhere; the others need what few machines have.
        state="problem" if blocks or status.name == AUTO_ORDER[-1] else "note",
        text=f"does not run here: {status.reason}",
        cure=status.cure,
        blocks=blocks,
        facts=facts,
    )
