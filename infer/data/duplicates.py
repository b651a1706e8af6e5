"""Near-duplicates: pictures so similar that one in the train part reveals the other in the test part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from infer.data.pictures import Pictures

_SIDE, _WAVES, _BITS = 64, 16, 20
"""Pictures are hashed at 64 x 64 pixels with one bit for each of 16 x 16 waves; near-duplicates differ in 20 bits or
fewer. Of 1,800 pictures of steel, different ones differ in 26 bits or more, mostly in 128; a picture and its copy at
JPEG quality 60, or resized and back, differ in 18 or fewer in 19 of 20 cases."""

_FIELDS, _LEVELS = 4, 12
"""The means of 4 x 4 fields of a picture differ by 12 of 255 levels at most, in each channel."""

_ROWS, _PAIRS = 500, 5_000_000
_NEIGHBOURS = 500
"""A picture is compared with at most so many others that share a part of its hash, those of the next brightness."""


def duplicate_groups(images: Tensor) -> Tensor:
    """Group near-duplicates by the perceptual hash of Zauner 2010, and by colours.

    The hash has the signs of the lowest waves of the cosine transform of the grey picture about their median. It
    does not know colours, nor how bright a flat picture is, so the colours of 16 fields have to be alike too.

    Args:
        images: uint8 [N, ch, H, W].

    Returns:
        Group number of each picture, int64 [N].
    """
    hashes, levels = _features(images)
    groups = np.arange(len(images))
    edges: list[tuple[np.ndarray, np.ndarray]] = []
    for pairs in _near_pairs(hashes, levels):
        edges.append(pairs)
        if sum(len(one) for one, _ in edges) > _PAIRS:  # many pairs of few pictures, as of the frames of a film
            groups, edges = _joined(groups, edges), []
    return torch.from_numpy(_joined(groups, edges).astype(np.int64))


def label_conflicts(parts: Sequence[Pictures]) -> list[list[tuple[int, int]]]:
    """Find equal pictures with different labels.

    Returns:
        Of each such picture, two places with different labels: the number of the part, and the position in it.
    """
    first: dict[bytes, tuple[int, int]] = {}
    conflicts: dict[bytes, list[tuple[int, int]]] = {}
    labels = [own.targets.tolist() for own in parts]
    for number, own in enumerate(parts):
        for position, image in enumerate(own.images.numpy()):
            content = blake2b(image.data, digest_size=16).digest()
            part, at = first.setdefault(content, (number, position))
            if labels[part][at] != labels[number][position]:
                conflicts.setdefault(content, [(part, at), (number, position)])
    return list(conflicts.values())


def _joined(groups: np.ndarray, edges: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Join the ``groups`` [N] whose pictures the ``edges`` connect."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not edges:
        return groups
    one, other = (groups[np.concatenate(side)] for side in zip(*edges, strict=True))
    graph = coo_matrix((np.ones(len(one), dtype=bool), (one, other)), shape=(len(groups), len(groups)))
    return connected_components(graph, directed=False)[1][groups]


def _near_pairs(hashes: np.ndarray, levels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the positions of near-duplicates, pair by pair, without comparing all pairs (Norouzi et al. 2012).

    Of 21 parts of a hash, two hashes that differ in 20 bits have one part in common: only pictures with an equal part
    are compared, in the order of their brightness. A pair may come several times.
    """
    bits, brightness = np.unpackbits(hashes.view(np.uint8), axis=1), levels.mean(axis=1)
    for number in range(_BITS + 1):
        part = bits[:, number :: _BITS + 1]  # waves of all lengths: the long ones alone are alike in many pictures
        keys = part @ (1 << np.arange(part.shape[1]))
        order = np.lexsort((brightness, keys))
        keys, first = keys[order], np.arange(len(order))
        for step in range(1, _NEIGHBOURS + 1):
            first = first[: np.searchsorted(first, len(order) - step)]
            first = first[keys[first] == keys[first + step]]
            if not len(first):
                break
            one, other = order[first], order[first + step]
            distances = np.bitwise_count(hashes[one] ^ hashes[other]).sum(axis=1, dtype=np.uint16)
            one, other = one[distances <= _BITS], other[distances <= _BITS]
            alike = np.abs(levels[one] - levels[other]).max(axis=1, initial=0) <= _LEVELS
            yield one[alike], other[alike]


def _features(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Compute the 256-bit hash, uint64 [N, 4], and the means of the fields, float32 [N, ch * 16], of each picture."""
    from scipy.fft import dctn

    hashes, levels = [], []
    for batch in images.split(_ROWS):
        pixels = batch.float()
        grey = F.interpolate(pixels.mean(dim=1, keepdim=True), (_SIDE, _SIDE), mode="bilinear", antialias=True)
        waves = dctn(grey[:, 0].numpy(), axes=(1, 2))[:, :_WAVES, :_WAVES].reshape(len(batch), -1)
        bits = waves > np.median(waves, axis=1, keepdims=True)
        hashes.append(np.packbits(bits, axis=1).view(np.uint64))
        levels.append(F.adaptive_avg_pool2d(pixels, _FIELDS).flatten(1).numpy())
    return np.concatenate(hashes), np.concatenate(levels)
