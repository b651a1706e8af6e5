"""Options of trainings. Importing them does not import torch."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from infer.core.budget import published_images
from infer.core.checks import Choice, Range, RangeOrAuto
from infer.core.errors import UserError, shown
from infer.core.options import AugmentOptions, MixingOptions
from infer.models.options import OPTIMISERS, OptimiserOptions

if TYPE_CHECKING:
    import torch

Seed = Annotated[int, Range(0, 2**31)]
"""The seed of a training."""


@dataclass(frozen=True)
class TeacherOptions(OptimiserOptions):
    """How teachers are trained; the defaults are the paper's for small colour images.

    Args:
        epochs: passes over the training pictures; 0 keeps pretrained weights unchanged, whatever ``min_steps`` says.
        min_steps: least number of steps; few pictures get more epochs.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016).
        flips: where pictures are flipped: each at ``random``, or ``alternating``, so that a pass has the mirror image
            of every picture of the pass before (Jordan 2024).
        compressed: AVIF quality of a second copy of every picture, for teachers that label compressed images; a pass
            has both copies. None: no copies.
    """

    epochs: Annotated[int, Range(0, 100_000)] = 200
    min_steps: Annotated[int, Range(0, 10**8)] = 0
    label_smoothing: Annotated[float, Range(0, 0.99)] = field(default=0.0, metadata={"added": "0.2"})
    flips: Annotated[str, Choice("random", "alternating")] = field(default="random", metadata={"added": "0.2"})
    compressed: Annotated[int | None, Range(0, 100)] = field(default=None, metadata={"added": "0.2"})


@dataclass(frozen=True)
class StudentOptions(OptimiserOptions):
    """How students are trained; the defaults are the paper's for small colour images.

    Args:
        epochs: passes over the images of the published split at this ipc, for every method; None: ``steps``.
        steps: in place of ``epochs``; None: ``epochs``.
        real_epochs: a student of all real pictures takes at least this number of passes.
        temperature: of teachers and student in the distillation loss.
        flip_views: a mixed view is its mirror image in half of the steps that take it, with the same label, where
            pictures may be flipped; long trainings then see as good as twice the views.
    """

    batch: Annotated[int, Range(1, 65536)] = 64
    optimizer: Annotated[str, OPTIMISERS] = "adamw"
    lr: Annotated[float, Range(1e-9, 100)] = 1e-3
    weight_decay: Annotated[float, Range(0, 1)] = 0.01
    epochs: int | None = 400
    steps: int | None = None
    real_epochs: Annotated[int, Range(0, 10**6)] = 200
    temperature: Annotated[float, Range(0.01, 1000)] = 30.0
    flip_views: bool = field(default=False, metadata={"added": "0.2"})

    def check_together(self, at: str) -> None:
        """Raise :class:`UserError` unless one of epochs and steps is given."""
        if (self.epochs is None) == (self.steps is None):
            raise UserError(
                f"{at}epochs={shown(self.epochs)} and {at}steps={shown(self.steps)}: give one of them, and null for "
                "the other (None in Python)"
            )
        Range(1, 10**8).check(f"{at}epochs or steps", self.epochs or self.steps or 0)

    def steps_of(self, images: int, teachers: int, dynamic: bool) -> int:
        """Return the number of steps over ``images`` images; dynamic labels take M + 1 times fewer, as in the paper."""
        steps = self.steps or (self.epochs or 0) * math.ceil(images / self.batch)
        return max(1, steps // (teachers + 1)) if dynamic else steps

    def steps_at(self, ipc: int, classes: int, teachers: int, dynamic: bool) -> int:
        """Return the number of steps at ``ipc``, which is the same for every training set."""
        return self.steps_of(published_images(ipc, classes, teachers), teachers, dynamic)


@dataclass(frozen=True)
class InputOptions:
    """How training images vary.

    Args:
        augment: changes each image.
        mixing: interpolates the images of a batch.
    """

    augment: AugmentOptions = field(default_factory=AugmentOptions)
    mixing: MixingOptions = field(default_factory=MixingOptions)


@dataclass(frozen=True)
class MicroBatchOptions:
    """Micro-batches of a step of compensators; the result is the same up to rounding.

    Args:
        rounds: rounds per pass; None measures which number is fastest.
        chunk: images of a round per pass; None takes all, or as many as memory holds.
        compile: a mode of torch.compile; or ``graph``: on a GPU, passes are recorded as CUDA graphs; or None.
    """

    rounds: Annotated[int | None, Range(1, 10**6)] = None
    chunk: Annotated[int | None, Range(1, 10**6)] = None
    compile: Annotated[str | None, Choice("graph", "default", "reduce-overhead", "max-autotune")] = None


@dataclass(frozen=True)
class TrainerOptions:
    """Lightning's accelerator, devices, strategy and precision.

    Several devices share the rounds of compensators, and the batches of teachers and students, whose BatchNorm then
    sees each device's part of a batch.

    Args:
        accelerator: ``auto`` takes a CUDA GPU where there is one, else the CPU.
        devices: of each node.
        nodes: machines.
        strategy: ``auto``: one device; ``ddp_spawn`` starts processes itself, ``ddp`` uses those of torchrun or srun.
        precision: of forward passes; BatchNorm statistics and losses stay in float32.
        compile: a mode of torch.compile for teachers and students in training, for which a CPU needs a C++ compiler;
            or ``graph``: on a GPU, their steps are recorded as CUDA graphs, without a compiler; or None.
        jobs: trainings of a run that distill.py does at once, each in a process: teachers, the compensators of each
            teacher, students. ``auto``: as many as cores and memory allow, and one on a GPU.
        threads: of each of these trainings; None: the cores are divided among those of a stage, whatever ``jobs`` is,
            because the last digits of results depend on it.
    """

    accelerator: Annotated[str, Choice("auto", "cpu", "gpu", "mps")] = "auto"
    devices: Annotated[int, Range(1, 4096)] = 1
    nodes: Annotated[int, Range(1, 4096)] = 1
    strategy: Annotated[str, Choice("auto", "ddp_spawn", "ddp")] = "auto"
    precision: Annotated[str, Choice("32-true", "bf16-mixed", "16-mixed")] = "32-true"
    compile: Annotated[str | None, Choice("graph", "default", "reduce-overhead", "max-autotune")] = None
    jobs: Annotated[int | str, RangeOrAuto(1, 4096)] = field(default="auto", metadata={"added": "0.2"})
    threads: Annotated[int | None, Range(1, 4096)] = field(default=None, metadata={"added": "0.2"})

    @property
    def one_device(self) -> bool:
        """Whether the training takes one device, in the process of the command."""
        return not self.several and self.strategy == "auto"

    @property
    def launched(self) -> bool:
        """Whether a launcher, torchrun or srun, starts the processes of the training."""
        return self.strategy == "ddp" and self.several

    @property
    def device(self) -> torch.device:
        """The first device, for passes that need no Trainer."""
        import torch

        gpu = self.accelerator in ("auto", "gpu") and torch.cuda.is_available()
        if gpu:
            return torch.device("cuda", _local_rank() if self.strategy == "ddp" else 0)
        return torch.device("mps" if self.accelerator == "mps" else "cpu")

    @property
    def several(self) -> bool:
        """Whether more than one process trains."""
        return self.devices * self.nodes > 1

    def require(self) -> None:
        """Raise :class:`UserError` where this machine lacks what the options ask for."""
        import torch

        gpus = torch.cuda.device_count()
        if self.accelerator == "gpu" and not gpus:
            raise UserError("trainer.accelerator=gpu: no GPU is visible here; choose trainer=cpu or trainer=auto")
        if self.accelerator == "mps" and not torch.backends.mps.is_available():
            raise UserError("trainer.accelerator=mps: this machine has none; choose trainer=cpu or trainer=auto")
        if self.device.type == "cuda" and self.devices > gpus:
            raise UserError(
                f"trainer.devices={self.devices}: there are {gpus}; choose as many or trainer.accelerator=cpu"
            )
        if self.several and self.jobs not in ("auto", 1):
            raise UserError(
                f"trainer.jobs={self.jobs}: a training of several devices runs alone; leave trainer.jobs=auto"
            )
        if self.devices > 1 and self.strategy == "auto":
            raise UserError(f"trainer.devices={self.devices}: needs trainer.strategy=ddp_spawn, or trainer=ddp")
        if self.nodes > 1 and self.strategy != "ddp":
            raise UserError(f"trainer.nodes={self.nodes}: needs trainer=cluster, started by torchrun or srun on each")
        world = os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS"))
        if self.strategy == "ddp" and world != str(self.devices * self.nodes):
            raise UserError(
                f"trainer.strategy=ddp: needs {self.devices * self.nodes} processes (trainer.devices times "
                f"trainer.nodes) started by torchrun or srun, there are {world or 'none'}; on one machine "
                "trainer=ddp starts its own"
            )


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
