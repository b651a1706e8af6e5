"""INFER: dataset distillation by inter-class feature compensation (ICLR 2025, arXiv 2408.06927).

>>> import infer
>>> dataset = infer.load("distilled.safetensors")     # a torch Dataset: image uint8 [ch, H, W], soft label [C]
>>> dataset.export("folder")                          # PNG files and labels for any other framework
"""

from typing import TYPE_CHECKING, Any

from infer.core.errors import UserError

if TYPE_CHECKING:
    from infer.distilled.dataset import DistilledSet, load

__version__ = "0.1.0"
__all__ = ["DistilledSet", "UserError", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: it comes with the first use, not with `import infer`.
    if name in ("DistilledSet", "load"):
        from infer.distilled import dataset as distilled

        return getattr(distilled, name)
    raise AttributeError(f"module 'infer' has no attribute {name!r}")
