"""Labelled pictures: reading, splits, near-duplicates, batches and a summary."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from infer.data.options import DatasetOptions

if TYPE_CHECKING:
    from infer.data.datasets import read_dataset, read_folder
    from infer.data.pictures import Pictures, Streamed
    from infer.data.splits import Splits

__all__ = ["DatasetOptions", "Pictures", "Splits", "Streamed", "read_dataset", "read_folder"]

_HOMES = {
    "infer.data.datasets": ("read_dataset", "read_folder"),
    "infer.data.pictures": ("Pictures", "Streamed"),
    "infer.data.splits": ("Splits",),
}


def __getattr__(name: str) -> Any:
    # The options serve --help and checks of the command line, which do not wait for torch.
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'infer.data' has no attribute {name!r}")
    return getattr(import_module(home), name)
