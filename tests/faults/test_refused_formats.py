"""Case 27: no input makes a run open another file or a connection, whatever it is, names or refers to."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers import bad_files
from helpers.canary import Canary
from helpers.command import flowprep, manifest
from helpers.media import moving_frames, write_video
from helpers.reading import read


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    """A sound video that nobody is to open."""
    path = write_video(tmp_path / "canary.mov", moving_frames(6, seed=3))
    with Canary(path) as canary:
        assert not canary.was_opened()
        yield canary


def _demuxed(name: str) -> str:
    """How a file fails that this build of FFmpeg may have no demuxer for."""
    try:
        av.ContainerFormat(name, "r")
    except ValueError:
        return "not_video"
    return "format_refused"


def make_files(canary: Canary, folder: Path) -> dict[str, str]:
    """Files that ask for more than themselves, and how each of them fails."""
    path, url = canary.path, f"http://127.0.0.1:{canary.port}/canary.mov"
    texts = {
        "list.ffconcat": f"ffconcat version 1.0\nfile '{path}'\n",
        "concat.mp4": f"ffconcat version 1.0\nfile '{path}'\n",
        "network.ffconcat": f"ffconcat version 1.0\nfile '{url}'\n",
        "playlist.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile://{path}\n#EXT-X-ENDLIST\n",
        "playlist.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}\n#EXT-X-ENDLIST\n",
        "words.mp4": "1\n00:00:00,000 --> 00:00:02,000\nHello\n",
        "session.sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {canary.port} RTP/AVP 96\n",
        "manifest.mpd": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        f'<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{url}</BaseURL>'
        f"</Representation></AdaptationSet></Period></MPD>",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    cv2.imwrite(str(folder / "image.png"), np.zeros((32, 32, 3), np.uint8))
    shutil.copy(folder / "image.png", folder / "image.mp4")
    write_video(folder / "moving.gif", moving_frames(3), codec="gif", pixel_format="rgb8")
    for name in (f"concat:{path.name}|{path.name}", f"http:127.0.0.1:{canary.port}", "file:x", "subfile:,,:x"):
        (folder / f"{name}.mp4").write_text("a name is just a name\n")
    plain = write_video(folder / "plain.mov", moving_frames(6))
    bad_files.refers_to(plain, folder / "alias.mov", path)
    plain.unlink()
    expected = dict.fromkeys(texts, "format_refused")
    expected |= dict.fromkeys(("image.png", "image.mp4", "moving.gif"), "format_refused")
    expected |= {"manifest.mpd": _demuxed("dash"), "alias.mov": "no_video"}
    return expected | {item.name: "not_video" for item in folder.iterdir() if ":" in item.name}


def test_case_27_no_other_file_and_no_connection(canary: Canary, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    expected = make_files(canary, folder)
    assert sorted(expected) == sorted(path.name for path in folder.iterdir())
    canary.was_opened()  # by `make_files`, maybe
    (tmp_path / "list.csv").write_text("path\n" + "".join(f'"{name}"\n' for name in expected))
    places = ("--dataset", "list", "--videos", folder, "--splits", tmp_path / "list.csv", "--out", tmp_path / "out")
    flowprep("extract", *places, "--backend", "dis", "--jobs", "1", expect=1)
    assert not canary.was_opened()
    assert not canary.was_called()
    found = {row["path"]: (row["state"], row["reasons"][0]["code"]) for row in manifest(tmp_path / "out")[1]}
    assert found == {name: ("failed", code) for name, code in expected.items()}


def test_case_27_the_canary_would_have_told(canary: Canary, tmp_path: Path) -> None:
    """FFmpeg without our guards opens what the same files name, and the canary sees it."""
    make_files(canary, tmp_path)
    canary.was_opened()
    options = {"safe": "0", "allowed_extensions": "ALL", "protocol_whitelist": "file,tcp,http"}
    for name, extra in (("list.ffconcat", {}), ("alias.mov", {"enable_drefs": "1", "use_absolute_path": "1"})):
        with contextlib.suppress(av.FFmpegError), av.open(str(tmp_path / name), options=options | extra) as container:
            list(container.decode(video=0))
        assert canary.was_opened(), name
    assert not canary.was_called()
    socket.create_connection(("127.0.0.1", canary.port)).close()
    assert canary.was_called()


def test_case_27_a_sound_file_of_the_same_kind_is_read(tmp_path: Path) -> None:
    """It is the reference that makes `alias.mov` fail, not its container."""
    assert read(write_video(tmp_path / "plain.mov", moving_frames(6))).num_frames == 6
