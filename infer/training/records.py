"""What result.json says of a trained network, and whether its weights are still those that were measured."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from infer.core.files import SETTINGS, write_json
from infer.core.records import changed_file, digests, read_record, without_nan

log = logging.getLogger("infer")

RESULT = "result.json"

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TrainedRecord(BaseModel):
    """The keys of a network's result.json that a run reads."""

    accuracy: Share
    seconds: Seconds
    balanced_accuracy: Share
    digests: dict[str, str]


class TeacherRecord(TrainedRecord):
    """The same of a teacher. Earlier versions kept no digests, and 0.1 no balanced accuracy."""

    balanced_accuracy: Share | None = None  # type: ignore[assignment]
    digests: dict[str, str] | None = None  # type: ignore[assignment]

    @model_validator(mode="after")
    def _complete(self) -> TeacherRecord:
        if self.digests is not None and self.balanced_accuracy is None:
            raise ValueError("has digests but no balanced_accuracy")
        return self


class Point(BaseModel):
    """A measurement of a student in training: after a step and some seconds, its accuracy on held-out pictures."""

    step: Annotated[int, Field(ge=0)]
    seconds: Seconds
    accuracy: Share
    balanced_accuracy: Share
    pictures: Annotated[int, Field(ge=1)]


class StudentRecord(TrainedRecord):
    """The same of a student; ``trained_on`` is the digest of its distilled set, if it has one.

    The ``timeline`` is empty where nothing was measured in its training.
    """

    macro_f1: Share
    recall: list[Share | None]
    steps: Annotated[int, Field(ge=0)]
    trained_on: str | None = None
    timeline: list[Point] = []


def read_trained(folder: Path, weights: str, kind: type[TrainedRecord]) -> dict[str, Any] | None:
    """Return the result in ``folder``; None where there is none, or, with a warning, where a file of it has changed."""
    result = read_record(folder / RESULT, kind, "it is trained again")
    if result is None or result.get("digests") is None:
        return result
    if changed := changed_file(folder, {weights: "", **result["digests"]}):
        log.warning("%s: is not the file that %s describes; it is trained again", changed, folder / RESULT)
        return None
    return result


def write_trained(folder: Path, weights: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``result`` with the digests of its files, the weights and the settings of its folder; return it.

    The recall of a class without test pictures becomes None.
    """
    recorded = {**without_nan(result), "digests": digests(folder, [folder / weights, folder / SETTINGS])}
    write_json(folder / RESULT, recorded)
    return recorded
