"""One thing that was looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found, in a sentence without a full stop, and the cure where there is something to mend.

    `ok`: as it should be; `note`: worth knowing, nothing breaks; `problem`: something to mend. A problem that `blocks`
    makes `extract` impossible here. `facts` are the numbers and names behind the sentence.
    """

    topic: str
    name: str
    state: Literal["ok", "note", "problem"]
    text: str
    cure: str = ""
    blocks: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.state == "problem" or not self.blocks, "only a problem blocks"
