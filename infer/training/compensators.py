"""The stage that optimises compensators: all rounds of a teacher at once, each result kept with the teacher."""

from __future__ import annotations

import logging
import math
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from infer.core.files import digest, write_bytes, write_json
from infer.core.identity import as_identity
from infer.core.options import UFCOptions
from infer.core.progress import counted, stage
from infer.core.records import read_record
from infer.core.ufc import Problem
from infer.data.batches import Indices, in_order, loader
from infer.models.compensator import CompensatorModule, MicroBatch
from infer.training.context import Context
from infer.training.fit import delete_checkpoint, fit
from infer.training.jobs import Training, side_by_side, threads_of_each
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
        rounds, images = targets.shape
        names = ", ".join(teacher.name for teacher in self.teachers)
        stage("Optimising %s per teacher (%s), %d images each", counted(rounds, "compensator"), names, images)
        shared = (self.options, self.micro_batches, seed, naturals, targets)
        found = [*self._found(context, [_Optimisation(teacher, *shared) for teacher in self.teachers], folder)]
        self.seconds += sum(seconds for _, seconds in found)
        self.waited += time.perf_counter() - start
        return torch.stack([u for u, _ in found], dim=1)

    def _found(
        self, context: Context, optimisations: Sequence[_Optimisation], folder: Path | None
    ) -> Iterator[tuple[Tensor, float]]:
        """Yield the compensators of each teacher, and the seconds they took."""
        if folder is None or any(teacher.file is None for teacher in self.teachers):
            yield from (each.fit(context, None, "compensators") for each in optimisations)
            return
        files = [each.file(context) for each in optimisations]
        trainings = [
            Training(f"compensators {each.teacher.name}", file, partial(each.in_file, file=file, folder=folder))
            for each, file in zip(optimisations, files, strict=True)
        ]
        yield from side_by_side(context, trainings, threads_of_each(context.trainer, len(trainings)))


@dataclass(frozen=True)
class _Optimisation:
    """The optimisation of the compensators of one teacher.

    Args:
        teacher: of the compensators.
        options: of the optimisation.
        micro_batches: size of the micro-batches.
        seed, naturals, targets: as of :meth:`Compensators.optimise`.
    """

    teacher: Teacher
    options: UFCOptions
    micro_batches: MicroBatchOptions
    seed: int
    naturals: Tensor
    targets: Tensor

    def file(self, context: Context) -> Path:
        """Return the file of the compensators, named by everything that decides them.

        Runs that differ in students or labels share it.
        """
        teacher, naturals, targets = self.teacher.file, self.naturals.contiguous(), self.targets.contiguous()
        assert teacher is not None
        identity = {
            "teacher": digest(teacher.read_bytes()),
            "naturals": digest(naturals.numpy().tobytes() + targets.numpy().tobytes()),
            "recipe": as_identity(self.options),
            "seed": self.seed,
            "precision": context.trainer.precision,
            **context.given_moments,
        }
        return teacher.parent / f"compensators-{digest(identity)}.safetensors"

    def in_file(self, context: Context, file: Path, folder: Path) -> tuple[Tensor, float]:
        """Return the compensators in ``file`` and their seconds, optimised if missing; ``folder`` is the run's."""
        title = f"compensators of {self.teacher.name}"
        with context.lock(file.with_suffix(".lock"), title):
            kept = context.from_first(title, lambda: _read(file))
            if kept is None:
                kept = self.fit(context, folder, file.stem)
                _write(file, *kept)
            delete_checkpoint(folder, file.stem)  # also that of a run which was killed between the two
        return kept

    def fit(self, context: Context, folder: Path | None, name: str) -> tuple[Tensor, float]:
        """Optimise; return the compensators and the seconds."""
        problem = Problem(self.teacher.network, self.naturals, self.targets, self.options, *context.data.moments)
        module = CompensatorModule(
            self.teacher.name, problem, self._micro_batch(context, problem), self.micro_batches.compile
        )
        batches = loader(Indices(), partial(in_order, self.options.steps, 1), self.options.steps)
        seconds = fit(module, batches, self.seed, folder, name, context.trainer, context.loggers)
        return module.u.detach().cpu(), seconds

    def _micro_batch(self, context: Context, problem: Problem) -> MicroBatch:
        """Measure the micro-batch for this teacher on this machine once, so that a resumed run cuts its steps alike."""
        teacher, how, device = self.teacher, self.micro_batches, context.trainer.device
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
