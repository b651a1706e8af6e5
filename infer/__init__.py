"""INFER: dataset distillation by inter-class feature compensation (ICLR 2025, arXiv 2408.06927).

>>> import infer
>>> data = infer.read_folder("parts", image_size=64)  # doctest: +SKIP
>>> teachers = infer.train_teachers(data, ["resnet18"], epochs=20)  # doctest: +SKIP
>>> small = infer.distill(data, teachers, ipc=10, method="infer_plus")  # doctest: +SKIP
>>> small.save("small.safetensors")  # doctest: +SKIP
>>> student = infer.train_student(infer.load("small.safetensors"), "resnet18", steps=2000)  # doctest: +SKIP
>>> infer.evaluate(student, data.test).accuracy  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from infer.core.errors import UserError
from infer.core.extras import needed_by
from infer.core.version import __version__

if TYPE_CHECKING:
    from infer.core.labels import distillation_loss
    from infer.core.options import AugmentOptions, BudgetOptions, LabelOptions, MixingOptions, UFCOptions
    from infer.data import Splits, read_folder
    from infer.distilled import DistilledDataModule, DistilledSet, load
    from infer.metrics.scores import Scores
    from infer.models.onnx import export_onnx
    from infer.models.options import BackboneOptions
    from infer.pipeline.api import distill
    from infer.pipeline.set_options import MethodOptions, SetOptions
    from infer.training.evaluation import evaluate
    from infer.training.options import InputOptions, StudentOptions, TeacherOptions, TrainerOptions
    from infer.training.students import train_student
    from infer.training.teachers import train_teachers


__all__ = [
    "AugmentOptions",
    "BackboneOptions",
    "BudgetOptions",
    "DistilledDataModule",
    "DistilledSet",
    "InputOptions",
    "LabelOptions",
    "MethodOptions",
    "MixingOptions",
    "Scores",
    "SetOptions",
    "Splits",
    "StudentOptions",
    "TeacherOptions",
    "TrainerOptions",
    "UFCOptions",
    "UserError",
    "__version__",
    "distill",
    "distillation_loss",
    "evaluate",
    "export_onnx",
    "load",
    "read_folder",
    "train_student",
    "train_teachers",
]

_HOMES = {
    "infer.core.labels": ("distillation_loss",),
    "infer.core.options": ("AugmentOptions", "BudgetOptions", "LabelOptions", "MixingOptions", "UFCOptions"),
    "infer.data": ("Splits", "read_folder"),
    "infer.distilled": ("DistilledDataModule", "DistilledSet", "load"),
    "infer.metrics.scores": ("Scores",),
    "infer.models.onnx": ("export_onnx",),
    "infer.models.options": ("BackboneOptions",),
    "infer.pipeline.api": ("distill",),
    "infer.pipeline.set_options": ("MethodOptions", "SetOptions"),
    "infer.training.evaluation": ("evaluate",),
    "infer.training.options": ("InputOptions", "StudentOptions", "TeacherOptions", "TrainerOptions"),
    "infer.training.students": ("train_student",),
    "infer.training.teachers": ("train_teachers",),
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: torch takes seconds to import, and a reader of files needs no trainer."""
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'infer' has no attribute {name!r}")
    with needed_by(f"infer.{name}"):
        return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
