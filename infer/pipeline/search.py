"""budget=auto: the split of the bytes that does best on pictures held out of the training set, not on the test set."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from infer.cli.schema import DistillConfig, backbone
from infer.core.files import claim, read_json, write_json
from infer.data import Splits
from infer.data.pictures import stratified
from infer.pipeline.assemble import Assembly
from infer.training.students import StudentData, table_steps, train_student

log = logging.getLogger("infer")

_HELD_OUT = 0.1
_SEED = 0


def check(data: Splits) -> None:
    """Refuse, before anything is trained, pictures of which none can be held out: a class of one has none to give."""
    if data.validation is None:
        stratified(data.train.targets, _HELD_OUT, _SEED)


def allocate(assembly: Assembly, seconds: float | None = None) -> tuple[DistillConfig, list[dict[str, Any]]]:
    """The configuration with the best of ``budget.choices`` and, for the record, how each of them did.

    Every combination of the choices is assembled from nine tenths of the train pictures and taught to one student of
    the first backbone, whose accuracy is measured on the last tenth. The teachers have seen these; the choices share
    that advantage. All of it has a seed of its own: runs of other seeds find the choice made. Of ``seconds`` that are
    given, no combination is begun that is not expected to end within them; the first always is.
    What is left out stays so: the choice is made once.
    """
    config = assembly.bench.config
    assert isinstance(config, DistillConfig)
    choices = config.budget.choices.values
    if not choices:
        return config, []
    whole = assembly.bench
    settings = whole.identity(
        teachers={teacher.name: teacher.accuracy for teacher in assembly.teachers},
        **{key: asdict(getattr(config, key)) for key in ("budget", "labels", "mixing", "recipe", "method")},
        student=config.students.backbones[0],
        ipc=config.ipc,
    )
    folder = claim(
        Path(config.output, "distill", whole.data.name, f"{config.method.name}-ipc{config.ipc}", "auto"), settings
    )
    with whole.alone(folder / ".lock", "the choice of the budget"):
        tried = read_json(folder / "result.json") or _try_all(assembly, folder, seconds)
    best = max(tried["choices"], key=lambda choice: choice["accuracy"])
    choice = {key: best[key] for key in choices}
    log.info("budget: %s did best on held-out pictures (%s)", _named(choice), folder)
    return config.chosen(choice), tried["choices"]


def _try_all(assembly: Assembly, folder: Path, seconds: float | None) -> dict[str, Any]:
    """Every combination of the choices, as far as ``seconds`` reach; kept in ``folder``."""
    whole = assembly.bench
    config = whole.config
    assert isinstance(config, DistillConfig)
    choices = config.budget.choices.values
    data = whole.data.held_out(_HELD_OUT, _SEED)
    tried: dict[str, Any] = {"choices": [], "held_out": len(data.test)}
    combinations = [*itertools.product(*choices.values())]
    began = time.perf_counter()
    for number, values in enumerate(combinations):
        choice = dict(zip(choices, values, strict=True))
        spent = time.perf_counter() - began
        if seconds is not None and number and spent * (number + 1) / number > seconds:
            log.warning("budget: %d of %d choices tried, for want of time", number, len(combinations))
            break
        bench = replace(whole, data=data, config=replace(config.chosen(choice), seed=_SEED), report=None)
        where = folder / "-".join(f"{key}={value}" for key, value in choice.items())
        measured = _measured(replace(assembly, bench=bench, picks=data.picks(_SEED), folder=where))
        log.info("budget: %s: %.2f %% of the held-out pictures", _named(choice), 100 * measured["accuracy"])
        tried["choices"].append({**choice, **measured})
    tried["left_out"] = len(combinations) - len(tried["choices"])
    write_json(folder / "result.json", tried)
    return tried


def _measured(assembly: Assembly) -> dict[str, Any]:
    """How many naturals and labels this assembly's set has, and its student's accuracy on the held-out pictures."""
    bench, config = assembly.bench, assembly.bench.config
    assert isinstance(config, DistillConfig)
    file = assembly.folder / "choice.json"
    known = read_json(file)  # of a run that was stopped
    if known is not None:
        return known
    began = time.perf_counter()
    distilled = assembly.of(config.method)
    lessons = StudentData.of_set(distilled, [teacher.network for teacher in assembly.teachers])
    steps = table_steps(bench, distilled.header.labels == "dynamic")
    name = config.students.backbones[0]
    taught = train_student(bench, f"{name}-auto", backbone(name), lessons, steps, _SEED, assembly.folder)
    measured = {
        "naturals": len(distilled.targets),
        "labels": len(distilled),
        "accuracy": taught["accuracy"],
        "seconds": round(time.perf_counter() - began, 2),
    }
    write_json(file, measured)
    return measured


def _named(choice: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in choice.items())
