"""The linear SVM on bilinear features."""

from __future__ import annotations

import sys

import pytest
import torch
from helpers.networks import NUM_CLASSES, clips, fused
from sklearn.svm import LinearSVC
from torch import Tensor

from flowprep.errors import BackendUnavailableError, SettingsError
from fusion_train.models.svm import check_svm_size, fit_linear_svm, set_svm


def videos(num_features: int, num_classes: int = 3, num: int = 24) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(num) % num_classes
    centres = torch.randn(num_classes, num_features, generator=generator)
    return centres[labels] + 0.5 * torch.randn(num, num_features, generator=generator), labels


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("num_features", [5, 60])
def test_svm_is_that_of_all_features(num_features: int, num_classes: int) -> None:
    """With more features than videos it is fitted in fewer coordinates, and must be the same."""
    features, labels = videos(num_features, num_classes)
    weights, biases = fit_linear_svm(features, labels, num_classes=num_classes, cost=0.1)
    assert weights.shape == (num_classes, num_features)
    machine = LinearSVC(C=0.1, random_state=0, max_iter=10_000, tol=1e-6).fit(features.double().numpy(), labels.numpy())
    expected = torch.from_numpy(machine.decision_function(features.double().numpy())).float()
    found = features @ weights.T + biases
    torch.testing.assert_close(found if num_classes > 2 else found[:, 1], expected, atol=2e-3, rtol=2e-3)


@torch.no_grad()
def test_svm_takes_the_place_of_the_softmax_layer() -> None:
    network = fused(fusion="bilinear", temporal_fusion="pool3d", keep_temporal=False)
    rgb, flow = clips(batch_size=8)
    features = network.bilinear_features(rgb, flow)
    assert features.shape == (8, 1, 32 * 32)
    torch.testing.assert_close(features.norm(dim=2), torch.ones(8, 1))
    labels = torch.arange(8) % NUM_CLASSES
    weights, biases = fit_linear_svm(features[:, 0], labels, num_classes=NUM_CLASSES, cost=100.0)
    set_svm(network, weights, biases)
    logits = network(rgb, flow)["spatiotemporal"]
    torch.testing.assert_close(logits, features[:, 0] @ weights.T + biases, atol=1e-4, rtol=1e-4)
    assert torch.equal(logits.argmax(1), labels)


def test_more_videos_than_memory_are_refused() -> None:
    """UCF101's 9,537 videos are far below the limit, Kinetics' 240,000 are far above; few features are no trouble."""
    check_svm_size(9_537, 262_144)
    check_svm_size(240_000, 1_024)
    message = (
        r"on 240,000 videos of 262,144 features would take some 1382 GB of memory; set `train.bilinear_cl.*softmax"
    )
    with pytest.raises(SettingsError, match=message):
        check_svm_size(240_000, 262_144)
    with pytest.raises(SettingsError, match="GB of memory; set"):
        fit_linear_svm(torch.zeros(1).expand(40_000, 262_144), torch.zeros(40_000), num_classes=2)


def test_wrong_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = videos(5)
    with pytest.raises(SettingsError, match=r"must have every class of 0 to 3, got \[0, 1, 2\]"):
        fit_linear_svm(features, labels, num_classes=4)
    with pytest.raises(SettingsError, match=r"`features` must be \(N, D\) and `labels` \(N,\)"):
        fit_linear_svm(features, labels[1:], num_classes=3)
    with pytest.raises(SettingsError, match="an SVM is for `fusion` bilinear, this network has conv"):
        set_svm(fused(), torch.zeros(1, 1), torch.zeros(1))
    with pytest.raises(SettingsError, match="features are of `fusion` bilinear, this network has conv"):
        fused().bilinear_features(*clips())
    bilinear = fused(fusion="bilinear", temporal_fusion="pool2d")
    with pytest.raises(SettingsError, match=r"`weights` must be \(4, 1024\), got \(1, 1\)"):
        set_svm(bilinear, torch.zeros(1, 1), torch.zeros(1))
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(BackendUnavailableError, match=r"needs scikit-learn: pip install 'flowprep\[train\]'"):
        fit_linear_svm(features, labels, num_classes=3)
