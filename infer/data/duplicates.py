"""Near-duplicates: pictures so similar that one in the train part reveals the other in the test part."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_SIDE, _WAVES, _BITS = 64, 16, 20
"""Pictures are hashed at 64 x 64 pixels with one bit for each of 16 x 16 waves; near-duplicates differ in 20 bits or
fewer. Of 1,800 pictures of steel, different ones differ in 26 bits or more, mostly in 128; a picture and its copy at
JPEG quality 60, or resized and back, differ in 18 or fewer in 19 of 20 cases."""

_MAX_COMPARED = 20_000
_ROWS = 500


def duplicate_groups(images: Tensor) -> Tensor:
    """Group near-duplicates by the perceptual hash of Zauner 2010.

    The hash has the signs of the lowest waves of the cosine transform about their median. Among more than 20,000
    pictures only equal hashes form a group, because comparing all pairs would take minutes.

    Args:
        images: uint8 [N, ch, H, W].

    Returns:
        Group number of each picture, int64 [N].
    """
    hashes = _hashes(images)
    if len(images) > _MAX_COMPARED:
        return torch.from_numpy(np.unique(hashes, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64))
    first, second = [], []
    for start in range(0, len(hashes), _ROWS):
        rows = hashes[start : start + _ROWS, None]
        distances = np.bitwise_count(rows ^ hashes[None, start:]).sum(axis=-1, dtype=np.uint16)
        pairs = np.nonzero(distances <= _BITS)
        first.append(pairs[0] + start)
        second.append(pairs[1] + start)
    pairs = (np.concatenate(first), np.concatenate(second))
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(pairs[0]), dtype=bool), pairs), shape=(len(hashes), len(hashes)))
    return torch.from_numpy(connected_components(graph, directed=False)[1].astype(np.int64))


def _hashes(images: Tensor) -> np.ndarray:
    """Compute the 256-bit hash of each picture: uint64 [N, 4]."""
    from scipy.fft import dctn

    hashes = []
    for batch in images.split(_ROWS):
        grey = F.interpolate(batch.float().mean(dim=1, keepdim=True), (_SIDE, _SIDE), mode="bilinear", antialias=True)
        waves = dctn(grey[:, 0].numpy(), axes=(1, 2))[:, :_WAVES, :_WAVES].reshape(len(batch), -1)
        bits = waves > np.median(waves, axis=1, keepdims=True)
        hashes.append(np.packbits(bits, axis=1).view(np.uint64))
    return np.concatenate(hashes)
