"""The synthetic set: files and lists, true motion in decoded frames, no leak, and a fusion that solves it."""

import io
import itertools
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from flowprep.config import SynthSettings
from flowprep.datasets import list_videos
from flowprep.datasets.synthetic import encode_intra, make_synthetic
from flowprep.datasets.synthetic_texture import DotTexture, FieldTexture
from flowprep.errors import RunStoppedError, SettingsError

SHORT: dict[str, Any] = {"stack_length": 2, "pause_steps": 4, "phase_steps": 4}
"""21 frames, where nothing depends on the length."""


@dataclass(frozen=True)
class SynthSet:
    root: Path
    settings: SynthSettings

    @property
    def labels(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / "labels.jsonl").read_text().splitlines()]

    def grey(self, label: dict[str, Any]) -> np.ndarray:
        """The luma of all decoded frames, (F, H, W) uint8; that it is what RGB shows is a test below."""
        with av.open(str(self.root / "videos" / label["path"])) as container:
            container.streams.video[0].thread_count = 1
            frames = np.stack([frame.to_ndarray() for frame in container.decode(video=0)])
        return frames[:, : self.settings.height]

    def lines(self, name: str) -> list[str]:
        return (self.root / "splits" / name).read_text().splitlines()


def make(root: Path, **settings: Any) -> SynthSet:
    made = SynthSet(root, SynthSettings(**settings))
    make_synthetic(root, made.settings)
    return made


@pytest.fixture(scope="module")
def fusion(tmp_path_factory: pytest.TempPathFactory) -> SynthSet:
    return make(tmp_path_factory.mktemp("synth") / "fusion", num_train=16, num_test=8, num_groups=5)


@pytest.fixture(scope="module")
def pretext(tmp_path_factory: pytest.TempPathFactory) -> SynthSet:
    return make(tmp_path_factory.mktemp("synth") / "pretext", task="pretext", num_train=16, num_test=8)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# Files, lists, labels


@pytest.mark.parametrize("name", ["fusion", "pretext"])
def test_videos_have_the_announced_frames_and_size(name: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(name)
    assert len(made.labels) == len(list(made.root.rglob("*.avi"))) == 24
    for label in made.labels:
        with av.open(str(made.root / "videos" / label["path"])) as container:
            stream = container.streams.video[0]
            assert stream.frames == 61
            assert stream.average_rate == 25
            assert stream.codec_context.color_range == 2  # full range: mid-grey is 128 after decoding
        assert made.grey(label).shape == (61, 96, 96)


def test_rgb_frames_are_grey_in_full_range(fusion: SynthSet) -> None:
    label = fusion.labels[0]
    with av.open(str(fusion.root / "videos" / label["path"])) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert (frame == fusion.grey(label)[0][..., None]).all()


def test_every_frame_is_a_key_frame(fusion: SynthSet) -> None:
    with av.open(str(fusion.root / "videos" / fusion.labels[0]["path"])) as container:
        assert all(packet.is_keyframe for packet in container.demux(video=0) if packet.size)


@pytest.mark.parametrize("name", ["fusion", "pretext"])
def test_lists_have_the_official_form_and_agree_with_the_labels(name: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(name)
    classes = dict(line.split(" ") for line in made.lines("classInd.txt"))
    assert sorted(classes.values()) == list(classes.values())
    assert [int(number) for number in classes] == list(range(1, made.settings.num_classes + 1))
    train = dict(line.split(" ") for line in made.lines("trainlist01.txt"))
    test = made.lines("testlist01.txt")
    assert len(train) == 16
    assert len(set(test)) == 8
    for label in made.labels:
        number = str(label["label"] + 1)
        assert classes[number] == label["class"]
        assert label["path"] == f"{label['class']}/{label['id']}.avi"
        assert label["id"] == f"v_{label['class']}_g{label['group']:02d}_c{label['clip']:02d}"
        if label["split"] == "train":
            assert train[label["path"]] == number
        else:
            assert label["path"] in test
            assert label["path"] not in train


def test_the_ucf101_dataset_reads_it(fusion: SynthSet) -> None:
    listing = list_videos("ucf101", fusion.root / "videos", splits=fusion.root / "splits")
    assert not listing.unlisted
    assert {(video.id, video.path, video.class_name, video.label, video.problem) for video in listing.videos} == {
        (label["id"], label["path"], label["class"], label["label"], None) for label in fusion.labels
    }
    (parts,) = listing.splits.values()
    for part in ("train", "test"):
        assert set(parts[part]) == {label["id"] for label in fusion.labels if label["split"] == part}


@pytest.mark.parametrize("name", ["fusion", "pretext"])
def test_each_draw_makes_one_video_of_each_class_in_one_group_and_split(
    name: str, request: pytest.FixtureRequest
) -> None:
    made = request.getfixturevalue(name)
    draws = defaultdict(list)
    splits = defaultdict(set)
    for label in made.labels:
        draws[tuple(label["seed"])].append(label)
        splits[label["group"]].add(label["split"])
    assert all(len(parts) == 1 for parts in splits.values())
    for siblings in draws.values():
        assert [sibling["label"] for sibling in siblings] == list(range(made.settings.num_classes))
        assert len({(s["split"], s["group"], s["clip"]) for s in siblings}) == 1
        assert len({json.dumps([window["centre_px"] for window in s["windows"]]) for s in siblings}) == 1


def test_bits_and_classes_agree(fusion: SynthSet, pretext: SynthSet) -> None:
    for label in fusion.labels:
        assert label["class"] == (
            f"Bright{'Up' if label['binding'] else 'Down'}Vertical{'Last' if label['order'] else 'First'}"
        )
        motions = ["vertical", "sideways"]
        assert [phase["motion"] for phase in label["phases"]] == (motions[::-1] if label["order"] else motions)
        assert [window["texture"] for window in label["windows"]] == ["bright", "dark"]
    for label in pretext.labels:
        assert label["class"].lower() == label["texture"] + label["direction"]


def test_windows_are_clear_of_the_border_and_of_each_other(tmp_path: Path) -> None:
    made = make(tmp_path / "set", num_train=80, num_test=4, width=64, height=48, **SHORT)
    for label in made.labels:
        radius = label["diameter_px"] / 2
        assert radius == pytest.approx(0.15 * 48)
        (x, y), (other_x, other_y) = (window["centre_px"] for window in label["windows"])
        assert np.hypot(x - other_x, y - other_y) > 2 * radius + 4
        for along, size in ((x, 64), (y, 48), (other_x, 64), (other_y, 48)):
            assert radius + 1 < along < size - 2 - radius


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(tmp_path: Path) -> None:
    sizes = {"num_train": 4, "num_test": 4, "width": 48, "height": 64}
    first, again, other = (make(tmp_path / str(i), seed=seed, **sizes) for i, seed in enumerate((3, 3, 4)))
    assert tree(first.root) == tree(again.root)
    assert not set(tree(first.root / "videos").values()) & set(tree(other.root / "videos").values())


def test_a_larger_set_begins_with_the_draws_of_a_smaller_one(tmp_path: Path) -> None:
    sizes = {"width": 48, "height": 48, "num_groups": 2}
    small = make(tmp_path / "small", num_train=4, num_test=4, **sizes)
    large = make(tmp_path / "large", num_train=12, num_test=4, **sizes)
    for name, content in tree(small.root / "videos").items():
        assert tree(large.root / "videos")[name] == content


# Writing


def test_an_interrupted_set_is_completed_to_the_same_bytes(tmp_path: Path) -> None:
    made = make(tmp_path / "set", num_train=4, num_test=4, width=48, height=48)
    whole = tree(made.root)
    label = made.labels[3]
    kept = made.root / "videos" / made.labels[0]["path"]
    modified = kept.stat().st_mtime_ns
    (made.root / "labels.jsonl").unlink()
    (made.root / "videos" / label["path"]).unlink()
    calls: list[tuple[int, int]] = []
    summary = make_synthetic(made.root, made.settings, progress=lambda done, total: calls.append((done, total)))
    assert tree(made.root) == whole
    assert kept.stat().st_mtime_ns == modified
    assert calls == [(done, 8) for done in range(1, 9)]
    assert (summary.num_videos, summary.num_written) == (8, 1)
    assert summary.num_bytes == sum(len(content) for name, content in whole.items() if name.endswith(".avi"))


def test_foreign_content_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SettingsError, match="is not an empty folder and holds no synthetic set"):
        make_synthetic(tmp_path, SynthSettings())
    with pytest.raises(SettingsError, match="is not an empty folder"):
        make_synthetic(tmp_path / "thesis.tex", SynthSettings())
    assert tree(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_set_of_other_settings_is_refused_with_the_difference(fusion: SynthSet) -> None:
    before = tree(fusion.root)
    with pytest.raises(SettingsError, match=r"settings\.seed: 0 there, 1 asked for"):
        make_synthetic(fusion.root, SynthSettings(num_train=16, num_test=8, num_groups=5, seed=1))
    assert tree(fusion.root) == before


def test_an_unreadable_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "synth.json").write_text("[1")
    with pytest.raises(SettingsError, match=r"synth\.json cannot be read"):
        make_synthetic(tmp_path, SynthSettings())


def test_a_place_that_cannot_be_written_stops_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunStoppedError, match="cannot be written"):
        make_synthetic(tmp_path / "file" / "below", SynthSettings())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pause_steps": 11}, r"`pause_steps` must be at least `stack_length` \+ 2 = 12, .*, got 11"),
        ({"stack_length": 11}, r"`pause_steps` must be at least `stack_length` \+ 2 = 13"),
        ({"num_train": 6}, "`num_train` must be a multiple of 4, .*, got 6"),
        ({"num_test": 4, "task": "pretext"}, "`num_test` must be a multiple of 8, .*, got 4"),
        ({"width": 97}, "`width` must be even .*, got 97"),
        ({"min_speed_px": 3.0}, "`min_speed_px` must be at most `max_speed_px`, got 3.0 and 2.5"),
        ({"task": "fission"}, "`task` must be one of fusion, pretext"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        SynthSettings(**settings)


def test_settings_survive_json() -> None:
    settings = SynthSettings(task="pretext", seed=7, pause_steps=20, stack_length=15)
    assert SynthSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_encoding_is_faithful_and_treats_a_negative_alike() -> None:
    noise = np.random.default_rng(0).standard_normal((4, 48, 64))
    frames = np.rint(128 + 150 * np.stack([cv2.GaussianBlur(image, (0, 0), 1.5) for image in noise])).clip(16, 240)
    decoded = []
    for pictures in (frames.astype(np.uint8), (256 - frames).astype(np.uint8)):
        with av.open(io.BytesIO(encode_intra(pictures, fps=25, scale=2))) as container:
            green = [frame.to_ndarray(format="rgb24")[..., 1] for frame in container.decode(video=0)]
            decoded.append(np.stack(green).astype(float))
    assert 10 * np.log10(255**2 / np.square(decoded[0] - frames).mean()) > 42  # decibel; 43.9 measured
    assert abs((decoded[0] + decoded[1] - 256).mean()) < 0.05
    assert np.abs(decoded[0] + decoded[1] - 256).max() <= 4


# Motion and appearance of decoded frames


def farneback(frame: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Flow (H, W, 2) of grey frames: fast, and within 0.1 px of the truth in the middle of these windows."""
    flow: np.ndarray = cv2.calcOpticalFlowFarneback(frame, following, None, 0.5, 3, 9, 5, 5, 1.1, 0)
    return flow


def inside(label: dict[str, Any], window: int, shape: tuple[int, ...], *, shrink_px: float) -> np.ndarray:
    """Mask (H, W) of a window without its outer `shrink_px`."""
    (x, y), radius = label["windows"][window]["centre_px"], label["diameter_px"] / 2
    rows, columns = np.indices(shape)
    mask: np.ndarray = np.hypot(columns - x, rows - y) < radius - shrink_px
    return mask


def true_velocities(label: dict[str, Any], window: int, num_flows: int) -> np.ndarray:
    """What `labels.jsonl` says of a window's motion: (num_flows, 2)."""
    velocities = np.zeros((num_flows, 2))
    for phase in label["phases"]:
        velocities[phase["first_flow"] : phase["first_flow"] + phase["num_flows"]] = phase["velocities_px"][window]
    return velocities


@pytest.mark.parametrize("name", ["fusion", "pretext"])
def test_motion_in_decoded_frames_is_that_of_the_labels(name: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(name)
    speeds = []
    for label in made.labels[::3]:
        grey = made.grey(label)
        flows = [farneback(frame, following) for frame, following in itertools.pairwise(grey)]
        for window in range(len(label["windows"])):
            mask = inside(label, window, grey.shape[1:], shrink_px=4)
            measured = np.array([np.median(flow[mask], axis=0) for flow in flows])
            truth = true_velocities(label, window, len(flows))
            np.testing.assert_allclose(measured, truth, atol=0.25)  # 0.19 measured at worst
            np.testing.assert_allclose(measured[truth.any(axis=1)].mean(), truth[truth.any(axis=1)].mean(), atol=0.05)
            speeds += [np.hypot(*velocity) for velocity in truth if velocity.any()]
    assert min(speeds) >= 1.5
    assert max(speeds) <= 2.5


def test_textures_move_apart_in_both_phases(fusion: SynthSet) -> None:
    for label in fusion.labels:
        vertical, sideways = sorted(label["phases"], key=lambda phase: phase["motion"], reverse=True)
        (bright, dark) = vertical["velocities_px"]
        assert bright[0] == dark[0] == 0
        assert (bright[1] < 0 < dark[1]) if label["binding"] else (dark[1] < 0 < bright[1])
        (bright, dark) = sideways["velocities_px"]
        assert bright[1] == dark[1] == 0
        assert bright[0] * dark[0] < 0


def test_only_texture_drifts_the_windows_stay(fusion: SynthSet) -> None:
    still = [label for label in fusion.labels if label["background_px"] == [0, 0]]
    drifting = [label for label in fusion.labels if label["background_px"] != [0, 0]]
    assert still
    assert drifting
    for label in still[:4]:
        grey = fusion.grey(label).astype(int)
        changes = np.abs(grey - grey[0]).max(axis=0) > 16  # beyond what the codec adds
        windows = [inside(label, window, changes.shape, shrink_px=-2) for window in (0, 1)]
        assert not changes[~(windows[0] | windows[1])].any()
        assert all(changes[window].mean() > 0.5 for window in windows)
        assert (grey[: label["phases"][0]["first_flow"] + 1] == grey[0]).all()  # the first pause


def test_the_dark_texture_is_the_negative_of_the_bright_ones_process(fusion: SynthSet, pretext: SynthSet) -> None:
    for label in fusion.labels:
        grey = fusion.grey(label).astype(float) - 128
        bright, dark = (grey[:, inside(label, window, grey.shape[1:], shrink_px=2)] for window in (0, 1))
        assert bright.mean() > 10
        assert dark.mean() < -10
        assert bright.min() > -16  # dots on mid-grey, not dots and holes
        assert dark.max() < 16
    siblings = {label["class"]: label for label in pretext.labels if label["seed"] == pretext.labels[0]["seed"]}
    bright, dark = (pretext.grey(siblings[name]).astype(float) for name in ("BrightUp", "DarkUp"))
    mask = inside(siblings["BrightUp"], 0, bright.shape[1:], shrink_px=2)
    assert np.abs((bright + dark - 256)[:, mask]).max() <= 16
    assert np.abs((bright + dark - 256)[:, mask].mean()) < 0.2


@pytest.mark.parametrize("shift_px", [(0.5, 0.0), (0.25, 0.5), (7.3, -4.9)])
def test_textures_are_as_sharp_moved_by_a_fraction_as_still(shift_px: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    dots, field = DotTexture.sample(rng, 64), FieldTexture.sample(rng, 64)
    grid = np.arange(64, dtype=np.float32)
    for values in (
        lambda shift: dots.values(grid, grid, np.array(shift)),
        lambda shift: field.values(64, 64, np.array(shift)),
    ):
        still, moved = values((0.0, 0.0)), values(shift_px)
        for axis in (0, 1):
            sharpness = [np.square(texture - np.roll(texture, 1, axis)).mean() for texture in (still, moved)]
            assert sharpness[1] == pytest.approx(sharpness[0], rel=0.005)
        np.testing.assert_allclose(values((3.0, -2.0)), np.roll(still, (-2, 3), (0, 1)), atol=0.01)


# Leaks: what one frame, one flow stack or a mean knows of the class. Fixed seed, so that no test is a matter of luck.

LEAK_MARGIN = 0.06
"""Distance to 50 % that counts as chance; 1,280 decisions, standard deviation 1.4 % if they were independent."""


@dataclass(frozen=True)
class LeakData:
    """`grey` (N, F, H, W) uint8 and `flow` (N, 2, H, W, 2) at both ends of the vertical phase, of `labels` (N)."""

    labels: list[dict[str, Any]]
    grey: np.ndarray
    flow: np.ndarray

    def of(self, key: str) -> np.ndarray:
        return np.array([label[key] for label in self.labels])

    @property
    def is_train(self) -> np.ndarray:
        return self.of("split") == "train"


@pytest.fixture(scope="module")
def leak_data(tmp_path_factory: pytest.TempPathFactory) -> LeakData:
    made = make(tmp_path_factory.mktemp("leak") / "set", num_train=240, num_test=160, width=64, height=64, **SHORT)
    labels = made.labels
    grey = np.stack([made.grey(label) for label in labels])
    flow = []
    for label, frames in zip(labels, grey, strict=True):
        start = next(phase["first_flow"] for phase in label["phases"] if phase["motion"] == "vertical")
        flow.append([farneback(frames[i], frames[i + 1]) for i in (start, start + 3)])
    return LeakData(labels, grey, np.array(flow))


def pooled(images: np.ndarray, cell: int) -> np.ndarray:
    """Means over cells: (N, H, W) to (N, H/cell * W/cell)."""
    num, height, width = images.shape
    means: np.ndarray = images.reshape(num, height // cell, cell, width // cell, cell).mean(axis=(2, 4))
    return means.reshape(num, -1)


def held_out_accuracy(features: np.ndarray, bits: np.ndarray, is_train: np.ndarray) -> float:
    """Share of right answers of a ridge regression, learnt on the training groups, on the others."""
    centre, scale = features[is_train].mean(axis=0), features[is_train].std() + 1e-6
    features = np.c_[(features - centre) / scale, np.ones(len(features))]
    known = features[is_train]
    weights = np.linalg.solve(known.T @ known + 10 * np.eye(known.shape[1]), known.T @ (2.0 * bits[is_train] - 1))
    return float(((features[~is_train] @ weights > 0) == bits[~is_train]).mean())


def is_bright_left(data: LeakData) -> np.ndarray:
    centres = [[window["centre_px"][0] for window in label["windows"]] for label in data.labels]
    return np.array([bright < dark for bright, dark in centres]).astype(int)


def test_a_single_frame_tells_places_and_no_bit(leak_data: LeakData) -> None:
    times = np.array([2, 5, 7, 9, 11, 13, 15, 19])  # in all pauses and phases
    features = pooled(leak_data.grey[:, times].reshape(-1, 64, 64).astype(float), 4)
    is_train = np.repeat(leak_data.is_train, len(times))
    assert (~is_train).sum() == 1280
    for bit in ("binding", "order"):
        accuracy = held_out_accuracy(features, np.repeat(leak_data.of(bit), len(times)), is_train)
        assert abs(accuracy - 0.5) <= LEAK_MARGIN
    # The same classifier finds what a frame does show.
    assert held_out_accuracy(features, np.repeat(is_bright_left(leak_data), len(times)), is_train) > 0.7


def test_flow_tells_which_window_goes_up_and_no_bit(leak_data: LeakData) -> None:
    flow = leak_data.flow.reshape(-1, 64, 64, 2)
    features = np.c_[pooled(flow[..., 0], 8), pooled(flow[..., 1], 8)]
    is_train = np.repeat(leak_data.is_train, 2)
    for bit in ("binding", "order"):
        accuracy = held_out_accuracy(features, np.repeat(leak_data.of(bit), 2), is_train)
        assert abs(accuracy - 0.5) <= 2 * LEAK_MARGIN  # 320 decisions
    left_goes_up = (is_bright_left(leak_data) == leak_data.of("binding")).astype(int)
    assert held_out_accuracy(features, np.repeat(left_goes_up, 2), is_train) > 0.9


def test_flow_in_a_window_does_not_tell_its_texture(leak_data: LeakData) -> None:
    features, is_bright = [], []
    for label, flows in zip(leak_data.labels, leak_data.flow, strict=True):
        for window in (0, 1):
            core = inside(label, window, (64, 64), shrink_px=3)
            ring = inside(label, window, (64, 64), shrink_px=-3) & ~core
            speeds = np.abs(flows).mean(axis=0)
            features.append([f(speeds[mask][:, i]) for mask in (core, ring) for i in (0, 1) for f in (np.mean, np.std)])
            is_bright.append(window == 0)
    is_train = np.repeat(leak_data.is_train, 2)
    accuracy = held_out_accuracy(np.array(features), np.array(is_bright).astype(int), is_train)
    assert abs(accuracy - 0.5) <= 2 * LEAK_MARGIN  # 320 decisions


@pytest.mark.parametrize("bit", ["binding", "order"])
def test_means_over_a_clip_do_not_depend_on_the_class(leak_data: LeakData, bit: str) -> None:
    grey = leak_data.grey.astype(np.float32)
    statistics = np.c_[
        grey.mean(axis=(1, 2, 3)), grey.std(axis=(1, 2, 3)), np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2, 3))
    ]
    differences = defaultdict(lambda: np.zeros(3))
    for label, values in zip(leak_data.labels, statistics, strict=True):
        differences[tuple(label["seed"])] += values * (2 * label[bit] - 1)
    paired = np.array(list(differences.values()))  # (draws, 3)
    standard_error = paired.std(axis=0) / np.sqrt(len(paired))
    assert (np.abs(paired.mean(axis=0)) < 4 * standard_error).all()


def test_appearance_and_motion_joined_by_place_and_time_solve_both_bits(leak_data: LeakData) -> None:
    for label, frames in zip(leak_data.labels[::10], leak_data.grey[::10], strict=True):
        energy = {}
        for phase in label["phases"]:
            start = phase["first_flow"] + 1
            flow = farneback(frames[start], frames[start + 1])
            energy[start] = np.abs(flow[..., 1]).sum() - np.abs(flow[..., 0]).sum()
        vertical = max(energy, key=lambda start: energy[start])
        assert int(vertical > min(energy)) == label["order"]
        # Grey times upward speed, place by place: the linear readout of a sum over space of products.
        flow = farneback(frames[vertical], frames[vertical + 1])
        brightness = cv2.GaussianBlur(frames[vertical].astype(np.float32) - 128, (0, 0), 3)
        assert int((-flow[..., 1] * brightness).sum() > 0) == label["binding"]
