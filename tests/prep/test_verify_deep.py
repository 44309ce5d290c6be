"""`verify --deep`: images that do not decode, flow that is not that of its source; and files full of garbage."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import store_bytes
from helpers.damage import cheap_settings, flip, make_store, make_videos, remove
from helpers.in_process import be_quick

from flowprep import flowstage, pipeline
from flowprep.config import BACKENDS, ExtractSettings, FlowSettings, StoreSettings, VerifySettings
from flowprep.encode import encode_plane, encode_rgb
from flowprep.errors import BackendUnavailableError
from flowprep.flow.backend import FlowBackend
from flowprep.records import State
from flowprep.verify import jpeg, recompute, repair, verify
from flowprep.verify.tolerance import TOLERANCES

DEEP = VerifySettings(deep=True)
FORMATS = ["jpeg", "hdf5"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_videos(tmp_path_factory.mktemp("sources"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    be_quick(monkeypatch)


def made_with(
    videos: Path, out: Path, format: str, patch: pytest.MonkeyPatch, name: str, function: Any, module: Any = pipeline
) -> tuple[Path, dict[str, bytes]]:
    """A store that a changed pipeline has made, and the bytes of one that it has not."""
    pristine = store_bytes(make_store(out / "right", videos, cheap_settings(format)))
    with patch.context() as changed:
        changed.setattr(module, name, function)
        return make_store(out / "wrong", videos, cheap_settings(format)), pristine


# -- decoding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_an_image_that_was_stored_broken_is_found_by_decoding(
    format: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, pristine = made_with(
        videos, tmp_path, format, monkeypatch, "encode_plane", lambda *given: encode_plane(*given)[:-40]
    )
    assert verify(store).findings == ()
    report = verify(store, settings=DEEP)
    assert {(finding.kind, finding.stream) for finding in report.findings} == {("jpeg", "flow_x"), ("jpeg", "flow_y")}
    assert all(finding.index is not None and finding.video for finding in report.findings)
    assert repair(store, videos=videos, settings=DEEP).exit_code == 0
    assert store_bytes(store) == pristine


def test_what_is_wrong_with_an_image_is_said() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, 32, 3), np.uint8)
    rgb, plane = (
        encode(image, cheap_settings().jpeg) for encode in (encode_rgb, lambda i, s: encode_plane(i[..., 0], s))
    )
    assert jpeg.problem_of(rgb, 32, 24, 3, decode=True) == jpeg.problem_of(plane, 32, 24, 1, decode=True) == ""
    assert jpeg.problem_of(b"", 32, 24, 3) == "is empty"
    assert jpeg.problem_of(b"x" + rgb, 32, 24, 3) == "does not begin as a JPEG image"
    assert jpeg.problem_of(rgb[:30], 32, 24, 3) == "has no whole JPEG header"
    assert jpeg.problem_of(rgb[:-1], 32, 24, 3) == "ends before its image does"
    assert jpeg.problem_of(rgb, 24, 32, 3) == "is 32x24 with 3 channels, not 24x32 with 3"
    assert jpeg.problem_of(rgb, 32, 24, 1) == "is 32x24 with 3 channels, not 32x24 with 1"
    header_end = rgb.index(b"\xff\xda")
    assert jpeg.problem_of(rgb[:header_end] + b"\xff\xd9", 32, 24, 3, decode=True) == "cannot be decoded"


@pytest.mark.parametrize("num", [0, 1, 5])
def test_images_that_lie_one_after_another_are_told_apart(num: int) -> None:
    rng = np.random.default_rng(1)
    images = [encode_rgb(rng.integers(0, 256, (24, 32, 3), np.uint8), cheap_settings().jpeg) for _ in range(num)]
    assert jpeg.split(b"".join(images)) == images


# -- computing again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "store"),
    [
        ("jpeg", {"layout": "tsn"}),
        ("jpeg", {"layout": "denseflow"}),
        ("jpeg", {"flow": False}),
        ("hdf5", {}),
        ("hdf5", {"rgb": False}),
    ],
)
def test_a_store_of_this_build_is_equal_to_the_byte(
    format: str, store: dict[str, Any], videos: Path, tmp_path: Path
) -> None:
    flow = (
        FlowSettings(backend="dis", step=2, backward=True)
        if store.get("layout") == "denseflow"
        else FlowSettings(backend="dis")
    )
    settings = cheap_settings(store=StoreSettings(format=format, **store), flow=flow)
    out = make_store(tmp_path / "store", videos, settings)
    report = verify(out, videos=videos, settings=VerifySettings(deep=True, num_pairs=10))
    assert (report.findings, report.notes) == ((), ())
    compared = report.compared
    assert compared is not None
    assert (compared.num_videos, compared.num_pairs, compared.num_equal) == (5, 10, 10)
    assert verify(out, videos=videos, settings=VerifySettings(deep=True, num_pairs=2)).compared != compared


@pytest.mark.parametrize("format", FORMATS)
def test_flow_that_is_not_of_its_source_is_found_and_mended(
    format: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(flow_px: Any, settings: Any) -> Any:
        x, y = quantise(flow_px, settings)
        return y, x

    quantise = flowstage.quantise
    store, pristine = made_with(videos, tmp_path, format, monkeypatch, "quantise", swapped, flowstage)
    report = verify(store, videos=videos, settings=VerifySettings(deep=True, num_pairs=64))
    assert {finding.kind for finding in report.findings} == {"flow"}
    assert {finding.stream for finding in report.findings} == {"flow_x", "flow_y"}
    assert "codes away in the mean" in report.findings[0].text
    mended = repair(store, videos=videos, settings=VerifySettings(deep=True, num_pairs=64))
    assert mended.exit_code == 0
    assert len(mended.redone) == 5
    assert store_bytes(store) == pristine


@pytest.mark.parametrize("name", ["encode_plane", "encode_rgb"])
def test_flow_and_images_of_another_build_are_allowed_to_differ_a_little(
    name: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(image: Any, settings: Any) -> bytes:
        rng = np.random.default_rng(int(image.sum()))
        return real(np.where(rng.uniform(size=image.shape) < 0.02, image ^ 1, image).astype(np.uint8), settings)

    real = getattr(pipeline, name)
    store, _ = made_with(videos, tmp_path, "jpeg", monkeypatch, name, noisy)
    report = verify(store, videos=videos, settings=DEEP)
    assert report.findings == ()
    assert report.compared is not None
    assert report.compared.num_equal < report.compared.num_pairs
    assert 0 < report.compared.max_mean_codes < 0.5


def test_sources_that_are_gone_or_others_are_noted(videos: Path, tmp_path: Path) -> None:
    shutil.copytree(videos, tmp_path / "videos")
    store = make_store(tmp_path / "store", videos, cheap_settings("hdf5"))
    (tmp_path / "videos/Biking/v_Biking_g01_c01.avi").unlink()
    shutil.copy(videos / "Biking/v_Biking_g01_c02.avi", tmp_path / "videos/Biking/v_Biking_g01_c03.avi")
    report = verify(store, videos=tmp_path / "videos", settings=DEEP)
    assert report.exit_code == 0
    compared = report.compared
    assert compared is not None
    assert (compared.num_videos, compared.num_unreadable, compared.num_changed) == (3, 1, 1)
    assert sorted(report.notes) == [
        "Biking/v_Biking_g01_c01.avi cannot be compared: the file does not exist",
        "Biking/v_Biking_g01_c03.avi is not the file any more that v_Biking_g01_c03 was made from",
    ]


def test_a_backend_that_does_not_run_here_is_noted(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable(_: Any) -> None:
        raise BackendUnavailableError("no such device")

    store = make_store(tmp_path / "store", videos, cheap_settings("jpeg"))
    monkeypatch.setattr(recompute, "open_backend", unusable)
    report = verify(store, videos=videos, settings=DEEP)
    assert (report.exit_code, report.notes) == (0, ("nothing was computed again: no such device",))


@pytest.mark.parametrize(("num_good", "what"), [(0, "nothing"), (1, "no more")])
def test_a_device_that_is_busy_or_lost_meanwhile_is_noted(
    num_good: int, what: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`native-cuda` touches its device when the first frames come; the look at the whole store must not be lost."""
    store = make_store(tmp_path / "store", videos, cheap_settings("jpeg"))
    opened, num_left = recompute.open_backend, [num_good]

    def lost_meanwhile(settings: ExtractSettings) -> FlowBackend | None:
        backend = opened(settings)
        assert backend is not None
        compute = backend._compute

        def computed(*arguments: Any) -> Any:
            if not num_left[0]:
                raise BackendUnavailableError("too little free memory on device 0")
            num_left[0] -= 1
            return compute(*arguments)

        monkeypatch.setattr(backend, "_compute", computed)
        return backend

    monkeypatch.setattr(recompute, "open_backend", lost_meanwhile)
    report = verify(store, videos=videos, settings=VerifySettings(deep=True, num_pairs=2))
    assert (report.exit_code, report.notes) == (0, (f"{what} was computed again: too little free memory on device 0",))
    assert report.num_jpegs > 0
    assert report.compared is not None
    assert report.compared.num_pairs == num_good


def test_every_backend_has_a_tolerance_that_tells_flow_from_other_flow() -> None:
    assert TOLERANCES.keys() >= {"rgb", *BACKENDS}
    rng = np.random.default_rng(0)
    plane = rng.integers(100, 156, (64, 64), np.uint8)
    for tolerance in TOLERANCES.values():
        assert tolerance.allows(plane, plane)
        assert not tolerance.allows(plane, np.roll(plane, 1))
        assert not tolerance.allows(plane, (plane + 4).astype(np.uint8))


# -- garbage -----------------------------------------------------------------------------------------------------------


def mutate(path: Path, rng: random.Random) -> None:
    """Damage a file at random."""
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 8, 64))):
        kind, at = rng.choice(("flip", "flip", "cut", "insert", "zeros")), rng.randrange(len(data) + 1)
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del data[at : at + rng.randrange(32)]
        elif kind == "insert":
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == "zeros":
            data[at : at + 16] = bytes(len(data[at : at + 16]))
    path.write_bytes(data)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("books", [True, False], ids=["", "without-books"])
def test_files_of_any_content_are_named_and_end_nothing(format: str, books: bool, videos: Path, tmp_path: Path) -> None:
    made = make_store(tmp_path / "made", videos, cheap_settings(format))
    if not books:
        remove(".flowprep")(made)
    pristine, rng = store_bytes(made), random.Random(format)
    kinds: dict[str, list[Path]] = {}
    for path in sorted(made.rglob("*")):
        if path.is_file() and "journal" not in path.parts:
            kinds.setdefault(path.name if path.suffix != ".jpg" else ".jpg", []).append(path.relative_to(made))
    num_mended = 0
    for number, place in enumerate(rng.choice(paths) for paths in kinds.values() for _ in range(6)):
        store = tmp_path / "store"
        shutil.copytree(made, store)
        mutate(store / place, rng)
        is_changed = (store / place).read_bytes() != (made / place).read_bytes()
        report = verify(store, videos=videos, settings=VerifySettings(deep=True, num_pairs=1))
        assert all(finding.path and finding.text for finding in report.findings)
        if place.name != "run.json":
            assert (report.exit_code == 4) == is_changed, place
        if place.name != "run.json" and (books or place.name != "SHA256SUMS"):  # of two files either may be wrong
            assert any(str(place).startswith(f.path) for f in report.findings) == is_changed, (place, report.findings)
        if number % 3 == 0 and (books or place.name not in ("manifest.jsonl", "SHA256SUMS", "splits.json")):
            assert repair(store, videos=videos).exit_code == 0, place
            assert store_bytes(store) == pristine
            num_mended += 1
        shutil.rmtree(store)
    assert num_mended >= 2


def test_torn_journals_are_noted(videos: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", videos, cheap_settings("jpeg"))
    (path,) = (store / ".flowprep/journal").iterdir()
    flip(str(path.relative_to(store)), 0.3)(store)
    report = verify(store)
    assert (report.exit_code, report.notes) == (
        0,
        (f"{path.name}: 1 torn or damaged lines; nothing depends on a journal",),
    )
    assert report.states == {State.OK: 5, State.FAILED: 1}
