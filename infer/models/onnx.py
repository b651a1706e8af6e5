"""Students as ONNX files, with resizing and normalisation inside.

Pillow, which resizes the training pictures, rounds to whole levels twice, and the file once: a level may differ by one.
What happens before is not in the file: decoding, turning upright by EXIF, conversion to grey or RGB, scaling of deep
pictures to 8 bits, and the background of transparent pixels.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infer.core.errors import UserError, shown
from infer.core.extras import needed_by, require
from infer.core.files import write_bytes
from infer.core.paths import user_path
from infer.models.weights import PixelClassifier

_OPSET = 18
"""The first whose Resize antialiases."""

_TOLERANCE = 1e-4
"""Most that a logit may differ from PyTorch's, for logits up to 1, and else times the largest of them."""

_BATCHES = (1, 7)
"""Sizes of the batches that are compared."""


def _edge(size: Any) -> Any:
    """Return ``round(7 / 8 * size)`` in whole numbers, as a traced size needs it: halves go to the even number."""
    whole, rest = 7 * size // 8, 7 * size % 8
    return whole + (rest + 3 + whole % 2) // 8


class _AnySize(nn.Module):
    """Classifies pixel levels uint8 [B, ch, H, W] of any height and width, as picture files are read for training."""

    def __init__(self, student: nn.Module, side: int, centre: bool) -> None:
        super().__init__()
        self.student, self.side, self.centre = student, side, centre

    def forward(self, images: Tensor) -> Tensor:
        if self.centre:
            height, width = images.shape[2:]
            edge = _edge(torch.sym_min(height, width))
            top, left = (height - edge) // 2, (width - edge) // 2
            images = images[:, :, top : top + edge, left : left + edge]
            for size in images.shape[2:]:
                torch._check(size > 0)
        levels = F.interpolate(images.float(), (self.side, self.side), mode="bilinear", antialias=True)
        return self.student(levels.round().clamp(0, 255))


def export_onnx(
    student: nn.Module,
    file: str | Path,
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    centre: bool = False,
) -> float:
    """Write a student as an ONNX file that takes pictures of any size.

    The input ``images`` is uint8 [batch, channels, height, width], pixel levels of RGB or grey; batch, height and width
    are free. Within the file, images are resized to the square that the student was trained on (bilinear, antialiased,
    rounded to whole levels) and normalised. The output ``logits`` is float32 [batch, C]. The file's metadata have
    ``classes`` (JSON), ``image_size`` and ``channels``.

    Args:
        student: a module of :func:`infer.train_student` or :func:`infer.train_teachers`; it is not changed.
        file: to write; ``~`` is the home folder. It is written whole or not at all.
        classes: C names; None: those that the student knows.
        image_size: height and width that the student takes; None: the one that it knows.
        centre: cut the middle square of 7/8 of the shorter side before resizing, as ``dataset.centre`` does.

    Returns:
        The largest difference between a logit of PyTorch and of ONNX Runtime, for random images in batches of 1 and 7.

    Raises:
        UserError: where a library of the extra ``[onnx]`` is missing, the student cannot be written as ONNX, or that
            difference is above 1e-4 (relative to logits above 1); nothing is written then.

    Example:
        >>> import infer
        >>> student = infer.train_student("small.safetensors", "convnet", steps=2000)  # doctest: +SKIP
        >>> infer.export_onnx(student, "student.onnx")  # doctest: +SKIP
        2.4e-06
    """
    with needed_by("export_onnx"):
        require("onnx", "onnxscript", "onnxruntime")
    if not isinstance(student, PixelClassifier):
        raise UserError(f"student={shown(student)}: must be a module that infer.train_student returns")
    names, side = student.classes if classes is None else classes, image_size or student.image_size
    if names is None or side is None:
        raise UserError("student: knows neither its classes nor its image size; give classes= and image_size=")
    channels = len(student.mean)
    module = _AnySize(copy.deepcopy(student).cpu(), side, centre).requires_grad_(False).eval()
    model = _exported(module, channels, len(names))
    described = {"classes": json.dumps(list(names)), "image_size": str(side), "channels": str(channels)}
    import_module("onnx").helper.set_model_props(model, described)
    content = model.SerializeToString()
    difference = _difference(module, channels, content)
    write_bytes(user_path(file), content)
    return difference


def _exported(module: _AnySize, channels: int, classes: int) -> Any:
    """Return the ONNX model of a module of ``channels`` channels and as many logits as ``classes``."""
    example = torch.zeros(2, channels, module.side, module.side, dtype=torch.uint8)
    try:
        with torch.no_grad():
            found = module(example).shape[1]
        if found != classes:
            raise UserError(f"classes: {classes} names are given, the student has {found} classes")
        exported = torch.onnx.export(
            module,
            (example,),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: "batch", 2: "height", 3: "width"}},
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except UserError:
        raise
    except Exception as error:  # a foreign forward pass and the exporter raise errors of many types
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"student: cannot be written as ONNX ({reason}); choose another backbone") from error
    assert exported is not None
    model: Any = exported.model_proto
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info):
        del part.metadata_props[:]  # the exporter's notes, with paths of this machine
    return model


def _difference(module: _AnySize, channels: int, content: bytes) -> float:
    """Return the largest difference between a logit of ``module`` and of ONNX Runtime; raise where it is too large."""
    runtime = import_module("onnxruntime")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    # A size that is not resized: where a level lies between two whole ones, the two may round it differently.
    size = next(size for size in count(1) if _edge(size) == module.side) if module.centre else module.side
    draw = torch.Generator().manual_seed(0)
    largest = 0.0
    for batch in _BATCHES:
        images = torch.randint(256, (batch, channels, size, size), dtype=torch.uint8, generator=draw)
        with torch.no_grad():
            expected = module(images)
        (found,) = session.run(["logits"], {"images": images.numpy()})
        largest = max(largest, float((torch.from_numpy(found) - expected).abs().max()))
        if not largest <= _TOLERANCE * max(1.0, float(expected.abs().max())):
            raise UserError(
                f"student: ONNX Runtime's logits differ from PyTorch's by {largest:.2g}, more than {_TOLERANCE:g}; "
                "nothing was written; choose another backbone"
            )
    return largest
