"""Near-duplicates: pictures so similar that one in the train part reveals the other in the test part."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

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

_PARTS = 11
"""Parts of a hash. Of hashes that differ in 20 bits, one part differs in a single bit or in none."""

_ROWS, _NEIGHBOURS = 500, 20
"""Pictures that are hashed at once, and those that one picture is compared with at most for each bit of its hash."""


class _Features(NamedTuple):
    """What pictures are compared by.

    Args:
        hashes: 256 bits of each picture, uint64 [N, 4].
        levels: means of its fields, float32 [N, ch * 16].
    """

    hashes: np.ndarray
    levels: np.ndarray


def duplicate_groups(images: Tensor) -> Tensor:
    """Group near-duplicates by the perceptual hash of Zauner 2010, and by colours.

    The hash has the signs of the lowest waves of the cosine transform of the grey picture about their median. It
    does not know colours, nor how bright a flat picture is, so the colours of 16 fields have to be alike too.

    Args:
        images: uint8 [N, ch, H, W].

    Returns:
        Group number of each picture, int64 [N].
    """
    found = _features(images)
    bits = np.unpackbits(found.hashes.view(np.uint8), axis=1)
    parts = [bits[:, number::_PARTS] for number in range(_PARTS)]  # each of waves of all lengths
    keys = [part @ (1 << np.arange(part.shape[1], dtype=np.int32)) for part in parts]
    groups = np.arange(len(images))
    fields = found.levels.shape[1]
    for field in range(fields):
        order = found.levels[:, field].argsort(kind="stable").astype(np.int32)
        for bit in range(field, bits.shape[1], fields):
            groups = _join_near(keys[bit % _PARTS] & ~(1 << bit // _PARTS), field, order, found, groups)
    return torch.from_numpy(groups)


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


def _join_near(keys: np.ndarray, field: int, order: np.ndarray, found: _Features, groups: np.ndarray) -> np.ndarray:
    """Join the groups of near-duplicates that share a key, without comparing all pairs (Norouzi et al. 2012).

    Pictures of one group are not compared, so that a thousand alike ones take about a thousand comparisons.

    Args:
        keys: part of the hash of each picture, int32 [N].
        field: number of the field by whose level the pictures of a key are ordered: each is compared with the next.
        order: all pictures in the order of that level, int32 [N].
        found: what they are compared by.
        groups: group number of each picture, int64 [N].

    Returns:
        The groups after joining, int64 [N].
    """
    ranked = np.sort(keys[order].astype(np.int64) << 32 | np.arange(len(order)))  # by key, then by order
    keys, shared = (ranked >> 32).astype(np.int32), np.zeros(len(order), dtype=bool)
    shared[1:] = keys[1:] == keys[:-1]
    shared[:-1] |= shared[1:]
    keys, order = np.append(keys[shared], -1), order[ranked[shared] & (2**32 - 1)]
    own = np.append(groups[order], -1)
    ends = _run_ends(own, keys)
    first = np.flatnonzero(keys[ends[:-1]] == keys[:-1])  # those before a picture of another group
    other = ends[first]
    if not len(first):
        return groups
    level = np.append(found.levels[order, field], np.inf)
    while len(first):
        inside = (keys[other] == keys[first]) & (other - first <= _NEIGHBOURS)
        inside &= level[other] - level[first] <= _LEVELS
        first, other = first[inside], other[inside]
        near = _near(found, order[first], order[other])
        if near.any():
            groups = _joined(groups, order[first[near]], order[other[near]])
            own[:-1] = groups[order]
            ends = _run_ends(own, keys)
        other = other + 1
        other = np.where(own[other] == own[first], ends[other], other)
    return groups


def _run_ends(groups: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return for each position the next one with another group or another key, int64 [N]; N where there is none."""
    starts = np.flatnonzero((groups[1:] != groups[:-1]) | (keys[1:] != keys[:-1])) + 1
    return np.append(starts, len(keys)).repeat(np.diff(starts, prepend=0, append=len(keys)))


def _near(found: _Features, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return which of the pairs ``one`` and ``other``, positions int64 [P], are near-duplicates, bool [P]."""
    hashes, levels = found
    near = np.bitwise_count(hashes[one] ^ hashes[other]).sum(axis=1, dtype=np.uint16) <= _BITS
    near[near] = np.abs(levels[one[near]] - levels[other[near]]).max(axis=1, initial=0) <= _LEVELS
    return near


def _joined(groups: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Join the groups of each picture of ``one`` and its partner of ``other``, positions int64 [P]."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    numbers, edges = np.unique(groups[np.concatenate([one, other])], return_inverse=True)
    graph = coo_matrix((np.ones(len(one), dtype=bool), np.split(edges, 2)), shape=(len(numbers), len(numbers)))
    _, component = connected_components(graph, directed=False)
    _, lowest = np.unique(component, return_index=True)
    renumbered = np.arange(len(groups))
    renumbered[numbers] = numbers[lowest[component]]
    return renumbered[groups]


def _features(images: Tensor) -> _Features:
    """Compute what ``images`` uint8 [N, ch, H, W] are compared by."""
    from scipy.fft import dctn

    # Whole arrays: small ones between the large ones of each batch would keep the memory from being used again.
    count, fields = len(images), images.shape[1] * _FIELDS**2
    found = _Features(np.empty((count, _WAVES**2 // 64), np.uint64), np.empty((count, fields), np.float32))
    for start in range(0, count, _ROWS):
        rows, pixels = slice(start, start + _ROWS), images[start : start + _ROWS].float()
        grey = F.interpolate(pixels.mean(dim=1, keepdim=True), (_SIDE, _SIDE), mode="bilinear", antialias=True)
        waves = dctn(grey[:, 0].numpy(), axes=(1, 2))[:, :_WAVES, :_WAVES].reshape(len(pixels), -1)
        bits = waves > np.median(waves, axis=1, keepdims=True)
        found.hashes[rows] = np.packbits(bits, axis=1).view(np.uint64)
        found.levels[rows] = F.adaptive_avg_pool2d(pixels, _FIELDS).flatten(1).numpy()
    return found
