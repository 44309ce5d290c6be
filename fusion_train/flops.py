"""Floating point operations of training, and what devices can do at most: for model FLOPs utilisation (MFU).

MFU (Chowdhery et al., PaLM, 2022) is what the network's own operations take of a device's peak. Operations are counted
by PyTorch's counter on a network without memory, forward and backward, so frozen layers count once and a multiplication
with its addition as two; only convolutions and matrix products count. A peak is the vendor's figure without sparsity.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

from fusion_train.config import FusionSettings
from fusion_train.models.build import new_network

PEAK_TFLOPS: Mapping[str, Mapping[str, float]] = {
    "B200": {"bfloat16": 2250, "float32": 1125},
    "H200": {"bfloat16": 989.4, "float32": 494.7},
    "H100 PCIe": {"bfloat16": 756, "float32": 378},
    "H100 NVL": {"bfloat16": 835, "float32": 417.5},
    "H100": {"bfloat16": 989.4, "float32": 494.7},
    "A100": {"bfloat16": 312, "float32": 156},
    "A40": {"bfloat16": 149.7, "float32": 74.8},
    "A30": {"bfloat16": 165, "float32": 82},
    "L40S": {"bfloat16": 362, "float32": 183},
    "L4": {"bfloat16": 121, "float32": 60},
    "RTX 4090": {"bfloat16": 165.2, "float32": 82.6},
    "RTX 3090": {"bfloat16": 71, "float32": 35.6},
}
"""By a part of the device's name and by precision; float32 is TF32's, in which cuDNN convolves by default."""


def training_flops(settings: FusionSettings, num_classes: int) -> int:
    """Operations of one clip in one step, forward and backward."""
    data = settings.data
    shape = 1, data.num_chunks, data.crop_size, data.crop_size
    with torch.device("meta"):
        network = new_network(settings.model, num_classes=num_classes).train()
        rgb, flow = (
            torch.empty(*shape[:2], channels, *shape[2:]) if stream in network.streams else None
            for stream, channels in (("spatial", 3), ("temporal", 2 * data.stack_length))
        )
        with FlopCounterMode(display=False) as counter:
            logits = network.frame_logits(rgb, flow)
            torch.stack([scores.sum() for scores in logits.values()]).sum().backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Operations a second that a device can do at most, or None where that is not known."""
    if device.type != "cuda":
        return None
    words = torch.cuda.get_device_name(device).replace("-", " ")
    for name, peaks in PEAK_TFLOPS.items():
        if f" {name} " in f" {words} ":
            return peaks[precision] * 1e12
    return None
