"""Labels of mixed views as a file has them: whole shares of a row's largest entry, packed or compressed."""

from __future__ import annotations

import lzma
from typing import NamedTuple

import torch
from torch import Tensor

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 2**23, "pb": 0}]
"""Rows of labels have no length of a power of two, which ``pb`` is for. The dictionary is what a reader allocates."""


class LabelCode(NamedTuple):
    """How a label of a mixed view becomes bytes.

    Args:
        classes: C.
        bits: bits of an entry: 2, 4 or 8; the largest entry becomes ``2**bits - 1``.
        coding: ``"none"``: every entry takes its bits; ``"lzma"``: all entries, one a byte, as raw LZMA2.
    """

    classes: int
    bits: int = 8
    coding: str = "none"

    def pack(self, labels: Tensor) -> Tensor:
        """Return the labels uint8 [V, C] of :func:`quantise_labels` as a file has them, uint8."""
        if self.coding == "lzma":
            coded = lzma.compress(labels.cpu().numpy().tobytes(), lzma.FORMAT_RAW, filters=_FILTERS)
            return torch.frombuffer(bytearray(coded), dtype=torch.uint8)
        return labels if self.bits == 8 else _packed(labels.cpu().long().flatten(), self.bits)

    def unpack(self, stored: Tensor, count: int) -> Tensor:
        """Return the labels, uint8 [V, C], of ``count`` views from the tensor of :meth:`pack`.

        Raises:
            ValueError: where compressed labels are broken or more or fewer than ``count``.
        """
        if self.coding == "lzma":
            return _decompressed(stored, count * self.classes).view(count, self.classes)
        if self.bits == 8:
            return stored
        return _unpacked(stored, self.bits)[: count * self.classes].view(count, self.classes).to(torch.uint8)

    def packed_bytes(self, count: int) -> int:
        """Return the bytes of the labels of ``count`` views that are not compressed."""
        return -(-count * self.classes * self.bits // 8)


def _decompressed(stored: Tensor, size: int) -> Tensor:
    """Return ``size`` bytes, uint8, from compressed ones, of which no more are decompressed than were expected."""
    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    try:
        found = decoder.decompress(stored.numpy().tobytes(), max_length=size + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(str(error)) from error
    if len(found) != size:
        more = "more" if len(found) > size else f"{len(found):,}"
        raise ValueError(f"{more} entries where {size:,} are expected")
    return torch.frombuffer(bytearray(found), dtype=torch.uint8)


def quantise_labels(labels: Tensor, bits: int = 8) -> Tensor:
    """Quantise probabilities to whole shares of the largest entry of each label.

    Args:
        labels: probabilities, float [V, C].
        bits: bits of an entry: the largest becomes ``2**bits - 1``.

    Returns:
        The stored labels, uint8 [V, C].
    """
    return (labels * ((2**bits - 1) / labels.amax(dim=1, keepdim=True))).round().to(torch.uint8)


def dequantise_labels(stored: Tensor) -> Tensor:
    """Return probabilities float32 [V, C] that sum to one from the stored labels, uint8 [V, C]."""
    shares = stored.float()
    return shares / shares.sum(dim=1, keepdim=True)


def choice_bits(candidates: int) -> int:
    """Return the bits that store a choice among 1 to 256 ``candidates``: 0, 1, 2, 4 or 8, so that they fill bytes."""
    return next(size for size in (0, 1, 2, 4, 8) if candidates <= 2**size)


def choice_bytes(views: int, candidates: int) -> int:
    """Return the bytes of the choices of ``views`` mixed views among ``candidates``."""
    return -(-views * choice_bits(candidates) // 8)


def pack_choices(choices: Tensor, candidates: int) -> Tensor:
    """Pack choices, int64 [V], among 2 to 256 ``candidates`` into bytes, uint8 [ceil(V * bits / 8)]."""
    return _packed(choices, choice_bits(candidates))


def unpack_choices(packed: Tensor, count: int, candidates: int) -> Tensor:
    """Return the first ``count`` choices, int64 [V], from the bytes of :func:`pack_choices`."""
    return _unpacked(packed, choice_bits(candidates))[:count]


def _packed(numbers: Tensor, bits: int) -> Tensor:
    """Pack numbers, int64 [N], of ``bits`` each, which divide 8, into bytes, uint8 [ceil(N * bits / 8)]."""
    lanes = 8 // bits
    padded = torch.nn.functional.pad(numbers, (0, -len(numbers) % lanes)).view(-1, lanes)
    return (padded << (bits * torch.arange(lanes))).sum(dim=1).to(torch.uint8)


def _unpacked(packed: Tensor, bits: int) -> Tensor:
    """Return all numbers, int64, of ``bits`` each from the bytes of :func:`_packed`, those of the padding too."""
    shifts = bits * torch.arange(8 // bits)
    return ((packed.long()[:, None] >> shifts) & (2**bits - 1)).view(-1)
