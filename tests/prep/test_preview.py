"""Pictures and films of stored videos: colours of known motion, marks, captions' facts, what is missing."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.stored import FRAME_RGB, store_of

import flowprep.preview as preview_module
from flowprep import drawing, film
from flowprep.colour import flow_to_rgb
from flowprep.config import (
    ExtractSettings,
    FlowSettings,
    PreviewSettings,
    QuantiseSettings,
    ResizeSettings,
    StoreSettings,
)
from flowprep.errors import FrameIndexError, MissingDataError, SettingsError, StoreError, UnknownVideoError
from flowprep.outfile import whole_file
from flowprep.preview import Preview, preview
from flowprep.quantise import dequantise, stilled
from flowprep.records import Reason
from flowprep.storyboard import Shot, Title, draw_film_page, draw_sheet

HEIGHT, WIDTH = 84, 112
SHOWN = (3 * WIDTH, 3 * HEIGHT)
RIGHT_PX, DOWN_PX = 4.0, 3.0


def flow_of(
    num: int = 6, u: float = RIGHT_PX, v: float = DOWN_PX, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> np.ndarray:
    return np.full((num, *size, 2), (u, v), np.float32)


def settings_of(**store: object) -> ExtractSettings:
    return ExtractSettings(resize=ResizeSettings(short_side=None), store=StoreSettings(**store))  # type: ignore[arg-type]


def shown(store: Path, tmp_path: Path, **settings: object) -> tuple[np.ndarray, Preview]:
    """The sheet of video a/one as RGB, and what is said about it."""
    out = tmp_path / "sheet.png"
    written = preview(store, "a/one", out, PreviewSettings(**settings))  # type: ignore[arg-type]
    picture = cv2.imread(str(out))
    assert picture is not None
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), written


def share_of(picture: np.ndarray, colour: tuple[int, ...], tolerance: int = 12) -> float:
    """Number of pixels of about this colour, in panels of the standard size."""
    near = (np.abs(picture.astype(int) - colour) <= tolerance).all(axis=-1)
    return float(near.sum() / (SHOWN[0] * SHOWN[1]))


def wheel_colour(u: float, v: float, max_px: float) -> tuple[int, ...]:
    return tuple(int(c) for c in flow_to_rgb(np.array([[[u, v]]], np.float32), max_px=max_px)[0, 0])


# -- the sheet ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{"format": "hdf5"}, {"format": "jpeg"}, {"format": "jpeg", "layout": "tsn"}], ids=str)
def test_constant_flow_has_the_colour_of_the_wheel(tmp_path: Path, kind: dict[str, str]) -> None:
    store = store_of(tmp_path / "store", flow_of(), settings_of(**kind))
    picture, written = shown(store, tmp_path, num_frames=2, start=1)
    assert written.max_px == 6  # 5 px, within the error of the codes, lies a little above 5
    assert share_of(picture, wheel_colour(RIGHT_PX, DOWN_PX, 6)) == pytest.approx(2, abs=0.05)
    assert 2.5 < share_of(picture, FRAME_RGB) < 3.6  # two frames as they are, two under arrows
    assert share_of(picture, (0, 0, 0), 0) < 0.6  # arrows and letters: nothing is marked
    assert written.notes == ()


@pytest.mark.parametrize(("u", "v"), [(1, 0), (0, 1), (-1, 0), (0, -1)])
def test_arrows_point_where_the_flow_goes(u: int, v: int) -> None:
    ground = np.zeros((31, 31, 3), np.uint8)  # room for one
    assert drawing.arrow_length(31, 31) == 20
    drawn = drawing.with_arrows(ground, flow_of(1, u, v, (31, 31))[0], max_px=2)
    rows, columns = np.nonzero(drawn[..., 0] > 60)
    along = (columns - 15.5) * u + (rows - 15.5) * v  # from the middle, in the direction of the flow
    across = np.abs((columns - 15.5) * v + (rows - 15.5) * u)
    assert (along.min(), along.max()) == pytest.approx((0, 10), abs=1.5)
    assert along[across >= 1.5].min() > 5  # it is wide at its head alone
    assert not drawing.with_arrows(ground, flow_of(1, u / 9, v / 9, (31, 31))[0], max_px=2).any()


@pytest.mark.parametrize("size", [(84, 112), (256, 340), (1080, 1920), (340, 192)])
def test_saturated_pixels_are_striped_and_no_others(size: tuple[int, int]) -> None:
    flow = flow_of(1, 1, 0, size)[0]
    saturated = np.zeros(size, np.bool_)
    top, left = size[0] // 4, size[1] // 4
    saturated[top : 2 * top, left : 2 * left] = True
    saturated[-10, -10] = True  # a single one
    shown_size = drawing.shown_size(size[1], size[0])
    panel = drawing.flow_panel(flow, saturated, shown_size, max_px=2)
    assert panel.shape == (shown_size[1], shown_size[0], 3)
    plain = (panel == wheel_colour(1, 0, 2)).all(axis=-1)
    black, white = (panel == 0).all(axis=-1), (panel == 255).all(axis=-1)
    assert (plain | black | white).all()
    block = np.s_[shown_size[1] // 4 + 2 : shown_size[1] // 2 - 2, shown_size[0] // 4 + 2 : shown_size[0] // 2 - 2]
    assert not plain[block].any()
    assert 0.4 < black[block].mean() < 0.6
    alone = ~plain[-shown_size[1] // 4 :, -shown_size[0] // 4 :]
    assert 25 <= alone.sum() <= 100  # to be seen, but no more
    assert plain[: shown_size[1] // 5].all()


def test_saturated_codes_are_counted_and_marked(tmp_path: Path) -> None:
    flow = flow_of(2, 1, 0)
    flow[:, 20:40, 32:64] = -25, 0
    store = store_of(tmp_path / "store", flow, settings_of())
    picture, _ = shown(store, tmp_path, num_frames=1)
    still, _ = shown(store_of(tmp_path / "other", flow_of(2, 1, 0), settings_of()), tmp_path, num_frames=1)
    panel = np.s_[-SHOWN[1] - 30 : -30, 14 + SHOWN[0] + 8 : 14 + 2 * SHOWN[0] + 8]
    marked = 20 * 32 / (HEIGHT * WIDTH)
    assert share_of(picture[panel], (0, 0, 0), 0) == pytest.approx(marked / 2, abs=0.4 * marked / 2)
    assert share_of(still[panel], (0, 0, 0), 0) == 0
    assert share_of(picture[-28:], drawing.ALARM, 60) > 0.001  # the count is in red
    assert share_of(still[-28:], drawing.ALARM, 60) == 0


def test_a_still_scene_is_white_by_either_rule() -> None:
    for rounding, codes in (("round", (127, 128)), ("truncate", (127, 127))):
        quantise = QuantiseSettings(rounding=rounding)
        flow = dequantise(np.array([[codes], [codes[::-1]]], np.uint8), quantise)
        assert not stilled(flow, quantise).any()
        moving = dequantise(np.array([[[126, 129]]], np.uint8), quantise)
        np.testing.assert_array_equal(stilled(moving, quantise), moving)


@pytest.mark.parametrize("backward", [False, True])
def test_step_and_backward(tmp_path: Path, backward: bool) -> None:
    settings = ExtractSettings(flow=FlowSettings(step=3, backward=True), resize=ResizeSettings(short_side=None))
    store = store_of(tmp_path / "store", flow_of(5), settings)
    picture, written = shown(store, tmp_path, num_frames=5, backward=backward)
    assert written.frames == tuple(range(3, 8) if backward else range(5))
    way = -1 if backward else 1
    assert share_of(picture, wheel_colour(way * RIGHT_PX, way * DOWN_PX, 6)) == pytest.approx(5, abs=0.1)
    for index in written.frames:  # the frame that the flow starts from is shown: its left edge is 10 * index
        assert share_of(picture, (10 * index,) * 3, 4) > 0.1


def test_frames_without_flow_and_flow_without_frames(tmp_path: Path) -> None:
    frames, written = shown(store_of(tmp_path / "a", flow_of(8), settings_of(flow=False)), tmp_path, num_frames=4)
    assert written.notes == ("The store has no flow (--no-flow).",)
    assert written.frames == (1, 3, 5, 7)
    assert 3.3 < share_of(frames, FRAME_RGB) < 3.6
    assert frames.shape[1] > 3 * SHOWN[0]  # three in a row
    flows, written = shown(store_of(tmp_path / "b", flow_of(8), settings_of(rgb=False)), tmp_path)
    assert written.notes == ("The store has no frames (--no-rgb).",)
    assert share_of(flows, FRAME_RGB) == 0
    assert share_of(flows, wheel_colour(RIGHT_PX, DOWN_PX, 6)) == pytest.approx(4, abs=0.1)
    flagged = store_of(
        tmp_path / "c", flow_of(0), settings_of(), reasons=[Reason("too_short", "1 frame gives no flow")]
    )
    one, written = shown(flagged, tmp_path)
    assert written.notes == ("The video has no flow.", "Flagged too_short: 1 frame gives no flow.")
    assert written.frames == (0,)
    assert 0.8 < share_of(one, FRAME_RGB) < 0.9
    nothing = store_of(tmp_path / "d", flow_of(0), settings_of(rgb=False))
    with pytest.raises(FrameIndexError, match="neither frames nor flow"):
        shown(nothing, tmp_path)


def test_an_adopted_tree_has_no_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Shot] = []
    monkeypatch.setattr(
        preview_module, "draw_sheet", lambda title, shots: seen.extend(shots) or draw_sheet(title, shots)
    )
    store = store_of(tmp_path / "store", flow_of(3), settings_of(format="jpeg"), fps=0.0, seconds=float("nan"))
    _, written = shown(store, tmp_path, num_frames=2)
    assert [shot.seconds for shot in seen] == [None, None]
    assert written.frames == (0, 2)


def test_the_image_that_tsn_leaves_out(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", flow_of(4), settings_of(format="jpeg", layout="tsn"))
    picture, written = shown(store, tmp_path, num_frames=4)
    assert written.frames == (0, 1, 2, 3)
    assert share_of(picture, wheel_colour(RIGHT_PX, DOWN_PX, 6)) == pytest.approx(4, abs=0.1)
    assert 3.5 < share_of(picture, FRAME_RGB) < 5.3  # three frames, plain and under arrows


@pytest.mark.parametrize(
    "size", [(1, 1), (16, 12), (112, 84), (340, 256), (256, 340), (1920, 1080), (1080, 1920), (3000, 4)]
)
def test_pages_of_any_size(size: tuple[int, int]) -> None:
    width, height = size
    shot = Shot(
        index=0,
        target=1,
        seconds=1.5,
        image=np.zeros((height, width, 3), np.uint8),
        flow_px=flow_of(1, size=(height, width))[0],
        saturated=np.zeros((height, width), np.bool_),
        mean_px=5.0,
        longest_px=5.0,
    )
    title = Title(video="v" * 200, lines=("a", "b"), width=width, height=height, max_px=5.0)
    assert draw_sheet(title, [shot, shot]).shape[1] <= 3 * 660
    page = draw_film_page(title, shot)
    assert page.shape[0] % 2 == page.shape[1] % 2 == 0
    longest = max(drawing.shown_size(width, height))
    assert 320 <= longest <= 640 or longest == max(size)


def test_scales_are_round_numbers() -> None:
    found = [drawing.nice_px(length) for length in (0, 0.3, 1, 1.2, 2.01, 9.2, 11, 20, 28, 170)]
    assert found == [1, 1, 1, 1.5, 3, 10, 15, 20, 30, 200]


# -- the film ----------------------------------------------------------------------------------------------------------


def film_frames(path: Path) -> tuple[av.video.stream.VideoStream, list[np.ndarray]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert stream.codec_context.pix_fmt == "yuv420p"
        return stream, frames


@pytest.mark.parametrize("codec", film.CODECS)
def test_film_shows_frame_and_flow_side_by_side(tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "CODECS", (codec,))
    store = store_of(tmp_path / "store", flow_of(7), settings_of(), fps=29.97003)
    out = tmp_path / "film.mp4"
    written = preview(store, "a/one", out)
    assert written.frames == tuple(range(7))
    stream, frames = film_frames(out)
    assert len(frames) == 7
    assert str(stream.average_rate) == "30000/1001"
    assert {frame.shape for frame in frames} == {(SHOWN[1] + 66, 2 * SHOWN[0] + 8, 3)}
    for index, frame in enumerate(frames):
        middle = SHOWN[1] // 2
        np.testing.assert_allclose(frame[middle, SHOWN[0] // 2], FRAME_RGB, atol=14)
        expected = wheel_colour(RIGHT_PX, DOWN_PX, written.max_px)
        np.testing.assert_allclose(frame[middle, SHOWN[0] + 8 + SHOWN[0] // 2], expected, atol=14)
        np.testing.assert_allclose(frame[middle, 10], 10 * index, atol=14)  # which frame it is


def test_part_of_a_film(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", flow_of(9), settings_of())
    out = tmp_path / "film.mp4"
    assert preview(store, "a/one", out, PreviewSettings(start=3, num_frames=2)).frames == (3, 4)
    _, frames = film_frames(out)
    assert [round(float(frame[100, 10].mean()) / 10) for frame in frames] == [3, 4]


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ids = ("a/one", "a/v_Basketball_g01_c01", "b/v_Basketball_g01_c01")
    return store_of(tmp_path_factory.mktemp("s") / "store", flow_of(3), settings_of(), ids=ids, failed=("a/bad",))


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ("a/bad", r"'a/bad' is not stored in .*, its state is failed: truncated: 30 of 60 packets are there"),
        ("a/onne", r"has no video 'a/onne'; did you mean 'a/one'"),
        ("v_basketball_g01_c01.avi", r"did you mean 'a/v_Basketball_g01_c01' or 'b/v_Basketball_g01_c01'\?"),
        ("zzz", r"has no video 'zzz'; it has 3 videos"),
    ],
)
def test_a_video_that_is_not_there(store: Path, tmp_path: Path, video: str, message: str) -> None:
    with pytest.raises(UnknownVideoError, match=message) as caught:
        preview(store, video, tmp_path / "x.png")
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_wrong_use(store: Path, tmp_path: Path) -> None:
    for out, settings, error, message in (
        ("x.gif", PreviewSettings(), SettingsError, r"must end in \.png or \.mp4"),
        ("x.png", PreviewSettings(backward=True), SettingsError, "has no backward flow"),
        ("x.png", PreviewSettings(start=3), FrameIndexError, "frames 0 to 2, none of them from 3 on"),
        ("no/x.png", PreviewSettings(), MissingDataError, "cannot be written: No such file"),
        ("no/x.mp4", PreviewSettings(), MissingDataError, "cannot be written: No such file"),
    ):
        with pytest.raises(error, match=message):
            preview(store, "a/one", tmp_path / out, settings)
    with pytest.raises(MissingDataError, match=r"has no manifest\.jsonl"):
        preview(tmp_path, "a/one", tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_there_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "x.mp4"
    out.write_text("old")

    def fail() -> None:
        with whole_file(out) as temporary:
            temporary.write_text("half")
            raise StoreError("damaged")

    with pytest.raises(StoreError):
        fail()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.mp4", "old")]
    with whole_file(out) as temporary:
        temporary.write_text("new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.mp4", "new")]
