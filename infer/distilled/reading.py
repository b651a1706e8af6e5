"""Reading of distilled files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from infer.core import codec
from infer.core.checks import Range, check_value
from infer.core.errors import UserError
from infer.core.label_code import unpack_choices
from infer.core.mixed_views import MixedViews
from infer.core.paths import user_path
from infer.distilled.artifacts import SCHEME, fetch
from infer.distilled.composing import composed_count
from infer.distilled.dataset import DistilledSet
from infer.distilled.header import Header, read_header
from infer.distilled.limits import check_memory, memory_needed
from infer.distilled.tensors import Layout, check_labels, check_layouts, check_targets

_LONGEST_HEADER = 2**24
"""Bytes of the names, shapes and metadata of a safetensors file that are parsed."""


def load(
    path: str | Path, transform: Callable[[Tensor], Any] | None = None, max_bytes: int | None = None
) -> DistilledSet:
    """Read a distilled file.

    The file may come from anywhere: the header, the types and shapes of the tensors and the memory that the set takes
    are checked before any image is decoded. Files of format version 1 and 2 are read.

    Args:
        path: a file (``~`` is the home folder), or a published one as
            ``wandb:<entity>/<project>/<artifact>:<version>``.
        transform: function applied to each image, uint8 [ch, H, W], when the set is indexed.
        max_bytes: bytes of memory that the set may take; None is 4 GiB, or 32 times the size of the file where that
            is more.

    Returns:
        The set, a PyTorch dataset of (image uint8 [ch, H, W], label float32 [C]).

    Raises:
        UserError: if the file is missing, truncated, foreign, inconsistent, of a newer format version or too large.

    Example:
        >>> import tempfile, torch
        >>> from infer.distilled import DistilledSet, Header, load
        >>> header = Header(["cat", "dog"], [0.5], [0.25], "hard", "probabilities", 1.0, compensators_per_round=0)
        >>> naturals, none = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.empty(0, 1, 4, 4, dtype=torch.int8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = DistilledSet(naturals, torch.tensor([0, 1]), none, None, header).save(f"{folder}/d.safetensors")
        ...     dataset = load(f"{folder}/d.safetensors", transform=lambda image: image.flip(-1))
        >>> len(dataset), dataset.targets.tolist()
        (2, [0, 1])
    """
    max_bytes = check_value("max_bytes", max_bytes, Annotated[int | None, Range(0, 2**63)])
    file = fetch(str(path)) if str(path).startswith(SCHEME) else user_path(path)
    if not file.is_file():
        raise UserError(f"{file}: no such distilled file; write one with infer.distill or the command infer-distill")
    header, tensors = _read(file, max_bytes)
    if "labels" in tensors:
        check_labels(file, header, tensors["labels"])
    return _decoded(file, header, tensors, transform)


def _read(file: Path, max_bytes: int | None) -> tuple[Header, dict[str, Tensor]]:
    """Read the header and, once both and the memory they imply are checked, the tensors."""
    try:
        with file.open("rb") as opened:
            if (size := int.from_bytes(opened.read(8), "little")) > _LONGEST_HEADER:
                raise SafetensorError(f"a header of {size:,} bytes")
        with safe_open(file, framework="pt") as content:
            header = read_header(file, (content.metadata() or {}).get("infer"))
            slices = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118
            layouts = {name: Layout(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
            check_layouts(file, header, layouts)
            check_memory(file, memory_needed(header, layouts, composed=0), max_bytes)
            targets = content.get_tensor("targets").to(torch.int64, copy=True)
            composed = _composed(file, header, layouts, targets)
            check_memory(file, memory_needed(header, layouts, composed), max_bytes)
            # Copies: safetensors maps the file, and a file that is changed later would change the set.
            tensors = {name: content.get_tensor(name).clone() for name in slices} | {"targets": targets}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a whole distilled file ({error}); copy it again or distil again") from error
    if views := header.mixed_views:
        try:
            tensors["labels"] = header.label_code.unpack(tensors["labels"], views.count)
        except ValueError as error:
            raise UserError(f"{file}: tensor labels: {error}; copy it again or distil again") from error
    return header, tensors


def _composed(file: Path, header: Header, layouts: dict[str, Layout], targets: Tensor) -> int:
    """Return the number of composed images, once the labels or the mixed views are known to fit it."""
    check_targets(file, header, targets)
    composed = composed_count(targets, layouts["compensators"].sizes[0], header.compensators_per_round)
    pool = len(targets) + composed
    if header.mixed_views and header.mixed_views.pool != pool:
        raise UserError(f"{file}: header field views.pool={header.mixed_views.pool}, but it holds {pool} images")
    if header.labels == "static" and layouts["labels"].sizes[0] != pool:
        raise UserError(f"{file}: {layouts['labels'].shape[0]} labels for {pool} images")
    return composed


def _decoded(
    file: Path, header: Header, tensors: dict[str, Tensor], transform: Callable[[Tensor], Any] | None
) -> DistilledSet:
    """Build the set: decompress the natural images and unpack the choices."""
    targets, compensators = tensors["targets"], tensors["compensators"]
    coded: tuple[bytes, ...] = ()
    if header.sheets:
        coded = tuple(sheet.numpy().tobytes() for sheet in tensors["sheets"].split(header.sheets))
        channels, height, width = compensators.shape[1:]
        try:
            naturals = codec.decode(coded, len(targets), (channels, height, width))
        except ValueError as error:
            raise UserError(
                f"{file}: its naturals cannot be decoded ({error}); copy it again or distil again"
            ) from error
    else:
        naturals = tensors["naturals"]
    choices = None
    if header.mixed_views and "choices" in tensors:
        choices = _choices(file, header.mixed_views, tensors["choices"])
    return DistilledSet(naturals, targets, compensators, tensors.get("labels"), header, coded, choices, transform)


def _choices(file: Path, views: MixedViews, packed: Tensor) -> Tensor:
    choices = unpack_choices(packed, views.count, views.candidates)
    if int(choices.max()) >= views.candidates:
        raise UserError(
            f"{file}: tensor choices has number {int(choices.max())}, there are {views.candidates} candidates"
        )
    return choices
