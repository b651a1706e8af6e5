"""The natural images that fit into a number of bytes together with their compensators and labels."""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from dataclasses import dataclass

import torch

from infer.core.budget import Split
from infer.core.errors import UserError
from infer.distilled.tensors import target_dtype
from infer.methods.options import METHODS
from infer.methods.proxy import ProxyModel
from infer.methods.selection import Naturals
from infer.pipeline.labelling import Labeller
from infer.pipeline.limits import view_bytes
from infer.pipeline.naturals import Compressed, NaturalsSource
from infer.pipeline.set_options import SetOptions

log = logging.getLogger("infer")

_ATTEMPTS = 16
_FULL = 0.99
"""Share of the bytes from which on a file counts as filled."""
_SPARE = 1.1
"""Natural images that are selected for each one that is expected to fit."""
_CERTAIN = 0.5
"""Share of the bytes of one compressed blank image below which no file of the codec is: its fixed parts take more."""


class CountSearch:
    """Search for the largest count that fits: extrapolation while it stays within what is known, else bisection.

    The size of compressed images jumps from count to count, so extrapolation may not end.
    """

    def __init__(self, count: int, most: int) -> None:
        self.count, self.most = count, most
        self.fits, self.fails = 0, most + 1

    def narrow(self, size: int, room: int) -> bool:
        """Take in the ``size`` of the present count and choose the next; return whether there is one to try."""
        if size <= room:
            self.fits = self.count
        else:
            self.fails = self.count
        guess = min(self.most, int(self.count * room / size * (0.998 if size > room else 1)))
        self.count = guess if self.fits < guess < self.fails else (self.fits + self.fails) // 2
        return self.count > self.fits


@dataclass(frozen=True)
class ByteBudget:
    """Fills a number of bytes with natural images, their compensators and their labels.

    Args:
        source: selects and compresses images.
        labeller: whose labels take room.
        options: of the set.
        teachers: M, the compensators of a round, where the method has compensators.
    """

    source: NaturalsSource
    labeller: Labeller
    options: SetOptions
    teachers: int

    @property
    def _classes(self) -> int:
        return len(self.source.context.data.classes)

    @property
    def _view_bytes(self) -> int:
        return view_bytes(self.options, self.source.context.data, self.labeller.view_count)

    @property
    def _per_round(self) -> int:
        return self.teachers if self.options.method.has_compensators else 0

    def require_room(self, room: int, least: int) -> None:
        """Check, before anything is trained, that ``room`` bytes may hold ``least`` natural images.

        The size of compressed images is not known yet: together they count as less than the smallest file of the codec,
        so that nothing is refused which :meth:`fill` would find.

        Raises:
            UserError: where it is certain that fewer fit.
        """
        shape, free = self.source.context.data.train.shape, room - self._view_bytes
        blank = self.source.compress(Naturals(torch.zeros(1, *shape, dtype=torch.uint8), torch.zeros(1).long()))
        each, once = (0, int(_CERTAIN * blank.nbytes)) if blank.sheets else (blank.nbytes, 0)
        sizes = [once + each * count + self._beside(count) for count in range(1, least + 1)]
        if sizes[-1] > free:
            raise self._too_few(f"at most {bisect_right(sizes, free)}", least)

    def fill(self, room: int, least: int, proxy: ProxyModel | None = None) -> tuple[Compressed, Split]:
        """Return the natural images that fit into ``room`` bytes, at most all pictures, and the split.

        ``proxy`` is the proxy model of methods that use one.

        Raises:
            UserError: where they are fewer than ``least``.
        """
        classes = self._classes
        found = self._search(room - self._view_bytes, proxy)
        count = len(found.targets) if found else 0
        if found is None or count < least:
            raise self._too_few(str(count), least)
        self._tell_of_rest(found, room)
        rounds = count // classes if self._per_round else 0
        return found, Split(classes, rounds, self._per_round, count - rounds * classes)

    def _too_few(self, count: str, least: int) -> UserError:
        of = f"fewer than the {least} classes" if least == self._classes else f"fewer than {least}"
        smaller = " or a smaller labels.share" if self.options.labels.kind == "views" else ""
        return UserError(
            f"{self.options.size_key}: {count} naturals fit beside the header and the labels, {of}; choose a larger "
            f"{self.options.size_key.partition('=')[0]}{smaller}"
        )

    def _tell_of_rest(self, found: Compressed, room: int) -> None:
        """Log that the budget holds more than the data have."""
        count = len(found.targets)
        used = found.nbytes + self._beside(count) + self._view_bytes
        if count == len(self.source.context.data.train) and used < _FULL * room:
            method = self.options.method.name
            held = "as many images as there are train pictures" if METHODS[method].creates else "every train picture"
            log.info(
                "%s, method=%s: %s bytes asked, %s used: the file holds %s (%s)",
                self.options.size_key,
                method,
                f"{room:,}",
                f"{used:,}",
                held,
                f"{count:,}",
            )

    def _beside(self, count: int) -> int:
        """Return the bytes that belong to ``count`` natural images: compensators, class numbers, labels of images."""
        data, classes = self.source.context.data, self._classes
        rounds = count // classes * self._per_round
        soft = 2 * classes * (count + rounds * classes) if self.options.labels.kind == "static" else 0
        return rounds * math.prod(data.train.shape) + target_dtype(classes).itemsize * count + soft

    def _search(self, room: int, proxy: ProxyModel | None) -> Compressed | None:
        source, method = self.source, self.options.method
        pictures, expected = len(source.context.data.train), source.bytes_an_image()
        counts = range(1, pictures + 1)
        most = max(1, bisect_right(counts, room, key=lambda count: self._beside(count) + math.ceil(expected * count)))
        naturals = source.select(method, min(pictures, math.ceil(_SPARE * most)), proxy)
        search, best = CountSearch(most, pictures), None
        for _ in range(_ATTEMPTS):
            tried = source.compress(naturals.first(search.count))
            size = self._beside(search.count) + tried.nbytes
            if size <= room:
                best = tried
                if size > _FULL * room or not tried.sheets:
                    break
            if not search.narrow(size, room):
                break
            if search.count > len(naturals.targets):  # this method's images compress better than random ones
                naturals = source.select(method, min(pictures, math.ceil(_SPARE * search.count)), proxy)
        return best
