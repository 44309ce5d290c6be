"""What the driver of a cluster and its workers tell each other: JSON texts, which any version of both can read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowprep.childprocess import Task, Work
from flowprep.config import ExtractSettings
from flowprep.records import Row, Video, canonical_json
from flowprep.supervisor import Attempt, Done


def encode(message: Mapping[str, Any]) -> str:
    """A message as text, all of it ASCII."""
    return canonical_json(dict(message))


def decode(text: str) -> dict[str, Any]:
    """The message of a text."""
    message = json.loads(text)
    assert isinstance(message, dict), "messages are objects"
    return message


def work_to_json(work: Work) -> dict[str, Any]:
    """What all videos of a run share, with paths that mean the same on every machine of a shared disk."""
    return {
        "videos": str(work.videos.absolute()),
        "out": str(work.out.absolute()),
        "settings": work.settings.to_json(),
        "durability": work.durability,
        "memory_bytes": work.memory_bytes,
        "stall_seconds": work.stall_seconds,
        "devices": list(work.devices),
    }


def work_from_json(data: Mapping[str, Any]) -> Work:
    """The inverse of `work_to_json`."""
    return Work(
        videos=Path(data["videos"]),
        out=Path(data["out"]),
        settings=ExtractSettings.from_json(data["settings"]),
        durability=data["durability"],
        memory_bytes=data["memory_bytes"],
        stall_seconds=data["stall_seconds"],
        devices=tuple(data["devices"]),
    )


def task_to_json(task: Task) -> dict[str, Any]:
    """A video and its place in the list."""
    return {"list_index": task.list_index, "video": task.video.to_json()}


def task_order(task: Task, aside: Attempt | None) -> dict[str, Any]:
    """What an order to do a video says of it; `aside` is an attempt after which it was set aside."""
    return {"task": task_to_json(task), "aside": None if aside is None else dataclasses.asdict(aside)}


def task_from_json(data: Mapping[str, Any]) -> Task:
    """The inverse of `task_to_json`."""
    return Task(list_index=data["list_index"], video=Video.from_json(data["video"]))


def done_to_json(done: Done) -> dict[str, Any]:
    """What became of a video."""
    attempts = [dataclasses.asdict(attempt) for attempt in done.attempts]
    return {
        "list_index": done.list_index,
        "row": done.row.to_json(),
        "seconds": done.seconds,
        "attempts": attempts,
        "build": done.build,
    }


def done_from_json(data: Mapping[str, Any]) -> Done:
    """The inverse of `done_to_json`."""
    return Done(
        list_index=data["list_index"],
        row=Row.from_json(data["row"]),
        seconds=data["seconds"],
        attempts=tuple(Attempt(**attempt) for attempt in data["attempts"]),
        build=data["build"],
    )
