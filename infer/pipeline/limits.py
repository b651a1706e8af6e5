"""What a set may ask of its data: no more images than there are, no more mixed views than its students need, and no
more than a file can hold.
"""

from __future__ import annotations

import math

from infer.core.budget import Split, infer_split, natural_split
from infer.core.errors import UserError
from infer.core.label_code import LabelCode, choice_bytes
from infer.core.mixed_views import MOST_CANDIDATES
from infer.data import Splits
from infer.distilled.header import MOST_CLASSES
from infer.methods.options import method_options
from infer.pipeline.set_options import SetOptions


def split_by_images(options: SetOptions, classes: int, teachers: int) -> Split:
    """Return the split of a budget that counts images."""
    if options.method.has_compensators:
        return infer_split(options.ipc, classes, teachers, options.budget.fill)
    return natural_split(options.ipc * classes, classes)


def label_room(options: SetOptions, data: Splits) -> float:
    """Return the bytes that ``labels.share`` gives to the labels of mixed views."""
    return options.labels.share * options.file_bytes(len(data.classes), math.prod(data.train.shape))


def asked_views(options: SetOptions, data: Splits) -> int:
    """Return the number of mixed views that ``labels.share`` asks for: ``labels.bits`` for each class."""
    return max(1, round(label_room(options, data) * 8 / options.labels.bits / len(data.classes)))


_LOOKS = 25
"""Times that a student sees each of the mixed views of ``labels.views=auto``: twice as many views brought nothing."""


def stored_views(options: SetOptions, data: Splits, teachers: int) -> int:
    """Return the number of mixed views of a set: those that are asked for, at most one for each image of each step.

    Of compressed labels it is the most that there can be; how many fit is known once the teachers have labelled some.
    """
    seen = options.student.steps_at(options.ipc, len(data.classes), teachers, dynamic=False) * options.student.batch
    most = math.ceil(seen / _LOOKS) if options.labels.views == "auto" else options.labels.views or seen
    asked = asked_views(options, data) if options.labels.coding == "none" else seen
    return min(asked, seen, int(most))


def view_bytes(options: SetOptions, data: Splits, views: int) -> int:
    """Return the bytes of the labels of all mixed views and of the choices among their candidates.

    Compressed ones take what ``labels.share`` gives to them, or less.
    """
    labels = options.labels
    if labels.kind != "views":
        return 0
    taken = LabelCode(len(data.classes), labels.bits).packed_bytes(views) + choice_bytes(views, labels.candidates)
    return taken if labels.coding == "none" else min(taken, math.ceil(label_room(options, data)))


def require_possible(options: SetOptions, data: Splits, teachers: int) -> None:
    """Check, before anything is trained, that ``data`` have enough for the set.

    Every method and every budget has the same limit: ipc images of every class are no more than the train pictures.

    Args:
        options: of the set.
        data: whose train pictures it is made from.
        teachers: M.

    Raises:
        UserError: for a budget beyond the data or too small to split, for labels larger than the file, for method
            options that do not fit the images, and for what a reader would refuse in the file.
    """
    classes, pictures = len(data.classes), len(data.train)
    if classes > MOST_CLASSES:
        raise UserError(
            f"dataset: has {classes:,} classes, a distilled file holds at most {MOST_CLASSES:,}; leave some out"
        )
    if options.budget.bytes is None and options.ipc * classes > pictures:
        largest = pictures // classes
        cure = f"the largest possible is ipc={largest}" if largest else "add some"
        raise UserError(
            f"ipc={options.ipc}: asks for {options.ipc * classes:,} images, {options.ipc} of each of {classes} "
            f"classes, but there are {pictures:,} train pictures; {cure}"
        )
    if options.budget.by == "images":
        split_by_images(options, classes, teachers)
    else:
        _require_room(options, data, teachers)
    if options.labels.kind == "views":
        _require_readable_views(options, data, teachers)
    chosen = method_options(options.method.name, options.method.options)
    if hasattr(chosen, "check_images"):
        chosen.check_images(data.side)


def _require_room(options: SetOptions, data: Splits, teachers: int) -> None:
    """Raise :class:`UserError` where the labels of mixed views alone take all bytes of the file."""
    classes, views = len(data.classes), stored_views(options, data, teachers)
    room = options.file_bytes(classes, math.prod(data.train.shape))
    taken = view_bytes(options, data, views)
    if taken >= room:
        raise UserError(
            f"labels.share={options.labels.share}: the labels of {views:,} mixed views take {taken:,} of the {room:,} "
            f"bytes of {options.size_key}, and leave none to images; choose a smaller labels.share"
        )


def _require_readable_views(options: SetOptions, data: Splits, teachers: int) -> None:
    """Raise :class:`UserError` for mixed views that a reader refuses; :mod:`infer.distilled.tensors` has its limits."""
    crop, candidates = options.augment.crop, options.labels.candidates
    if crop > data.side:
        raise UserError(
            f"augment.crop={crop}: a file of mixed views holds at most the side of its images, {data.side} pixels; "
            f"choose {data.side} or less"
        )
    views = stored_views(options, data, teachers)
    if views * candidates > MOST_CANDIDATES:
        raise UserError(
            f"labels.candidates={candidates}: {views:,} mixed views have {views * candidates:,} candidates in all, a "
            f"file may have {MOST_CANDIDATES:,}; choose fewer candidates or a smaller labels.share"
        )
