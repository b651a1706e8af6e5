"""The stage that optimises compensators: all rounds of a teacher at once, each result kept with the teacher."""

from __future__ import annotations

import logging
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from infer.core.checks import as_identity
from infer.core.files import digest, write_bytes, write_json
from infer.core.options import UFCOptions
from infer.core.progress import counted, stage
from infer.core.records import read_record
from infer.core.ufc import Problem
from infer.data.batches import Indices, in_order, loader
from infer.models.compensator import CompensatorModule, MicroBatch
from infer.training.context import Context
from infer.training.fit import delete_checkpoint, fit
from infer.training.microbatching import choose
from infer.training.options import MicroBatchOptions
from infer.training.teachers import Teacher

log = logging.getLogger("infer")


@dataclass
class Compensators:
    """Optimises the compensators of a run, and keeps them with the teachers.

    Args:
        teachers: one compensator of each round for each of them.
        options: of the optimisation.
        micro_batches: size of the micro-batches.

    Attributes:
        seconds: of all optimisations, those kept from earlier runs included.
        waited: seconds that this run spent here.
    """

    teachers: Sequence[Teacher]
    options: UFCOptions
    micro_batches: MicroBatchOptions = field(default_factory=MicroBatchOptions)
    seconds: float = 0.0
    waited: float = 0.0

    def optimise(self, context: Context, seed: int, folder: Path | None, naturals: Tensor, targets: Tensor) -> Tensor:
        """Optimise the compensators of K rounds.

        Args:
            context: of the run.
            seed: of the jitter.
            folder: the run's, for checkpoints; None writes nothing.
            naturals: uint8 [K, C, ch, H, W].
            targets: int64 [K, C].

        Returns:
            float32 [K, M, ch, H, W], normalised units.
        """
        if not len(naturals):
            return torch.empty(0, len(self.teachers), *naturals.shape[2:])
        start = time.perf_counter()
        found = [self._of_teacher(context, teacher, seed, folder, naturals, targets) for teacher in self.teachers]
        self.waited += time.perf_counter() - start
        return torch.stack(found, dim=1)

    def _of_teacher(
        self, context: Context, teacher: Teacher, seed: int, folder: Path | None, naturals: Tensor, targets: Tensor
    ) -> Tensor:
        rounds, images = targets.shape
        stage("Optimising %s for teacher %s (%d images each)", counted(rounds, "compensator"), teacher.name, images)
        if folder is None or teacher.file is None:
            u, seconds = self._fit(context, teacher, seed, None, "compensators", naturals, targets)
            self.seconds += seconds
            return u
        # The file is named by everything that decides it: runs that differ in students or labels share it.
        identity = {
            "teacher": digest(teacher.file.read_bytes()),
            "naturals": digest(naturals.contiguous().numpy().tobytes() + targets.contiguous().numpy().tobytes()),
            "recipe": as_identity(self.options),
            "seed": seed,
            "precision": context.trainer.precision,
            **context.given_moments,
        }
        file = teacher.file.parent / f"compensators-{digest(identity)}.safetensors"
        with context.lock(file.with_suffix(".lock"), f"compensators of {teacher.name}"):
            kept = context.from_first(f"compensators of {teacher.name}", lambda: _read(file))
            if kept is None:
                kept = self._fit(context, teacher, seed, folder, file.stem, naturals, targets)
                _write(file, *kept)
            delete_checkpoint(folder, file.stem)  # also that of a run which was killed between the two
        u, seconds = kept
        self.seconds += seconds
        return u

    def _fit(
        self,
        context: Context,
        teacher: Teacher,
        seed: int,
        folder: Path | None,
        name: str,
        naturals: Tensor,
        targets: Tensor,
    ) -> tuple[Tensor, float]:
        problem = Problem(teacher.network, naturals, targets, self.options, *context.data.moments)
        micro_batch = self._micro_batch(context, problem, teacher)
        module = CompensatorModule(teacher.name, problem, micro_batch, self.micro_batches.compile)
        batches = loader(Indices(), partial(in_order, self.options.steps, 1), self.options.steps)
        seconds = fit(module, batches, seed, folder, name, context.trainer, context.loggers)
        return module.u.detach().cpu(), seconds

    def _micro_batch(self, context: Context, problem: Problem, teacher: Teacher) -> MicroBatch:
        """Measure the micro-batch for this teacher on this machine once, so that a resumed run cuts its steps alike."""
        how, device = self.micro_batches, context.trainer.device
        if teacher.file is None:
            return choose(problem, device, context.trainer.precision, how.rounds, how.chunk)
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        measured_on = {
            "shape": list(problem.naturals.shape),
            "device": gpu or f"{platform.machine()}, {torch.get_num_threads()} threads",
            "precision": context.trainer.precision,
            "torch": torch.__version__,
            **asdict(how),
        }
        file = teacher.file.parent / f"passes-{digest(measured_on)}.json"

        def found() -> dict[str, Any]:
            kept = read_record(file, _Measured, "it is measured again")
            if kept is None:
                log.info("Measuring how to cut a step of teacher %s into micro-batches", teacher.name)
                chosen = choose(problem, device, context.trainer.precision, how.rounds, how.chunk)
                kept = {**asdict(chosen), "measured_on": measured_on}
                write_json(file, kept)
            return kept

        kept = context.from_first("the micro-batch", found)
        most_rounds, most_classes = problem.targets.shape
        return MicroBatch(min(kept["rounds"], most_rounds), min(kept["classes"], most_classes))


class _Measured(BaseModel):
    """The file of a measured micro-batch."""

    rounds: Annotated[int, Field(ge=1)]
    classes: Annotated[int, Field(ge=1)]


def _write(file: Path, u: Tensor, seconds: float) -> None:
    """Write compensators, with a digest of their values and of the name that says what they were made from."""
    metadata = {"digest": _digest(file, u)}
    write_bytes(file, to_safetensors({"u": u, "seconds": torch.tensor(seconds)}, metadata))


def _read(file: Path) -> tuple[Tensor, float] | None:
    """Read compensators and the seconds they took; None where there are none, or, with a warning, others."""
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as content:
            u, seconds = content.get_tensor("u"), float(content.get_tensor("seconds"))
            if (content.metadata() or {}).get("digest") == _digest(file, u) and 0 <= seconds < math.inf:
                return u, seconds
        reason = "they are not those that were written under this name"
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = str(error)
    log.warning("%s: no compensators of this run (%s); they are optimised again", file, reason)
    return None


def _digest(file: Path, u: Tensor) -> str:
    return digest(file.stem.encode() + u.contiguous().numpy().tobytes())
