"""The same result: our compensators against those of the serial reference, from the same teachers, over seeds.

    python benchmarks/agreement.py --seeds 3 --json agreement.json [dataset=cifar10 recipe=cpu ...]

Both are stored, labelled and taught from by the command's own code; a student of each seed trains on either set.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import measure
import serial
import torch
from distillation import final_loss
from hydra import compose, initialize_config_dir
from torch import Tensor

from infer.cli import schema
from infer.models.modules import CompensatorModule, UFCOptions
from infer.pipeline.assemble import Assembly
from infer.pipeline.run import read
from infer.training.compensators import Compensators
from infer.training.context import Bench
from infer.training.fit import Hardware
from infer.training.students import StudentData, student_steps, train_student
from infer.training.teachers import Teacher, train_teachers


def serially(teachers: list[Teacher], bench: Bench) -> Callable[[Tensor, Tensor], Tensor]:
    """What an assembly calls to get compensators, by the reference."""
    how = UFCOptions(**asdict(bench.config.recipe.ufc))

    def compensate(naturals: Tensor, targets: Tensor) -> Tensor:
        made = [
            serial.optimise(each.network, naturals, targets, bench.data.moments, how, bench.config.seed)
            for each in teachers
        ]
        return torch.stack(made, dim=1)

    return compensate


def watched(compensate: Callable[[Tensor, Tensor], Tensor], teachers: list[Teacher], bench: Bench, losses: list[float]):
    """The same, keeping the final loss, the mean over rounds and teachers."""

    def run(naturals: Tensor, targets: Tensor) -> Tensor:
        u = compensate(naturals, targets)
        how = UFCOptions(**asdict(bench.config.recipe.ufc))
        found = []
        for number, each in enumerate(teachers):
            judge = CompensatorModule("t", each.network, naturals, targets, bench.data.moments, how)
            found.append(final_loss(judge, u[:, number]))
        losses.append(statistics.fmean(found))
        return u

    return run


def main() -> None:
    """Parse, run, report."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--json", type=Path)
    made.add_argument("overrides", nargs="*", help="of python distill.py")
    options = made.parse_args()
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        config = schema.checked(compose("distill", options.overrides))
    data, hardware = read(config.dataset), Hardware(**asdict(config.trainer))
    teachers = train_teachers(Bench(data, config, hardware))
    cases = []
    for seed in range(options.seeds):
        bench = Bench(data, replace(config, seed=seed), hardware)
        with tempfile.TemporaryDirectory() as folder:
            paths = {"reference": serially(teachers, bench), "ours": Compensators(bench, teachers, Path(folder))}
            case: dict[str, object] = {"seed": seed}
            for name, compensate in paths.items():
                losses: list[float] = []
                seen = watched(compensate, teachers, bench, losses)
                distilled = Assembly(bench, data.picks(seed), teachers, seen, Path(folder), {}).of(config.method)
                steps = student_steps(bench, len(distilled), len(teachers), False)
                student = config.students.backbones[0]
                where = Path(folder, name)
                taught = train_student(
                    bench, student, schema.backbone(student), StudentData.of_set(distilled, []), steps, seed, where
                )
                case |= {f"loss_{name}": losses[0], f"accuracy_{name}": taught["accuracy"]}
            cases.append(case)
    for key in ("loss_reference", "loss_ours", "accuracy_reference", "accuracy_ours"):
        values = [float(case[key]) for case in cases]  # type: ignore[arg-type]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{key}: {statistics.fmean(values):.4f} ± {spread:.4f}")
    machine = {**measure.machine("cpu"), "overrides": options.overrides}
    measure.report("our compensators against the serial reference's", machine, cases, options.json)


if __name__ == "__main__":
    main()
