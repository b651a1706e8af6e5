"""The files that the jobs of a sweep leave in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from infer.core.records import read_record

_SWEEP = "sweep.json"


class _Sweep(BaseModel):
    """What sweep.json says: the keys that are swept, the number of jobs, and when the sweep began."""

    swept: list[str]
    jobs: Annotated[int, Field(ge=1)] | None
    began: float


class _Job(BaseModel):
    """What a job leaves: its overrides, and its result or its error."""

    overrides: list[str]
    result: dict[str, Any] | None = None
    error: str | None = None


def read_sweep(folder: Path) -> dict[str, Any] | None:
    """Read what is known of a sweep; None, with a warning, where the file is damaged."""
    return read_record(folder / _SWEEP, _Sweep, "how many jobs are done is not reported")


def read_jobs(folder: Path) -> list[dict[str, Any]]:
    """Read what the jobs of a sweep left; a damaged file is left out, with a warning."""
    files = sorted((folder / "jobs").glob("*.json"))
    found = (read_record(file, _Job, "the job is missing from the table; the same command adds it") for file in files)
    return [job for job in found if job is not None]
