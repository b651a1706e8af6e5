"""Agreement: our compensators and those of the serial reference, for the same teachers, over several seeds.

    python benchmarks/agreement.py --seeds 3 --json agreement.json [dataset=cifar10 recipe=cpu ...]

For each seed the two sets of compensators are optimised for the same images, then stored and labelled by the code of
``distill.py``, and one student is trained on each set. The table compares the final losses and the students' accuracy.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import measure
import serial
import torch
from distillation import final_loss
from hydra import compose, initialize_config_dir
from torch import Tensor

from infer.cli import schema
from infer.core.ufc import Problem
from infer.pipeline.assemble import Assembler
from infer.pipeline.options import DistillOptions
from infer.pipeline.run_folder import Backbones, context_of
from infer.training.compensators import Compensators
from infer.training.context import Context
from infer.training.students import Student, student_in_folder
from infer.training.teachers import Teacher, require_above_chance, teacher_in_folder
from infer.training.training_set import TrainingSet


@dataclass
class RecordedCompensators(Compensators):
    """Compensators of this package or of the serial reference, with their final losses.

    Args:
        serially: whether the serial reference optimises them.
        losses: final losses, the mean over rounds and teachers; an entry for each call of :meth:`optimise`.
    """

    serially: bool = False
    losses: list[float] = field(default_factory=list)

    def optimise(self, context: Context, seed: int, folder: Path | None, naturals: Tensor, targets: Tensor) -> Tensor:
        """Optimise the compensators float32 [K, M, ch, H, W] and record their loss."""
        moments = context.data.moments
        if self.serially:
            networks = [teacher.network for teacher in self.teachers]
            found = [serial.optimise(each, naturals, targets, moments, self.options, seed) for each in networks]
            u = torch.stack(found, dim=1)
        else:
            u = super().optimise(context, seed, folder, naturals, targets)
        problems = [Problem(each.network, naturals, targets, self.options, *moments) for each in self.teachers]
        self.losses.append(statistics.fmean(final_loss(problem, u[:, n]) for n, problem in enumerate(problems)))
        return u


def composed(overrides: list[str]) -> tuple[DistillOptions, Backbones]:
    """Return the options of ``python distill.py`` with these overrides, and the backbones that conf/ describes."""
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        options = schema.typed(compose("distill", overrides))
        return options, schema.backbones(options)


def case(
    context: Context, options: DistillOptions, teachers: list[Teacher], seed: int, folder: Path
) -> dict[str, float | int]:
    """Compare the two sets of one seed: the loss of the compensators and the accuracy of a student of each."""
    options = replace(options, seed=seed)
    set_options, order = options.set_options(options.method), context.data.picks(seed)
    recipe, backbone = options.recipe.student, options.students.backbones[0]
    found: dict[str, float | int] = {"seed": seed}
    for name in ("reference", "ours"):
        compensators = RecordedCompensators(teachers, options.recipe.ufc, options.distill, serially=name == "reference")
        distilled = Assembler(context, set_options, order, teachers, compensators, folder, {}).create()
        steps = recipe.steps_of(len(distilled), len(teachers), dynamic=False)
        student = Student(backbone, backbone, recipe, options.mixing, steps, seed)
        result = student_in_folder(context, student, TrainingSet.of_set(distilled, []), folder / name)
        found |= {f"loss_{name}": compensators.losses[0], f"accuracy_{name}": result["accuracy"]}
    return found


def main() -> None:
    """Parse the arguments, compare the seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, counted from 0")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("overrides", nargs="*", help="overrides of python distill.py")
    arguments = parser.parse_args()
    options, backbones = composed(arguments.overrides)
    context = context_of(options, backbones)
    chosen, recipe = options.teachers, options.recipe.teacher
    teachers = [teacher_in_folder(context, name, recipe, chosen.seed, options.output) for name in chosen.backbones]
    require_above_chance(context, teachers, chosen.margin)
    cases: list[Mapping[str, float | int]] = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            cases.append(case(context, options, teachers, seed, Path(folder)))
    for key in ("loss_reference", "loss_ours", "accuracy_reference", "accuracy_ours"):
        values = [each[key] for each in cases]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{key}: {statistics.fmean(values):.4f} ± {spread:.4f}")
    machine = {**measure.machine("cpu"), "overrides": arguments.overrides}
    measure.report("compensators of the serial reference and ours", machine, cases, arguments.json)


if __name__ == "__main__":
    main()
