"""The file metrics.csv of a run: a row for each logged step of each stage, whatever stops the run in between."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from infer.core.files import unreadable, write_bytes

Rows = dict[int, dict[str, float]]
"""Metrics by name, by step."""

_KEY = ["stage", "step"]
_SECONDS = 5.0
"""Least time between two writes for a reader of a running stage."""


class MetricsLogger(Logger):
    """A logger of metrics alone: without a name, a version and hyper-parameters."""

    @property
    def name(self) -> str:
        """Return no name."""
        return ""

    @property
    def version(self) -> str:
        """Return no version."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log none."""


class MetricsFile(MetricsLogger):
    """A logger of ``folder``/metrics.csv, which is written whole.

    The rows of the stage in the file are replaced by ``rows``; the rows of other stages stay, and stages of several
    processes may share the file.
    Columns are ``stage``, ``step`` and the metrics of all stages; values logged at the same step share a row. Only the
    first of several processes writes.

    Args:
        folder: of the file.
        stage: whose metrics are logged.

    Attributes:
        rows: of the stage: those that are logged, after those of its checkpoint where it is resumed.

    Raises:
        UserError: where the file cannot be read or written.
    """

    def __init__(self, folder: Path, stage: str = "results") -> None:
        super().__init__()
        self.path, self.stage = folder / "metrics.csv", stage
        self.rows: Rows = {}
        self._written = -math.inf
        _read(self.path)  # an unreadable file is an error before the stage starts

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add the values of a step."""
        values = {key: float(value) for key, value in metrics.items() if key != "epoch"}  # there is one
        self.rows.setdefault(step or 0, {}).update(values)

    @rank_zero_only
    def write(self) -> None:
        """Write the file, whole or not at all, with the rows that other processes wrote of other stages."""
        own = ({"stage": self.stage, "step": step, **self.rows[step]} for step in sorted(self.rows))
        with FileLock(self.path.with_name(".metrics.lock")):
            others = (row for row in _read(self.path) if row.get("stage") != self.stage)
            rows: list[Mapping[str, Any]] = [*others, *own]
            columns = sorted({key for row in rows for key in row} - {*_KEY})
            text = io.StringIO(newline="")
            table = csv.DictWriter(text, [*_KEY, *columns], lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
            write_bytes(self.path, text.getvalue().encode())
        self._written = time.monotonic()

    def save(self) -> None:
        """Write the file unless that was a moment ago: Lightning calls this after each row."""
        if time.monotonic() - self._written > _SECONDS:
            self.write()

    def finalize(self, status: str) -> None:
        """Write the file at the end of the stage."""
        self.write()


class KeptMetrics(Callback):
    """Keep the metrics of a stage with each checkpoint, so that a resumed run has each step once.

    Lightning logs a step after its checkpoint is written; that step is added here.
    """

    def __init__(self, file: MetricsFile) -> None:
        self.file = file

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write the rows up to this step into the checkpoint and the file."""
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.file.log_metrics(trainer.callback_metrics, trainer.global_step - 1)
        checkpoint["metrics"] = {step: dict(row) for step, row in self.file.rows.items()}
        self.file.write()


def _read(path: Path) -> list[dict[str, str]]:
    """Return the rows of the file; none where it does not exist. Empty cells are left out."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [{key: value for key, value in row.items() if key and value} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise unreadable(path, error) from error
