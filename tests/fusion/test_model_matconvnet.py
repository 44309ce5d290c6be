"""Nets of MatConvNet in both of their forms, written by scipy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from helpers.networks import NUM_CLASSES, debug_network
from helpers.weight_files import Filters, cells, random_filters, save_dag, save_simple, thin

from flowprep.errors import SettingsError
from fusion_train.config import ModelSettings
from fusion_train.models.backbones import backbone_of
from fusion_train.models.matconvnet import read_mat
from fusion_train.models.stream import Stream
from fusion_train.models.weights import find, initialise, load_stream

DEBUG = backbone_of("debug", "spatial")
SAVE = {"simple": save_simple, "dag": save_dag}
LRN = [5.0, 2.0, 1e-4, 0.75]


def debug_filters(in_channels: int = 3, num_classes: int = NUM_CLASSES, classifier: str = "layer38") -> Filters:
    return random_filters(DEBUG, in_channels, num_classes, classifier)


@pytest.mark.parametrize("form", SAVE)
@pytest.mark.parametrize("name", ["spatial", "temporal"])
def test_single_stream_of_the_authors(tmp_path: Path, form: str, name: str) -> None:
    channels = 3 if name == "spatial" else 20
    filters = debug_filters(channels)
    mean = np.linspace(90, 130, channels).reshape(1, 1, channels)
    SAVE[form](tmp_path / "net.mat", filters, mean=mean)
    network = debug_network(network=name, **{f"{name}_weights": str(tmp_path / "net.mat")})
    report = initialise(network)[name]
    assert (report.loaded, report.random) == (("conv1", "conv2", "conv3", "fc4", "fc5"), ())
    stream = network.streams[name]
    for (their, (weight, bias)), our in zip(filters.items(), report.loaded, strict=True):
        convolution = stream.convolution(our)
        assert convolution.bias is not None
        np.testing.assert_array_equal(convolution.weight.detach().numpy(), weight.transpose(3, 2, 0, 1), their)
        np.testing.assert_array_equal(convolution.bias.detach().numpy(), bias.ravel())
    np.testing.assert_allclose(stream.input.mean.numpy(), mean.ravel(), rtol=1e-6)
    assert stream.input.scale.unique().tolist() == [1]


@pytest.mark.parametrize("form", SAVE)
def test_imagenet_net_starts_both_streams_of_another_number_of_classes(tmp_path: Path, form: str) -> None:
    average = np.random.default_rng(1).uniform(90, 130, (6, 6, 3))
    SAVE[form](tmp_path / "net.mat", debug_filters(num_classes=10, classifier="fc5"), mean=average)
    weights = {f"{name}_weights": str(tmp_path / "net.mat") for name in ("spatial", "temporal")}
    network = debug_network(**weights)
    reports = initialise(network)
    assert [report.random for report in reports.values()] == [("fc5",), ("fc5",)]
    np.testing.assert_allclose(network.streams["spatial"].input.mean.numpy(), average.mean((0, 1)), rtol=1e-6)
    assert network.streams["temporal"].input.mean.unique().tolist() == [128]


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_vggm_with_its_normalisation(tmp_path: Path, stream: str) -> None:
    """The temporal net has no norm2, and reads the same file."""
    backbone = thin(backbone_of("vggm", stream))
    save_simple(tmp_path / "net.mat", random_filters(backbone, 3, 1000, "fc8"), norm=LRN)
    net = Stream(backbone, in_channels=3 if stream == "spatial" else 20, num_classes=7, dropout=0.0)
    report = load_stream(net, find(str(tmp_path / "net.mat"), net, stream), ModelSettings())
    assert report.loaded == ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")


def test_older_files_have_filters_and_biases_apart(tmp_path: Path) -> None:
    save_simple(tmp_path / "old.mat", debug_filters(), old=True)
    save_simple(tmp_path / "new.mat", debug_filters())
    old, new = (read_mat(tmp_path / name, DEBUG, "spatial") for name in ("old.mat", "new.mat"))
    assert all(torch.equal(old.tensors[name], tensor) for name, tensor in new.tensors.items())
    np.testing.assert_allclose(new.mean.numpy(), [123.68, 116.779, 103.939], rtol=1e-6)


def swapped(filters: Filters) -> Filters:
    """Two layers in each other's place."""
    names = list(filters)
    names[1], names[2] = names[2], names[1]
    return {name: filters[name] for name in names}


@pytest.mark.parametrize("form", SAVE)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swapped, "has conv3 in the place of conv2, wanted is debug with conv1, conv2, conv3, fc4, fc5"),
        (lambda f: dict(list(f.items())[:-1]), "has the layers conv1, conv2, conv3, fc4, wanted is debug"),
        (
            lambda f: {**f, "conv2": (f["conv2"][0].transpose(3, 0, 1, 2), f["conv2"][1])},
            r"filters of conv2 are \(32, 3, 3, 16\) \(H, W, in, out\), those of conv2 in debug are \(3, 3, 16, 32\)",
        ),
    ],
)
def test_other_nets_are_named(tmp_path: Path, form: str, change: Any, message: str) -> None:
    SAVE[form](tmp_path / "net.mat", change(debug_filters()))
    with pytest.raises(SettingsError, match=message):
        read_mat(tmp_path / "net.mat", DEBUG, "spatial")


@pytest.mark.parametrize("form", SAVE)
def test_other_normalisation_is_named(tmp_path: Path, form: str) -> None:
    """Of MatConvNet's example that trains VGG-M from scratch."""
    SAVE[form](tmp_path / "net.mat", debug_filters(), norm=[5.0, 1.0, 2e-5, 0.75])
    with pytest.raises(SettingsError, match=r"normalises channels with .* we with .*: another net"):
        read_mat(tmp_path / "net.mat", DEBUG, "spatial")
    SAVE[form](tmp_path / "net.mat", debug_filters(), norm=LRN)
    read_mat(tmp_path / "net.mat", DEBUG, "spatial")


def test_files_that_are_no_nets_are_named(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "other.mat", {"x": np.eye(3)})
    with pytest.raises(SettingsError, match=r"other\.mat has no net of MatConvNet"):
        read_mat(tmp_path / "other.mat", DEBUG, "spatial")
    with h5py.File(tmp_path / "hdf5.mat", "w", userblock_size=512) as file:
        file["x"] = 1
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    with (tmp_path / "hdf5.mat").open("r+b") as raw:
        raw.write(header)
    with pytest.raises(SettingsError, match=r"hdf5\.mat is of MATLAB 7\.3; load it in MATLAB and save it with -v7"):
        read_mat(tmp_path / "hdf5.mat", DEBUG, "spatial")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.999])
def test_a_download_that_was_cut_off_is_named(tmp_path: Path, compressed: bool, share: float) -> None:
    """Scipy says it in many ways: OSError, IndexError, MatReadError."""
    path = tmp_path / "cut.mat"
    save_simple(path, debug_filters(), compressed=compressed)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(SettingsError, match=r"cut\.mat is no MATLAB file, or damaged or cut off, obtain it again: "):
        read_mat(path, DEBUG, "spatial")


def test_damage_inside_a_compressed_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.mat"
    save_simple(path, debug_filters(), compressed=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"bad\.mat is no MATLAB file, or damaged .*: Error -3 while decompressing"):
        read_mat(path, DEBUG, "spatial")


@pytest.mark.parametrize("layers", [cells(["conv1", "relu1"]), np.eye(2)])
def test_layers_of_another_form_are_no_net(tmp_path: Path, layers: Any) -> None:
    path = tmp_path / "other.mat"
    scipy.io.savemat(path, {"layers": layers})
    with pytest.raises(SettingsError, match=r"other\.mat has "):
        read_mat(path, DEBUG, "spatial")
