"""Near-duplicates: pictures so alike that one in the train part gives away the other in the test part."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

_SIDE, _WAVES, _BITS = 64, 16, 20
"""A picture is seen at 64 x 64; its hash has a bit for each of 16 x 16 waves. Of 1,800 pictures of steel different ones
differ in 26 bits or more, mostly in 128; from itself at JPEG quality 60, or resized and back, a picture differs in 18
or fewer 19 times in 20."""

_MOST = 20_000
_ROWS = 500


def groups(images: Tensor) -> Tensor:
    """A number for each of ``images`` uint8 [N, ch, H, W], the same for near-duplicates of one another: int64 [N].

    By the perceptual hash of Zauner 2010 (the signs of the lowest waves of the cosine transform, about their median).
    Of more than 20,000 pictures only those with the same hash count: all pairs would take minutes.
    """
    hashes = _hashes(images)
    if len(images) > _MOST:
        return torch.from_numpy(np.unique(hashes, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64))
    one, other = [], []
    for start in range(0, len(hashes), _ROWS):
        rows = hashes[start : start + _ROWS, None]
        apart = np.bitwise_count(rows ^ hashes[None, start:]).sum(axis=-1, dtype=np.uint16)
        pairs = np.nonzero(apart <= _BITS)
        one.append(pairs[0] + start)
        other.append(pairs[1] + start)
    pairs = (np.concatenate(one), np.concatenate(other))
    graph = coo_matrix((np.ones(len(pairs[0]), dtype=bool), pairs), shape=(len(hashes), len(hashes)))
    return torch.from_numpy(connected_components(graph, directed=False)[1].astype(np.int64))


def _hashes(images: Tensor) -> np.ndarray:
    """256 bits of each picture: uint64 [N, 4]."""
    found = []
    for some in images.split(_ROWS):
        grey = F.interpolate(some.float().mean(dim=1, keepdim=True), (_SIDE, _SIDE), mode="bilinear", antialias=True)
        waves = dctn(grey[:, 0].numpy(), axes=(1, 2))[:, :_WAVES, :_WAVES].reshape(len(some), -1)
        bits = waves > np.median(waves, axis=1, keepdims=True)
        found.append(np.packbits(bits, axis=1).view(np.uint64))
    return np.concatenate(found)
