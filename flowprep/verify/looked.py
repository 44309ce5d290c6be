"""What came of a look at some videos."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from flowprep.records import Row
from flowprep.stores.shardfile import unit_of
from flowprep.verify import jpeg
from flowprep.verify.evidence import Evidence
from flowprep.verify.findings import Finding
from flowprep.verify.records import Outcome


@dataclass(slots=True)
class Looked:
    """Findings, states, and what was read.

    `lines` are findings about lines of the manifest, which count unless it is proven: then the record is newer.
    `num_uncompared` counts lines that there is no record to compare with. `folders` are those that may lie in the tree,
    `sums` the SHA-256 of each shard that is as it must be.
    """

    findings: list[Finding] = field(default_factory=list)
    lines: list[Finding] = field(default_factory=list)
    num_uncompared: int = 0
    states: Counter[str] = field(default_factory=Counter)
    folders: list[str] = field(default_factory=list)
    sums: dict[str, str] = field(default_factory=dict)
    num_jpegs: int = 0
    num_bytes: int = 0

    def add(self, other: Looked) -> None:
        """Add what came of another look."""
        self.findings += other.findings
        self.lines += other.lines
        self.num_uncompared += other.num_uncompared
        self.states += other.states
        self.folders += other.folders
        self.sums |= other.sums
        self.num_jpegs += other.num_jpegs
        self.num_bytes += other.num_bytes

    def add_outcome(self, evidence: Evidence, index: int, outcome: Outcome) -> None:
        """Count a video, and compare the manifest's line with its record."""
        self.states[outcome.state] += 1
        self.num_uncompared += outcome.lost
        if evidence.manifest is not None and outcome.entry is not None and outcome.source != "manifest":
            finding = evidence.manifest.compare(index, outcome.entry.row)
            if finding is not None:
                self.lines.append(finding)


def num_images(row: Row, stream: str) -> int:
    """JPEGs that a row has in a stream."""
    return row.frames if unit_of(stream) == "rgb" else row.flows


def image_problem(row: Row, stream: str, data: bytes | memoryview, *, decode: bool) -> str:
    """Why bytes are no image of this stream, "" if they are one, see `jpeg.problem_of`."""
    return jpeg.problem_of(data, row.width, row.height, 3 if stream == "rgb" else 1, decode=decode)
