"""What the parts of gpu_check.sh have found, as a table and one JSON line: `gpu_report.py RESULTS LOGS`.

RESULTS has `parts.tsv` (name, exit code or why it was left out, seconds), LOGS the output of each part; the JSON object
is written to RESULTS too, as `report.json`. Exit code 0 where all parts passed and reached their figures.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import machine_facts, print_table

OVERRAN = {"124", "137"}


def main() -> None:
    results, logs = map(Path, sys.argv[1:])
    parts = {}
    for line in (results / "parts.tsv").read_text(encoding="utf-8").splitlines():
        name, code, seconds = line.split("\t")
        parts[name] = part_of(logs / f"{name}.log", code, int(seconds))
    rows = [(name, part["outcome"], part["seconds"]) for name, part in parts.items()]
    print_table("Parts of the GPU check", ("part", "outcome", "s"), rows)
    passed = all(part["outcome"] == "passed" for part in parts.values())
    facts = {"date": dt.date.today().isoformat(), "commit": commit(), "machine": machine_facts(), "gpus": gpus()}
    report = json.dumps({"benchmark": "gpu_check", **facts, "parts": parts, "passed": passed})
    (results / "report.json").write_text(report + "\n", encoding="utf-8")
    print("\n" + report)
    sys.exit(not passed)


def part_of(log: Path, code: str, seconds: int) -> dict[str, Any]:
    """How a part ended, with the last JSON object of its output where there is one."""
    found = last_object(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else None
    if code == "0":
        outcome = "passed" if found is None or found.get("passed", True) else "figures missed"
    elif code in OVERRAN:
        outcome = "ran out of time"
    else:
        outcome = code if code.startswith("left out") else f"failed ({code})"
    return {"outcome": outcome, "seconds": seconds, "result": found}


def last_object(text: str) -> dict[str, Any] | None:
    """The last JSON object that begins at the head of a line."""
    decoder = json.JSONDecoder()
    places = [place for place in range(len(text)) if text[place] == "{" and (place == 0 or text[place - 1] == "\n")]
    for place in reversed(places):
        try:
            found, _ = decoder.raw_decode(text, place)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return None


def commit() -> str:
    """Of this folder, where git knows it."""
    return output("git", "describe", "--always", "--dirty", "--abbrev=12").strip()


def gpus() -> list[str]:
    """Name, memory and driver of each GPU."""
    return output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader").splitlines()


def output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


if __name__ == "__main__":
    main()
