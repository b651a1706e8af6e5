"""A student in a folder, as a run leaves it, after a few steps on the pictures of a folder."""

from __future__ import annotations

from pathlib import Path

import infer
from infer.core.options import MixingOptions
from infer.data import Splits
from infer.training.context import context_of_call
from infer.training.students import Student, student_in_folder
from infer.training.training_set import TrainingSet

CPU = infer.TrainerOptions(accelerator="cpu")


def stored_student(data: Splits, folder: Path, backbone: str | infer.BackboneOptions = "convnet_narrow") -> Path:
    """Train a student of 20 steps and return its file."""
    student = Student("tiny", backbone, infer.StudentOptions(epochs=None, steps=20), MixingOptions(), 20, seed=0)
    student_in_folder(context_of_call(data, None, CPU), student, TrainingSet.of_real(data), folder)
    return folder / "student.safetensors"
