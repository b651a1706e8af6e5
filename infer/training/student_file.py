"""The file of a student: its weights and, beside them, what is needed to classify picture files with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple, Self

import torch
from pydantic import BaseModel, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from infer.core.checks import check
from infer.core.errors import UserError
from infer.core.paths import user_path
from infer.data.decoder import Decoder
from infer.models.classifier import Classifier
from infer.models.networks import build
from infer.models.options import BackboneOptions
from infer.models.weights import PixelClassifier, frozen, load_weights, save_weights
from infer.training.context import Context
from infer.training.threshold import held_out_threshold

WEIGHTS = "student.safetensors"

_CARD = "infer"
"""The key of the card in the metadata of the weights."""

_LARGEST_SIDE = 4096
"""Pixels."""

Moment = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]


class StudentCard(BaseModel):
    """What the file of a student says beside its weights.

    Attributes:
        backbone: its network.
        classes: names of the classes, in the order of the logits.
        mean, std: normalisation of pixels in 0 to 1, one value for each channel.
        decoder: how picture files are read.
        threshold: the largest probability of a picture below which its class is unsure; None: it always is.
    """

    backbone: BackboneOptions
    classes: Annotated[list[str], Field(min_length=2)]
    mean: list[Moment]
    std: list[Annotated[Moment, Field(ge=1e-6)]]
    decoder: Decoder
    threshold: Annotated[float, Field(ge=0, le=1)] | None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check(self.backbone, "backbone.")
        if self.decoder.channels not in (1, 3) or not 1 <= self.decoder.side <= _LARGEST_SIDE:
            raise ValueError("decoder: must have 1 or 3 channels and a side of 1 to 4096 pixels")
        if not len(self.mean) == len(self.std) == self.decoder.channels:
            raise ValueError("mean and std: must have a value for each channel")
        return self


class StoredStudent(NamedTuple):
    """A student as its file has it: the module, frozen and on the CPU, and the card."""

    network: PixelClassifier
    card: StudentCard


def save_student(context: Context, backbone: str | BackboneOptions, module: Classifier, file: Path) -> None:
    """Write the weights of a trained student and its card, whole or not at all."""
    data, device = context.data, context.trainer.device
    held_out = data.test if data.validation is None else data.validation
    student = module.trained.to(device)
    threshold = context.from_first("the threshold", lambda: held_out_threshold(student, held_out, device))
    card = StudentCard(
        backbone=context.backbone(backbone),
        classes=data.classes,
        mean=student.mean.tolist(),
        std=student.std.tolist(),
        decoder=data.decoder or Decoder(data.side, data.channels),
        threshold=threshold,
    )
    save_weights(student.network, file, {_CARD: card.model_dump_json()})


def read_student(path: str | Path) -> StoredStudent:
    """Read a student.

    Args:
        path: its folder, or the file student.safetensors in it.

    Raises:
        UserError: where no student is there, or one of an earlier version, whose file has no card.
    """
    file = _student_file(user_path(path))
    card = _card(file)
    moments, side = (torch.tensor(card.mean), torch.tensor(card.std)), card.decoder.side
    network = build(card.backbone, len(card.classes), card.decoder.channels, side, moments, fetch=False)
    load_weights(network, file)
    student = PixelClassifier(network, *moments)
    student.classes, student.image_size = card.classes, side
    frozen(student)
    return StoredStudent(student, card)


def _student_file(path: Path) -> Path:
    """Return the file of a student, which ``path`` is or holds."""
    file = path / WEIGHTS if path.is_dir() else path
    if file.is_file():
        return file
    below = sorted(path.rglob(WEIGHTS)) if path.is_dir() else []
    cure = f"one of the {len(below)} below it, such as {below[0].parent}" if below else f"a folder with {WEIGHTS}"
    raise UserError(f"student={path}: there is no student; give {cure}")


def _card(file: Path) -> StudentCard:
    """Read the card of a student."""
    try:
        with safe_open(file, framework="pt") as opened:
            content = (opened.metadata() or {}).get(_CARD)
    except (OSError, SafetensorError) as error:
        raise UserError(f"student={file}: cannot be read ({error}); train it again") from error
    if content is None:
        raise UserError(
            f"student={file}: has weights alone, as a teacher and as students of earlier versions; remove the folder "
            "of its run and give the run's command again, and the student is written with all it needs"
        )
    try:
        return StudentCard.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "metadata"
        raise UserError(f"student={file}: {where}: {first['msg'].lower()}; train it again") from error
