"""Reading of distilled files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Size, Tensor

from infer.core import codec
from infer.core.errors import UserError
from infer.core.mixed_views import unpack_choices
from infer.distilled.artifacts import SCHEME, fetch
from infer.distilled.dataset import DistilledSet
from infer.distilled.header import Header, read_header
from infer.distilled.tensors import Layout, check_layouts, check_values


def load(path: str | Path, transform: Callable[[Tensor], Any] | None = None) -> DistilledSet:
    """Read a distilled file.

    The header and the types and shapes of the tensors are checked before any tensor is read. Files of format version 1
    and 2 are read.

    Args:
        path: a file, or a published one as ``wandb:<entity>/<project>/<artifact>:<version>``.
        transform: function applied to each image, uint8 [ch, H, W], when the set is indexed.

    Returns:
        The set, a PyTorch dataset of (image uint8 [ch, H, W], label float32 [C]).

    Raises:
        UserError: if the file is missing, truncated, foreign, inconsistent or of a newer format version.

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
    file = fetch(str(path)) if str(path).startswith(SCHEME) else Path(path)
    if not file.is_file():
        raise UserError(f"{file}: no such distilled file; write one with infer.distill or the command infer-distill")
    header, tensors = _read(file)
    check_values(file, header, tensors)
    distilled = _decoded(file, header, tensors, transform)
    if header.views and header.views["pool"] != distilled.pool:
        raise UserError(f"{file}: header field views.pool={header.views['pool']}, but it holds {distilled.pool} images")
    if distilled.labels is not None and len(distilled.labels) != len(distilled):
        raise UserError(f"{file}: {len(distilled.labels)} labels for {len(distilled)} images")
    return distilled


def _read(file: Path) -> tuple[Header, dict[str, Tensor]]:
    """Read the header and, once both are checked, the tensors."""
    try:
        with safe_open(file, framework="pt") as content:
            header = read_header(file, (content.metadata() or {}).get("infer"))
            slices = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118
            layouts = {name: Layout(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
            check_layouts(file, header, layouts)
            return header, {name: content.get_tensor(name) for name in slices}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a whole distilled file ({error}); copy it again or distil again") from error


def _decoded(
    file: Path, header: Header, tensors: dict[str, Tensor], transform: Callable[[Tensor], Any] | None
) -> DistilledSet:
    """Build the set: decompress the natural images and unpack the choices."""
    targets, compensators = tensors["targets"].long(), tensors["compensators"]
    coded: tuple[bytes, ...] = ()
    if header.sheets:
        coded = tuple(sheet.numpy().tobytes() for sheet in tensors["sheets"].split(header.sheets))
        naturals = _decompressed(file, coded, len(targets), compensators.shape[1:])
    else:
        naturals = tensors["naturals"]
    choices = _choices(file, header, tensors["choices"]) if "choices" in tensors else None
    return DistilledSet(naturals, targets, compensators, tensors.get("labels"), header, coded, choices, transform)


def _decompressed(file: Path, sheets: tuple[bytes, ...], count: int, shape: Size) -> Tensor:
    try:
        return codec.decode(sheets, count, (shape[0], shape[1], shape[2]))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three for broken pictures
        raise UserError(f"{file}: its naturals cannot be decoded ({error}); copy it again or distil again") from error


def _choices(file: Path, header: Header, packed: Tensor) -> Tensor:
    assert header.views is not None
    candidates = header.views["candidates"]
    choices = unpack_choices(packed, header.views["count"], candidates)
    if int(choices.max()) >= candidates:
        raise UserError(f"{file}: tensor choices has number {int(choices.max())}, there are {candidates} candidates")
    return choices
