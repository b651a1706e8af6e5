"""Copies to a device."""

from __future__ import annotations

import torch
from torch import Tensor


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor`` on ``device``.

    A copy to a GPU waits for nothing: it goes through pinned memory and takes its turn behind the work that the GPU has
    been given. From pageable memory, torch's copy would wait until the GPU has done all of that.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
