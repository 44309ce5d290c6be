"""`fusion-train predict`, entered as a user does: files equal stored videos; what is wrong is a sentence."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from helpers.command import flowprep, fusion_train
from helpers.entered import entered
from helpers.media import cut, first_packets, moving_frames, write_video
from helpers.processes import children_of, eventually
from helpers.shared_data import VIDEOS, needs_shared
from helpers.training import RUNTIME, small
from scipy import special

from flowprep import child
from flowprep.stores import open_store
from flowprep.stores.splitsfile import read_splits
from fusion_train.checkpoint import Checkpoint, data_fingerprint
from fusion_train.config import EvaluateSettings
from fusion_train.evaluate import evaluate
from fusion_train.features import FeatureTable
from fusion_train.models.build import build_network
from fusion_train.scores import ScoreTable

FAULTY = Path(__file__).parents[1] / "helpers" / "faulty_child.py"
CLASSES = ("Archery", "Biking")
NUM_FRAMES = {"g01_c01": 20, "g02_c01": 18, "g03_c01": 6}
"""The last has fewer flow fields than a stack."""


@dataclass(frozen=True)
class Trained:
    """Videos, their store, and networks whose random weights stand for trained ones."""

    videos: Path
    store: Path
    fused: Path
    spatial: Path

    def ids(self) -> list[str]:
        return [f"{name}/v_{name}_{suffix}" for name in CLASSES for suffix in NUM_FRAMES]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def write_checkpoint(store: Path, path: Path, stage: str) -> Path:
    """A network with random weights, loud enough for classes to differ."""
    with open_store(store) as opened:
        settings = small(stage, "train.split=1")
        torch.manual_seed(1)
        network = build_network(settings.model, num_classes=len(CLASSES))
        for name, tensor in network.state_dict().items():
            if name.endswith(("fc5.weight", "fc5.bias")):
                tensor.mul_(30)
        Checkpoint(
            settings=settings,
            manifest_sha256=data_fingerprint(opened),
            classes=read_splits(store).classes,
            network=network.state_dict(),
            content=opened.settings.to_json(),
        ).save(path)
    return path


def write_splits(store: Path, ids: list[str]) -> None:
    """An official split, which folders have not."""
    path = store / "splits.json"
    content = json.loads(path.read_text())
    content["splits"] = {"1": {"train": ids[:1], "test": ids[1:]}, "2": {"train": ids[1:], "test": ids[:1]}}
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("predict")
    for number, name in enumerate(CLASSES):
        (root / "videos" / name).mkdir(parents=True)
        for place, (suffix, num_frames) in enumerate(NUM_FRAMES.items()):
            frames = moving_frames(num_frames, seed=10 * number + place)
            write_video(root / "videos" / name / f"v_{name}_{suffix}.avi", frames)
    store = root / "store"
    flowprep("extract", "--dataset", "folder", "--videos", root / "videos", "--out", store, "--short-side", "48",
             "--backend", "farneback", "--bound", "12", "--rounding", "truncate", "--quality", "80", "--jobs", "1",
             "--durability", "fast")  # fmt: skip
    made = Trained(
        videos=root / "videos",
        store=store,
        fused=root / "fused.pt",
        spatial=root / "spatial.pt",
    )
    write_splits(store, made.ids())
    write_checkpoint(store, made.fused, "fused")
    write_checkpoint(store, made.spatial, "spatial")
    return made


@pytest.fixture(scope="module")
def of_files(trained: Trained) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        entered("predict", trained.videos, "--checkpoint", trained.fused, "--json").stdout
    )
    return content


def test_files_have_the_scores_of_the_stored_videos_to_the_bit(trained: Trained, of_files: dict[str, Any]) -> None:
    one = EvaluateSettings(videos_at_once=1, num_threads=1)
    with open_store(trained.store) as store:
        tables = evaluate(trained.fused, store, part="test", runtime=RUNTIME, settings=one)
    assert sorted(tables) == ["spatiotemporal", "temporal"]
    found = {video["id"]: video for video in of_files["videos"]}
    assert sorted(found) == trained.ids()
    for tower, table in tables.items():
        assert list(table.ids) == trained.ids()[1:]
        for video_id, scores in zip(table.ids, table.scores, strict=True):
            mine = np.array(found[video_id]["towers"][0][tower], np.float32)
            np.testing.assert_array_equal(mine, scores, err_msg=f"{video_id} {tower}")
    spread = np.ptp([video["scores"] for video in of_files["videos"]], axis=0)
    assert (spread > 1e-3).all(), "videos must differ, or equality says nothing"


def test_a_store_is_predicted_by_its_test_list_and_written_as_scores(
    trained: Trained, of_files: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "scores.npz"
    done = entered("predict", trained.store, "--checkpoint", trained.fused, "--scores", out, "--json")
    content = json.loads(done.stdout)
    table = ScoreTable.load(out)
    assert (table.part, list(table.ids)) == ("test 1", trained.ids()[1:])
    files = {video["id"]: video["scores"] for video in of_files["videos"]}
    for video, row in zip(content["videos"], table.scores, strict=True):
        assert video["scores"] == files[video["id"]] == [float(value) for value in row]
        assert video["label"] == video["id"].split("/")[0]


def test_a_test_list_that_was_trained_on_is_said(trained: Trained) -> None:
    def notes(split: str) -> list[str]:
        done = entered("predict", trained.store, "--checkpoint", trained.spatial, "--split", split, "--json")
        return list(json.loads(done.stdout)["notes"])

    assert notes("1") == []
    (note,) = notes("2")
    assert note.startswith("1 of these 1 videos (test 2) are in the training list of split 1, on which the network was")


def test_several_networks_are_joined_as_in_late_fusion(trained: Trained, of_files: dict[str, Any]) -> None:
    name = trained.ids()[0]
    both = json.loads(entered("predict", trained.store, "--video-id", name, "--checkpoint", trained.fused,
                                   "--checkpoint", trained.spatial, "--weights", "3:1", "--json").stdout)  # fmt: skip
    (video,) = both["videos"]
    towers = video["towers"]
    fused = np.mean([towers[0]["spatiotemporal"], towers[0]["temporal"]], axis=0)
    np.testing.assert_allclose(video["scores"], 0.75 * fused + 0.25 * np.array(towers[1]["spatial"]), rtol=1e-5)
    assert video["scores"] != of_files["videos"][0]["scores"]


def test_a_bad_video_gets_its_sentence_and_the_others_go_on(trained: Trained, tmp_path: Path) -> None:
    good = next(trained.videos.rglob("*g01_c01.avi"))
    torn = cut(good, tmp_path / "torn.avi", 0.8)
    short = write_video(tmp_path / "short.avi", moving_frames(1))
    done = fusion_train("predict", torn, short, tmp_path / "gone.avi", good, "--checkpoint", trained.fused, expect=1)
    torn_line, short_line, gone_line = done.stderr.splitlines()
    assert torn_line.startswith(f"{torn}: truncated: ")
    assert "short is too short for a clip (1 frames and 0 flow fields)" in short_line
    assert f"{tmp_path / 'gone.avi'}: missing" in gone_line
    lines = done.stdout.splitlines()
    assert lines[0] == good.stem
    assert len(lines) == 3
    assert "█" in lines[1]
    assert lines[1].endswith("%")


def test_features_are_written_by_video_id(trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "features.npz"
    entered("predict", trained.store, "--checkpoint", trained.fused, "--features", "spatial.fc5", "--features-out",
                 out)  # fmt: skip
    table = FeatureTable.load(out)
    assert (table.layer, list(table.ids)) == ("spatial.fc5", trained.ids()[1:])
    with open_store(trained.store) as store:
        one = EvaluateSettings(videos_at_once=1, num_threads=1)
        scores = evaluate(trained.fused, store, part="test", runtime=RUNTIME, settings=one)["spatiotemporal"]
    # The last layer's features are the scores.
    np.testing.assert_allclose(table.features, scores.scores, rtol=1e-5, atol=1e-6)
    wrong = entered("predict", trained.store, "--checkpoint", trained.fused, "--features", "relu9", expect=2)
    assert "layer 'relu9' is not there; this network has spatial.conv1, spatial.relu1" in wrong.stderr
    assert "fusions.0" in wrong.stderr


def test_a_film_has_a_page_a_frame(trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "film.mp4"
    video = next(trained.videos.rglob("*Biking_g01_c01.avi"))
    entered("predict", video, "--checkpoint", trained.fused, "--video", out)
    with av.open(str(out)) as film:
        pages = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(pages) == NUM_FRAMES["g01_c01"]
    assert min(np.abs(a.astype(int) - b).max() for a, b in itertools.pairwise(pages)) > 30


def test_an_old_checkpoint_takes_the_settings_from_a_store(
    trained: Trained, of_files: dict[str, Any], tmp_path: Path
) -> None:
    content = torch.load(trained.fused, weights_only=True)
    del content["content"]
    old = tmp_path / "old.pt"
    torch.save(content, old)
    video = next(trained.videos.rglob("*Archery_g01_c01.avi"))
    refused = entered("predict", video, "--checkpoint", old, expect=2)
    assert "old.pt does not say how its frames and flow were made" in refused.stderr
    assert "--data STORE" in refused.stderr
    cured = json.loads(entered("predict", video, "--checkpoint", old, "--data", trained.store, "--json").stdout)
    assert cured["videos"][0]["scores"] == of_files["videos"][0]["scores"]


def with_content(checkpoint: Path, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The checkpoint with other content settings."""
    content = torch.load(checkpoint, weights_only=True)
    settings = json.loads(content["content"])
    change(settings)
    content["content"] = json.dumps(settings)
    torch.save(content, path)
    return path


def test_a_backend_that_is_not_here_is_said_and_may_be_replaced(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    of_gpu = {"backend": "native-cuda", "variant": "cpu", "parameters": {}}
    path = with_content(trained.fused, tmp_path / "cuda.pt", lambda settings: settings["flow"].update(of_gpu))
    video = next(trained.videos.rglob("*g03_c01.avi"))
    refused = entered("predict", video, "--checkpoint", path, expect=2)
    assert f"{path}: flow backend native-cuda cannot run here" in refused.stderr
    assert "--backend native" in refused.stderr
    done = json.loads(entered("predict", video, "--checkpoint", path, "--backend", "opencv", "--json").stdout)
    assert done["notes"] == ["Flow is computed by opencv; the network was trained on that of native-cuda."]
    assert len(done["videos"]) == 1
    for name in ("dis", "opencv-cuda", "nothing"):
        wrong = entered("predict", video, "--checkpoint", path, "--backend", name, expect=2)
        assert f"--backend {name} does not compute the flow that the network was trained on" in wrong.stderr
        assert "give native or native-cuda or opencv" in wrong.stderr


def test_flow_that_has_no_variant_is_replaced_by_none(trained: Trained) -> None:
    video = next(trained.videos.rglob("*g03_c01.avi"))
    done = entered("predict", video, "--checkpoint", trained.fused, "--backend", "native", expect=2)
    assert "which is that of farneback; leave it out" in done.stderr


def test_a_network_of_an_adopted_tree_needs_a_store_of_ours(
    trained: Trained, of_files: dict[str, Any], tmp_path: Path
) -> None:
    path = with_content(trained.fused, tmp_path / "adopted.pt", lambda settings: settings["store"].update(adopted=True))
    video = next(trained.videos.rglob("*Archery_g01_c01.avi"))
    refused = entered("predict", video, "--checkpoint", path, expect=2)
    assert "adopted.pt was trained on frames and flow that another tool had made" in refused.stderr
    assert "--data STORE" in refused.stderr
    cured = json.loads(entered("predict", video, "--checkpoint", path, "--data", trained.store, "--json").stdout)
    assert cured["videos"][0]["scores"] == of_files["videos"][0]["scores"]


def test_a_file_that_kills_its_decoder_costs_no_other_anything(
    trained: Trained, of_files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "COMMAND", (sys.executable, str(FAULTY)))
    good, children = next(trained.videos.rglob("*Archery_g01_c01.avi")), children_of(os.getpid())
    bad = [shutil.copy(good, tmp_path / f"{name}.avi") for name in ("crash", "burst", "sleep")]
    done = entered("predict", *bad, good, "--checkpoint", trained.fused, "--json", "--stall", "2", expect=1)
    content = json.loads(done.stdout)
    assert [video["scores"] for video in content["videos"]] == [of_files["videos"][0]["scores"]]
    assert done.stderr.splitlines() == [failure["reason"] for failure in content["failed"]]
    assert done.stderr.splitlines() == [
        f"{bad[0]}: crash: its process was killed by signal 11 (SIGSEGV)",
        f"{bad[1]}: memory: there is not enough memory; raise --memory",
        f"{bad[2]}: timeout: it made no progress, or took longer than the limit",
    ]
    assert eventually(lambda: set(children_of(os.getpid())) <= set(children))


def test_probabilities_are_averaged_on_request(trained: Trained) -> None:
    arguments = ("--video-id", trained.ids()[0], "--checkpoint", trained.fused, "--checkpoint", trained.spatial)
    done = entered("predict", trained.store, *arguments, "--weights", "3:1", "--on", "softmax", "--json")
    content = json.loads(done.stdout)
    (video,) = content["videos"]
    first, second = ({name: special.softmax(values) for name, values in tower.items()} for tower in video["towers"])
    expected = 0.75 * np.mean([first["spatiotemporal"], first["temporal"]], axis=0) + 0.25 * second["spatial"]
    np.testing.assert_allclose(video["scores"], expected, rtol=1e-5)
    found = {one["class"]: one["probability"] for one in video["top"]}
    np.testing.assert_allclose([found[name] for name in content["classes"]], expected, rtol=1e-5)
    assert content["on"] == "softmax"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--split", "1"], "--split is for a store"),
        (["--video", "film.avi"], "must end in .mp4"),
        (["--weights", "1:2"], "--weights takes one number a checkpoint, 1 here; got 2"),
        (["--weights", "1:x"], "--weights takes numbers such as 1:1.5, got '1:x'"),
    ],
)
def test_wrong_use_is_said(trained: Trained, arguments: list[str], text: str) -> None:
    video = next(trained.videos.rglob("*.avi"))
    done = entered("predict", video, "--checkpoint", trained.fused, *arguments, expect=2)
    assert text in done.stderr


@needs_shared
def test_a_real_clip_has_the_scores_of_its_stored_self(tmp_path: Path) -> None:
    source = sorted((VIDEOS / "ucf101").rglob("*.avi"))[0]
    for name in CLASSES:
        (tmp_path / "videos" / name).mkdir(parents=True)
    clip = first_packets(source, tmp_path / "videos" / CLASSES[0] / "v_Archery_g01_c01.avi", 14)
    shutil.copy(clip, tmp_path / "videos" / CLASSES[1] / "v_Biking_g01_c01.avi")
    store = tmp_path / "store"
    flowprep("extract", "--dataset", "folder", "--videos", tmp_path / "videos", "--out", store, "--short-side", "64",
             "--backend", "dis", "--jobs", "1", "--durability", "fast", "--on-damage", "keep-flagged")  # fmt: skip
    name = "Archery/v_Archery_g01_c01"
    path = write_checkpoint(store, tmp_path / "fused.pt", "fused")
    stored = json.loads(
        entered("predict", store, "--video-id", name, "--checkpoint", path, "--json").stdout
    )["videos"]  # fmt: skip
    files = json.loads(entered("predict", clip, "--checkpoint", path, "--json").stdout)["videos"]
    assert files[0]["towers"] == stored[0]["towers"]
