"""The distilled file: its dataset, its header, its checks, its export."""

from typing import TYPE_CHECKING, Any

from infer.distilled.dataset import DistilledSet
from infer.distilled.header import Header
from infer.distilled.reading import load

if TYPE_CHECKING:
    from infer.distilled.datamodule import DistilledDataModule

__all__ = ["DistilledDataModule", "DistilledSet", "Header", "load"]


def __getattr__(name: str) -> Any:
    # Reading a file needs no Lightning, which takes seconds to import.
    if name == "DistilledDataModule":
        from infer.distilled.datamodule import DistilledDataModule

        return DistilledDataModule
    raise AttributeError(f"module 'infer.distilled' has no attribute {name!r}")
