"""The linear SVM on bilinear features (Lin et al., ICCV 2015), put in the place of a network's softmax layer."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowprep.errors import BackendUnavailableError, SettingsError
from fusion_train.models.two_stream import FusedNetwork

_COLUMNS = 4096
"""Features that are looked at at a time; they may lie in a file."""
_MAX_COORDINATES = 10**9
"""Of all videos, in doubles: 8 GB, of which LAPACK and the solver make about three times that."""


def check_svm_size(num_videos: int, num_features: int) -> None:
    """Whether an SVM on so many videos, each with so many features, can be fitted: memory grows with their square.

    Raises SettingsError, with the cure.
    """
    num = num_videos * min(num_videos, num_features)
    if num > _MAX_COORDINATES:
        raise SettingsError(
            f"the SVM of bilinear fusion on {num_videos:,} videos of {num_features:,} features would take some "
            f"{3 * 8 * num / 1e9:.0f} GB of memory; set `train.bilinear_classifier` to softmax"
        )


def fit_linear_svm(
    features: Tensor, labels: Tensor, *, num_classes: int, cost: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """One-against-rest SVMs with an L2 penalty and squared hinge loss: scikit-learn's LinearSVC.

    512x512 features of 9,537 videos would be 20 GB of doubles. An SVM depends on its features only through their inner
    products, so where there are fewer videos than features it is fitted in coordinates of the videos' own span.

    Args:
        features: float (N, D), a row a video.
        labels: int (N,), 0 to num_classes - 1, each of them present.
        num_classes: C, at least 2.
        cost: C of the SVM.
        seed: Of the solver's order.

    Returns:
        float32 weights (C, D) and biases (C,): `features @ weights.T + biases` is the decision function.

    Raises:
        SettingsError: A class has no video, there are too many videos (`check_svm_size`), or the shapes do not fit.
        BackendUnavailableError: scikit-learn is not installed.
    """
    try:
        from sklearn.svm import LinearSVC
    except ModuleNotFoundError as error:
        raise BackendUnavailableError(
            "the SVM of bilinear fusion needs scikit-learn: pip install 'flowprep[train]'"
        ) from error
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise SettingsError(f"`features` must be (N, D) and `labels` (N,), got {features.shape} and {labels.shape}")
    check_svm_size(*features.shape)
    present = torch.unique(labels).tolist()
    if present != list(range(num_classes)) or num_classes < 2:
        raise SettingsError(f"`labels` must have every class of 0 to {num_classes - 1}, got {present}")
    rows = features.detach().cpu().float()
    coordinates, back = _span(rows) if rows.shape[0] < rows.shape[1] else (rows.double().numpy(), None)
    machine = LinearSVC(C=cost, random_state=seed, max_iter=10_000).fit(coordinates, labels.cpu().numpy())
    weights, biases = np.asarray(machine.coef_), np.asarray(machine.intercept_)
    if num_classes == 2:  # one machine for both
        weights, biases = np.concatenate([-weights, weights]), np.concatenate([-biases, biases])
    if back is not None:
        combinations = torch.from_numpy(weights @ back).float()
        return torch.cat([combinations @ columns for columns in torch.split(rows, _COLUMNS, 1)], 1), torch.from_numpy(
            biases
        ).float()
    return torch.from_numpy(weights).float(), torch.from_numpy(biases).float()


def _span(rows: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates (N, R) of N rows in an orthonormal basis of their span; the basis as combinations (R, N) of rows."""
    gram = torch.zeros(rows.shape[0], rows.shape[0], dtype=torch.float64)
    for columns in torch.split(rows, _COLUMNS, 1):  # all in doubles would be twice as large
        block = columns.double()
        gram += block @ block.T
    values, vectors = np.linalg.eigh(gram.numpy())
    kept = values > values[-1] * 1e-10
    roots = np.sqrt(values[kept])
    return vectors[:, kept] * roots, (vectors[:, kept] / roots).T


@torch.no_grad()
def set_svm(network: FusedNetwork, weights: Tensor, biases: Tensor) -> None:
    """Make the SVM's decision function the logits of a bilinear network.

    Raises:
        SettingsError: The network has another fusion, or another number of features or classes.
    """
    classifier = network.bilinear_classifier
    if classifier is None:
        raise SettingsError(f"an SVM is for `fusion` bilinear, this network has {network.settings.fusion}")
    if tuple(classifier.weight.shape[:2]) != tuple(weights.shape):
        raise SettingsError(f"`weights` must be {tuple(classifier.weight.shape[:2])}, got {tuple(weights.shape)}")
    assert classifier.bias is not None
    classifier.weight.copy_(weights[:, :, None, None])
    classifier.bias.copy_(biases)
