"""budget=auto: the settings that do best on pictures held out of the training set, not on the test set."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from infer.core.errors import UserError
from infer.core.files import reserve_folder, write_json
from infer.core.identity import as_identity
from infer.core.progress import stage, unnumbered
from infer.core.records import read_record
from infer.data import Splits
from infer.pipeline.assemble import Assembler
from infer.pipeline.compare import table_steps
from infer.pipeline.options import DistillOptions, SearchOptions
from infer.pipeline.records import Choice
from infer.training.records import RESULT
from infer.training.students import Student, student_in_folder
from infer.training.training_set import TrainingSet

log = logging.getLogger("infer")

_SEED = 0
"""Of every search, so that runs of all seeds share it."""


class _Search(BaseModel):
    """What result.json says of a search: the choices that were tried, and how many were not."""

    choices: Annotated[list[Choice], Field(min_length=1)]
    held_out: Annotated[int, Field(ge=1)]
    left_out: Annotated[int, Field(ge=0)]


def require_choices(assembler: Assembler, options: DistillOptions) -> None:
    """Check, before anything is trained, that every combination of ``budget.choices`` can be tried.

    Args:
        assembler: of the run, with the names of its teachers; see :func:`infer.pipeline.assemble.planned`.
        options: of the run.

    Raises:
        UserError: where a class has no picture to hold out, or the data or the budget are too small for a combination.
    """
    context, share = assembler.context, options.search.held_out
    less = replace(context, data=context.data.held_out(share, _SEED))
    for choice in combinations(options):
        chosen = options.chosen(choice)
        tried = replace(assembler, options=chosen.set_options(chosen.method))
        tried.require_possible()
        try:
            replace(tried, context=less).require_possible()
        except UserError as error:
            raise UserError(f"{error} (budget.choices are tried without search.held_out={share})") from error


def combinations(options: DistillOptions) -> list[dict[str, Any]]:
    """Return every combination of the choices; none where nothing is to be chosen."""
    choices = options.budget.choices.values
    if not choices:
        return []
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


@dataclass(frozen=True)
class BudgetSearch:
    """Tries every combination of ``budget.choices``.

    Each is assembled without the held-out train pictures and taught to one student of the first backbone, whose
    accuracy is measured on them. The teachers have seen these pictures; all choices share that advantage. The search
    has its own seed, so runs of other seeds find the same choice.

    Args:
        assembler: of the run.
        options: of the run.
    """

    assembler: Assembler
    options: DistillOptions

    @property
    def count(self) -> int:
        """Number of combinations, of which ``report.time_budget`` may leave some out."""
        return len(combinations(self.options))

    def run(self, place: Path) -> tuple[DistillOptions, list[dict[str, Any]]]:
        """Return the options with the best choice, and the record of every choice that was tried.

        The result lies in ``place``: a combination that an earlier run left out is not tried later.
        """
        choices = self.options.budget.choices.values
        if not choices:
            return self.options, []
        context = self.assembler.context
        stage("Choosing %s on held-out pictures", ", ".join(choices))
        folder = reserve_folder(place, self._identity())
        with context.lock(folder / ".lock", "the choice of the budget"), unnumbered():
            known = context.from_first("the result of the search", lambda: self._known(folder))
            tried = (known or self._try_all(folder))["choices"]
        best = max(tried, key=lambda choice: choice["accuracy"])
        choice = {key: best[key] for key in choices}
        count = f"{len(tried)} of {self.count} choices tried"
        log.info("Chosen on held-out pictures: %s (%s; %s)", _formatted(choice), count, folder)
        return self.options.chosen(choice), tried

    def _known(self, folder: Path) -> dict[str, Any] | None:
        """Return the result of an earlier run; None where there is none, or one of other choices."""
        found = read_record(folder / RESULT, _Search, "the choices are tried again")
        expected = combinations(self.options)
        keys = self.options.budget.choices.values
        known = found and all({key: tried.get(key) for key in keys} in expected for tried in found["choices"])
        return found if known else None

    def _identity(self) -> dict[str, Any]:
        options = self.options
        other = {} if options.search == SearchOptions() else {"search": as_identity(options.search)}
        return self.assembler.context.identity(
            **other,
            teachers={teacher.name: teacher.accuracy for teacher in self.assembler.teachers},
            **{key: as_identity(getattr(options, key)) for key in ("budget", "mixing", "recipe", "method")},
            labels={**options.labels.identity, "compensators": options.labels.smooth_noise},
            student=options.students.backbones[0],
            ipc=options.ipc,
        )

    def _try_all(self, folder: Path) -> dict[str, Any]:
        """Try the combinations that are expected to end within report.time_budget; the first always."""
        context, seconds = self.assembler.context, self.options.report.seconds
        data = context.data.held_out(self.options.search.held_out, _SEED)
        tried: list[dict[str, Any]] = []
        to_try = combinations(self.options)
        began = time.perf_counter()
        for number, choice in enumerate(to_try):
            spent = context.from_first("the time spent", lambda: time.perf_counter() - began)
            if seconds is not None and number and spent * (number + 1) / number > seconds:
                log.warning("budget: %d of %d choices tried: report.time_budget is spent", number, len(to_try))
                break
            where = folder / "-".join(f"{key}={value}" for key, value in choice.items())
            measured = self._measured(replace(self.options.chosen(choice), seed=_SEED), data, where)
            tried.append({**choice, **measured})
            log.info("budget: %s: %.2f %% of the held-out pictures", _formatted(choice), 100 * measured["accuracy"])
        result = {"choices": tried, "held_out": len(data.test), "left_out": len(to_try) - len(tried)}
        write_json(folder / RESULT, result)
        return result

    def _measured(self, options: DistillOptions, data: Splits, folder: Path) -> dict[str, Any]:
        """Return the set's numbers of images and labels, and its student's accuracy on the held-out pictures."""
        file = folder / "choice.json"  # of a run that was stopped
        known = self.assembler.context.from_first(
            f"the choice {folder.name}", lambda: read_record(file, Choice, "it is measured again")
        )
        if known is not None:
            return known
        began = time.perf_counter()
        context = replace(self.assembler.context, data=data, report=None)
        assembler = replace(
            self.assembler,
            context=context,
            options=options.set_options(options.method),
            order=data.picks(_SEED),
            folder=folder,
        )
        distilled = assembler.create()
        steps = table_steps(options, context, distilled.header.labels == "dynamic")
        name = options.students.backbones[0]
        student = Student(f"{name}-auto", name, options.recipe.student, options.mixing, steps, _SEED)
        result = student_in_folder(context, student, TrainingSet.of_set(distilled, assembler.networks), folder)
        measured = {
            "naturals": len(distilled.naturals),
            "labels": len(distilled),
            "accuracy": result["accuracy"],
            "seconds": round(time.perf_counter() - began, 2),
        }
        write_json(file, measured)
        return measured


def _formatted(choice: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in choice.items())
