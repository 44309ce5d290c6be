"""MATLAB files of MatConvNet as lists of layers: what both of its forms have in common.

SimpleNN has `layers` as cells, each with `name`, `type` and `weights` {filters, bias} (older files: `filters` and
`biases`). DagNN has `layers` as structures with names of their parameters and of the variables between layers, and
`params` with the values. Both stand at the top of the file or in a variable `net`. All names are read from the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.io import loadmat
from torch import Tensor

from flowprep.errors import SettingsError

Array = NDArray[Any]


@final
@dataclass(frozen=True, eq=False)
class MatLayer:
    """A layer: `kind` is conv, bn, lrn, concat, or the file's word in lower case.

    `values` are those of its parameters in order, None for one that the file lacks; `inputs` and `outputs` name
    variables and are empty in SimpleNN. `options` is the structure with its sizes and strides.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: tuple[Array | None, ...]
    options: Any

    def numbers(self, name: str) -> tuple[float, ...]:
        """An option such as `stride` or `param`; empty where the file has none."""
        value = None if self.options is None else field_of(self.options, name)
        return () if value is None else tuple(np.ravel(value).astype(float).tolist())

    def filters(self) -> tuple[Array, Array]:
        """Filters of a convolution, (H, W, Cin, Cout) or (H, W, T, Cin, Cout), and its bias (Cout,), 0 if it has none.

        Raises SettingsError where there are no filters.
        """
        if not self.values or self.values[0] is None:
            raise SettingsError(f"layer {self.name} of the file has no filters")
        filters = np.asarray(self.values[0])
        filters = filters.reshape(*filters.shape, *(1 for _ in range(4 - filters.ndim)))  # MATLAB drops ones at the end
        given = self.values[1] if len(self.values) > 1 else None
        return filters, np.zeros(filters.shape[-1]) if given is None else np.asarray(given).ravel()


@final
@dataclass(frozen=True, eq=False)
class MatNet:
    """A net of a file; `structure` has its other fields, as `meta`."""

    path: Path
    layers: tuple[MatLayer, ...]
    structure: Any


_KINDS = {"batchnorm": "bn", "bnorm": "bn", "normalize": "lrn", "conv3d": "conv"}


def as_tensor(values: Array) -> Tensor:
    """float32, of memory of its own."""
    return torch.from_numpy(np.array(values, np.float32, order="C"))


def read_net(path: Path) -> MatNet:
    """The net in a file of MATLAB 5 to 7.

    Raises:
        SettingsError: The file is damaged, of MATLAB 7.3, or has no net of MatConvNet.
    """
    structure = _structure(path)
    layers = field_of(structure, "layers")
    simple = layers is not None and layers.dtype.names is None
    if layers is None or (not simple and field_of(structure, "params") is None):
        raise SettingsError(f"{path} has no net of MatConvNet: `layers`, or `layers` and `params`, are missing")
    try:
        found = _simple(layers) if simple else _dag(structure, layers)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"{path} has no net of MatConvNet: its `layers` have another form ({error})") from error
    return MatNet(path, tuple(found), structure)


def _structure(path: Path) -> Any:
    """The structure with `layers`: the variable `net`, or the file."""
    try:
        content = loadmat(path, squeeze_me=False, struct_as_record=True)
    except NotImplementedError as error:
        raise SettingsError(f"{path} is of MATLAB 7.3; load it in MATLAB and save it with -v7") from error
    except OSError as error:
        if error.errno is not None:
            raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
        raise _damaged(path, error) from error  # of scipy: the file ends too early
    except Exception as error:
        # What scipy and zlib say of damage has no common class: MatReadError, zlib.error, IndexError, TypeError, ..
        raise _damaged(path, error) from error
    net = content.get("net")
    return net.ravel()[0] if isinstance(net, np.ndarray) and net.size else content


def _damaged(path: Path, error: Exception) -> SettingsError:
    return SettingsError(f"{path} is no MATLAB file, or damaged or cut off, obtain it again: {error}")


def field_of(structure: Any, name: str) -> Any:
    """A field of a structure or a variable of the file; None where there is none or it is empty."""
    if isinstance(structure, dict):
        value = structure.get(name)
    else:
        value = structure[name] if structure.dtype.names and name in structure.dtype.names else None
    return None if value is None or value.size == 0 else value


def inner(structure: Any, name: str) -> Any:
    """The structure in a field."""
    value = field_of(structure, name)
    return None if value is None else value.ravel()[0]


def _text(value: Any) -> str:
    """A text; MATLAB has it as an array of one."""
    return "" if value is None else str(value.ravel()[0])


def _texts(value: Any) -> tuple[str, ...]:
    """Texts in cells, or one alone."""
    return tuple(_text(np.asarray(cell)) for cell in _cells(value))


def _cells(value: Any) -> list[Any]:
    return [] if value is None else list(value.ravel())


def _kind(text: str) -> str:
    word = text.removeprefix("dagnn.").lower()
    return _KINDS.get(word, word)


def _simple(layers: Any) -> list[MatLayer]:
    found = []
    for cell in _cells(layers):
        layer = cell.ravel()[0]
        values = _cells(field_of(layer, "weights")) or [field_of(layer, "filters"), field_of(layer, "biases")]
        name, kind = _text(field_of(layer, "name")), _kind(_text(field_of(layer, "type")))
        found.append(MatLayer(name, kind, (), (), tuple(values), layer))
    return found


def _dag(structure: Any, layers: Any) -> list[MatLayer]:
    values = {_text(field_of(p, "name")): field_of(p, "value") for p in _cells(field_of(structure, "params"))}
    return [
        MatLayer(
            name=_text(field_of(layer, "name")),
            kind=_kind(_text(field_of(layer, "type"))),
            inputs=_texts(field_of(layer, "inputs")),
            outputs=_texts(field_of(layer, "outputs")),
            values=tuple(values.get(name) for name in _texts(field_of(layer, "params"))),
            options=inner(layer, "block"),
        )
        for layer in _cells(layers)
    ]
