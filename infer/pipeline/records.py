"""The keys of a run's result.json, and which of its parts still rest on the files that they were measured on."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from infer.core.budget import Ledger
from infer.core.files import SETTINGS, digest, file_digest
from infer.core.records import changed_file, digests, read_record
from infer.core.sources import SOURCES
from infer.training.records import RESULT, Point, Seconds, Share
from infer.training.teachers import Teacher

log = logging.getLogger("infer")

FILE, ARRAYS, SUSPECTS = "distilled.safetensors", "report_arrays.safetensors", "suspects.csv"

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Row(BaseModel):
    """A row of the comparison."""

    backbone: str
    source: Literal[tuple(SOURCES)]  # type: ignore[valid-type]
    labels: str
    accuracies: Annotated[list[Share], Field(min_length=1)]
    accuracy_mean: Share
    accuracy_std: Amount
    balanced_accuracy: Share
    macro_f1: Share
    recall: list[Share | None]
    seeds: Annotated[int, Field(ge=1)]
    seconds: Seconds
    steps: Count
    bytes: Count
    images: Count
    pictures: Count | None = None
    balanced_accuracies: list[Share] = []
    weights: list[str]
    digests: dict[str, str]
    timelines: list[Annotated[list[Point], Field(min_length=1)]] = []

    @model_validator(mode="after")
    def _parallel(self) -> Row:
        if len(self.timelines) not in (0, self.seeds):
            raise ValueError("timelines must have an entry a seed")
        if not len(self.accuracies) == len(self.weights) == len(self.digests) == self.seeds:
            raise ValueError("accuracies, weights and digests must have an entry a seed")
        return self


class CurvePoint(BaseModel):
    """A point of the learning curve; ``budget`` is that of the file, which all pictures have not."""

    source: str
    pictures: Count
    bytes: Count
    accuracy: Share
    low: Share
    high: Share
    budget: Count | None
    backbone: str
    seeds: Annotated[int, Field(ge=1)]
    seconds: Seconds


class LeftOut(BaseModel):
    """A budget that the learning curve has no point at, and why: ``small``, ``whole`` or ``time``."""

    budget: Count
    reason: Literal["small", "whole", "time"]


class _Teacher(BaseModel):
    accuracy: Share
    seconds: Seconds


class _Seconds(BaseModel):
    teachers: Seconds
    distill: Seconds
    assemble: Seconds


class _Images(BaseModel):
    natural_per_class: Amount
    naturals: list[Count]
    compensators: Count
    composed_per_class: Count
    views: Count
    drawn: bool = False


class _Budget(BaseModel):
    by: str
    fill: bool
    codec: str | None
    quality: int
    per_class: str
    label_share: float


class _Update(BaseModel):
    """The earlier file, and what came to it."""

    file: str
    digest: str
    bytes_before: Count
    classes_before: Count
    pictures_before: Count
    classes_added: Count
    pictures_added: Count


class Choice(BaseModel):
    """A choice of budget.choices that was measured: its set, and its student's accuracy on the held-out pictures."""

    naturals: Count
    labels: Count
    accuracy: Share
    seconds: Seconds


def _in_range(sizes: Ledger) -> Ledger:
    if min(vars(sizes).values()) < 0 or not sizes.file:
        raise ValueError("must be 0 or more, and the file's 1 or more")
    return sizes


class _Machine(BaseModel):
    gpu: str | None
    cpu_threads: int
    torch: str
    peak_bytes: Count | None


class RunRecord(BaseModel):
    """The content of result.json; ``scores`` and ``hardware`` come when the first students are trained.

    Neither is null: :meth:`infer.pipeline.run_folder.Run.is_finished` asks for the keys.
    """

    dataset: str
    classes: Count
    train_pictures: list[Count]
    test_pictures: list[Count]
    method: str
    ipc: Amount
    seed: Count
    published: dict[str, Percent]
    labels: str
    budget: _Budget
    recipe: dict[str, str | float | None]
    command: str
    bytes: Annotated[Ledger, AfterValidator(_in_range)]
    images: _Images
    teachers: Annotated[dict[str, _Teacher], Field(min_length=1)]
    seconds: _Seconds
    choices: list[Choice]
    update: _Update | None = None
    students: list[Row]
    scores: dict[str, dict[str, float]] = Field(default_factory=dict)
    hardware: _Machine = None  # type: ignore[assignment]
    curve: list[CurvePoint] = []
    curve_left_out: list[LeftOut] = []
    digests: dict[str, str]
    analysis_digests: dict[str, str] = {}

    @model_validator(mode="after")
    def _of_all_classes(self) -> RunRecord:
        if not all(len(pictures) == self.classes for pictures in (self.train_pictures, self.test_pictures)):
            raise ValueError("train_pictures and test_pictures must have an entry a class")
        if any(len(row.recall) != self.classes for row in self.students):
            raise ValueError("recall must have an entry a class in every row")
        return self


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the result in ``folder``, as far as it describes the files that are there.

    A row whose weights have changed is left out, and so is an analysis of changed rows or arrays. Weights and teachers
    that were deleted change nothing: what was measured on them stays true.

    Returns:
        None where there is no result, and, with a warning, where its set, its settings or a teacher have changed.
    """
    result = read_record(folder / RESULT, RunRecord, "the set is created again")
    if result is None:
        return None
    own = {name: result["digests"].get(name, "") for name in (FILE, SETTINGS)}
    if changed := changed_file(folder, own) or changed_file(folder, result["digests"], missing=False):
        log.warning("%s: is not the file that %s describes; the set is created again", changed, folder / RESULT)
        return None
    rows = [row for row in result["students"] if not _is_changed(folder, row)]
    left_out = set() if len(rows) == len(result["students"]) and _is_analysed(folder, result) else {*ANALYSIS}
    if "suspects" in result and not _has_suspects(folder, result["suspects"]):
        left_out.add("suspects")
    return {key: rows if key == "students" else value for key, value in result.items() if key not in left_out}


def set_digests(folder: Path, teachers: Sequence[Teacher]) -> dict[str, str]:
    """Return the digests of the set in ``folder`` and of what it rests on: the settings and the teachers."""
    files = [teacher.file for teacher in teachers if teacher.file]
    return digests(folder, [folder / FILE, folder / SETTINGS, *files])


def analysis_digests(folder: Path, analysed: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of an analysis and of its arrays."""
    parts = json.loads(json.dumps({key: analysed.get(key) for key in _MEASURED}))
    return {**digests(folder, [folder / ARRAYS]), **{key: digest({key: value}) for key, value in parts.items()}}


_MEASURED = ("evidence", "data")
"""What the analysis for the report adds to a result."""

ANALYSIS = (*_MEASURED, "analysis_digests")
"""All keys of the analysis in a result."""


def suspects_digest(folder: Path, found: Mapping[str, Any]) -> str:
    """Return the digest of what a result says of its suspects, and of their list."""
    content = {key: value for key, value in found.items() if key != "digest"}
    return digest({**content, "file": file_digest(folder / SUSPECTS)})


def _has_suspects(folder: Path, found: Any) -> bool:
    """Return whether suspects and their list are as they were recorded; a warning where one of them has changed."""
    if isinstance(found, dict) and found.get("digest") == suspects_digest(folder, found):
        return True
    log.warning("%s: is not the list that %s describes; it is made again where asked for", folder / SUSPECTS, RESULT)
    return False


def _is_changed(folder: Path, row: Mapping[str, Any]) -> bool:
    """Return whether a weights file of the row is another, with a warning."""
    changed = changed_file(folder, row["digests"], missing=False)
    if changed:
        log.warning("%s: is not the file that the row %s describes; it is trained again", changed, row["source"])
    return changed is not None


def _is_analysed(folder: Path, result: Mapping[str, Any]) -> bool:
    """Return whether the result has an analysis as it was recorded; a warning where it or its arrays have changed."""
    known = result.get("analysis_digests")
    if not known:
        return False
    if known == analysis_digests(folder, result):
        return True
    log.warning("%s: is not the analysis that %s describes; it is made again", folder / ARRAYS, folder / RESULT)
    return False
