"""Folders of named files without content, and lists."""

from __future__ import annotations

from pathlib import Path

from flowprep.records import Listing, Video


def make_files(folder: Path, *paths: str) -> Path:
    """`folder` with a file of one byte at each path (listings never read content)."""
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"x")
    return folder


def write_lists(folder: Path, **lists: str) -> Path:
    """`folder` with text files; in the names given here `__` stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in lists.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8", newline="")
    return folder


def by_id(listing: Listing) -> dict[str, Video]:
    """The videos of a listing by id."""
    return {video.id: video for video in listing.videos}


def problem_codes(listing: Listing) -> dict[str, str]:
    """Code of the problem by id, "" for those that are fine."""
    return {video.id: video.problem.code if video.problem else "" for video in listing.videos}
