"""The stage that optimises compensators: every teacher's, all rounds at once, each kept when it is done."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from infer.cli.schema import DistillConfig, UFCPasses
from infer.core.files import digest, read_json, read_tensors, write_bytes, write_json
from infer.data.batches import Indices, in_order, loader
from infer.models.modules import CompensatorModule, Passes, UFCOptions
from infer.training import microbatching as passes
from infer.training.context import Bench
from infer.training.fit import fit, forget
from infer.training.teachers import Teacher

log = logging.getLogger("infer")


class Compensators:
    """Optimises compensators against every teacher, and keeps what is done with the teacher.

    ``seconds``: what they took, those kept from earlier runs counted in; ``spent``: what this run waited for them.
    """

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        self.teachers = teachers
        self.seconds = 0.0
        self.spent = 0.0

    def __call__(self, bench: Bench, folder: Path, naturals: Tensor, targets: Tensor) -> Tensor:
        """Compensators float32 [K, M, ch, H, W] of ``naturals`` uint8 [K, C, ch, H, W]; ``folder`` is the run's."""
        if not len(naturals):
            return torch.empty(0, len(self.teachers), *naturals.shape[2:])
        start = time.perf_counter()
        made = torch.stack(
            [self._optimise(bench, folder, teacher, naturals, targets) for teacher in self.teachers], dim=1
        )
        self.spent += time.perf_counter() - start
        return made

    def _optimise(self, bench: Bench, folder: Path, teacher: Teacher, naturals: Tensor, targets: Tensor) -> Tensor:
        assert isinstance(bench.config, DistillConfig)
        # Kept with the teacher, named by all that decides them: runs that differ in students or labels share them.
        made_of = {
            "teacher": digest(teacher.file.read_bytes()),
            "naturals": digest(naturals.contiguous().numpy().tobytes() + targets.contiguous().numpy().tobytes()),
            "recipe": asdict(bench.config.recipe.ufc),
            "seed": bench.config.seed,
            "precision": bench.hardware.precision,
            **bench.given_moments,
        }
        file = teacher.file.parent / f"compensators-{digest(made_of)}.safetensors"
        with bench.alone(file.with_suffix(".lock"), f"compensators of {teacher.name}"):
            if not file.exists():
                _fit(bench, folder, teacher, naturals, targets, file)
            forget(folder, file.stem)  # also that of a run which was killed between the two
        done = read_tensors(file)
        self.seconds += float(done["seconds"])
        return done["u"]


def _fit(bench: Bench, folder: Path, teacher: Teacher, naturals: Tensor, targets: Tensor, file: Path) -> None:
    assert isinstance(bench.config, DistillConfig)
    recipe, how = bench.config.recipe.ufc, bench.config.distill
    options = UFCOptions(**asdict(recipe))
    module = CompensatorModule(
        teacher.name, teacher.network, naturals, targets, bench.data.moments, options, compile=how.compile
    )
    module.passes = _passes(bench, module, teacher, how)
    log.info(
        "compensators of %s: %d rounds of %d images, %d rounds of %d a pass",
        teacher.name,
        *targets.shape,
        module.passes.rounds,
        module.passes.classes,
    )
    batches = loader(Indices(), partial(in_order, recipe.steps, 1), recipe.steps)
    seconds = fit(module, batches, bench.config.seed, folder, file.stem, bench.hardware, bench.loggers)
    content = {"u": module.u.detach().cpu(), "seconds": torch.tensor(seconds)}
    write_bytes(file, to_safetensors(content))


def _passes(bench: Bench, module: CompensatorModule, teacher: Teacher, how: UFCPasses) -> Passes:
    """The passes measured for this teacher on this machine, once: a run that goes on cuts its steps alike."""
    device = bench.hardware.device
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    measured_on = {
        "shape": list(module.naturals.shape),
        "device": gpu or f"{platform.machine()}, {torch.get_num_threads()} threads",
        "precision": bench.hardware.precision,
        "torch": torch.__version__,
        **asdict(how),
    }
    file = teacher.file.parent / f"passes-{digest(measured_on)}.json"
    kept = read_json(file)
    if kept is None:
        log.info("compensators of %s: measuring how to cut a step", teacher.name)
        found = passes.choose(module, device, bench.hardware.precision, how.rounds, how.chunk)
        kept = {**asdict(found), "measured_on": measured_on}
        write_json(file, kept)
    return Passes(kept["rounds"], kept["classes"])
