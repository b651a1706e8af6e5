"""The learning curve of a run: students of the distilled set, and of random pictures, at multiples of its budget."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from infer.core.errors import UserError, shown
from infer.core.files import reserve_folder, write_json
from infer.core.progress import counted, stage, unnumbered
from infer.core.records import read_record
from infer.core.sources import SOURCES
from infer.data import Splits
from infer.distilled import load
from infer.pipeline.assemble import Assembler
from infer.pipeline.baselines import ComparedSets
from infer.pipeline.compare import Row, compare
from infer.pipeline.options import DistillOptions
from infer.pipeline.records import FILE
from infer.pipeline.records import Row as RowRecord
from infer.pipeline.search import combinations
from infer.report.curve import curve_point
from infer.training.context import Context
from infer.training.records import RESULT

log = logging.getLogger("infer")

_SOURCES = ("distilled", "random", "random_hard")
"""What students are trained on at each budget: the file, random pictures like it, and random pictures with classes."""


class _Rows(BaseModel):
    """What result.json says of a budget of the curve."""

    students: list[RowRecord]


def curve_budgets(options: DistillOptions, data: Splits) -> list[int]:
    """Return the budgets in bytes that the curve of ``options`` has points at: the smallest, and cheapest, first.

    The run's own budget is one of them. There is none where no curve is asked for.
    """
    if options.report.curve is None:
        return []
    own = own_budget(options, data)
    return sorted({own, *(max(1, round(multiple * own)) for multiple in options.report.curve)})


def require_budgets(assembler: Assembler, options: DistillOptions, multiples: Sequence[float]) -> None:
    """Check, before anything is trained, that a file can be made at every budget of a curve, with every choice.

    Args:
        assembler: of the run, with the names of its teachers; see :func:`infer.pipeline.assemble.planned`.
        options: of the run.
        multiples: of its budget.

    Raises:
        UserError: where it is certain that there is none, such as with too few bytes for an image of each class.
    """
    for choice in combinations(options) or [{}]:
        chosen = options.chosen(choice) if choice else options
        own = own_budget(chosen, assembler.context.data) if multiples else 0
        for multiple in multiples:
            budget = replace(chosen.budget, bytes=max(1, round(multiple * own)))
            try:
                replace(
                    assembler, options=replace(chosen, budget=budget).set_options(options.method)
                ).require_possible()
            except UserError as error:
                raise UserError(
                    f"report.curve={shown([*multiples])}: there is no file of {multiple:g} times the budget "
                    f"({str(error).partition(';')[0]}); leave {multiple:g} out, or change the budget"
                ) from error


def own_budget(options: DistillOptions, data: Splits) -> int:
    """Return the bytes of the file that a run is asked for."""
    return options.set_options(options.method).file_bytes(len(data.classes), math.prod(data.train.shape))


def missing_budgets(options: DistillOptions, data: Splits, result: Mapping[str, Any] | None) -> list[int]:
    """Return the budgets of :func:`curve_budgets` at which ``result`` has no point of the students asked for."""
    found = result or {}
    points = {point["budget"] for point in found.get("curve", []) if _is_of(point, options)}
    known = points | {each["budget"] for each in found.get("curve_left_out", []) if each["reason"] != "time"}
    return [budget for budget in curve_budgets(options, data) if budget not in known]


def _is_of(point: Mapping[str, Any], options: DistillOptions) -> bool:
    """Return whether a point is of the students that ``options`` ask for, and of no fewer."""
    return point["backbone"] == options.students.backbones[0] and point["seeds"] >= options.students.seeds


def at_budget(options: DistillOptions, budget: int, own: int) -> DistillOptions:
    """Return the options of the students at one budget, of the first backbone alone.

    Args:
        options: of the run.
        budget: in bytes.
        own: the run's; all pictures are compared with it once, and with no other.
    """
    sources = [*_SOURCES, *(["real"] if budget == own else [])]
    return replace(
        options,
        budget=replace(options.budget, bytes=budget),
        students=replace(options.students, backbones=options.students.backbones[:1], sources=sources),
        report=replace(options.report, language=None, curve=None),
    )


@dataclass(frozen=True)
class LearningCurve:
    """Measures the points of a curve that are missing.

    Args:
        sets: of the run.
        options: of the run, in which nothing is left to be chosen.
        rows: of its table.
        made: the content of its result.json so far: the facts of its set, and an earlier curve.
        folder: the run's. Each budget has a folder of its own below it, and a run that is stopped goes on there.
        multiples: of the budget that were asked for, where ``options`` have those alone that there is time for.
    """

    sets: ComparedSets
    options: DistillOptions
    rows: Sequence[Row]
    made: Mapping[str, Any]
    folder: Path
    multiples: Sequence[float] | None = None

    def measure(self) -> dict[str, Any]:
        """Return ``curve``, its points from the smallest budget to the largest, and ``curve_left_out``.

        A budget is left out where it is too small for a set, where it, or a smaller one, has room for every train
        picture, and where there is no time for it. The run's own budget never is.
        """
        missing = missing_budgets(self.options, self._context.data, self.made)
        if not missing:
            return {}
        stage("Training students for the learning curve (%s)", counted(len(missing), "budget"))
        points = [point for point in self.made.get("curve", []) if _is_of(point, self.options)]
        points = [point for point in points if (point["budget"] or self._own) not in missing]
        known = self.made.get("curve_left_out", [])
        left_out = {each["budget"]: each["reason"] for each in known if each["reason"] != "time"}
        with unnumbered():
            for budget in missing:
                sizes = {point["budget"]: point["pictures"] for point in points if point["source"] == "distilled"}
                if self._ended(budget, sizes, left_out):
                    left_out[budget] = "whole"
                elif isinstance(found := self._points(budget), str):
                    left_out[budget] = found
                else:
                    points += found
        if self.multiples is not None:
            asked = replace(self.options, report=replace(self.options.report, curve=[*self.multiples]))
            sizes = {point["budget"]: point["pictures"] for point in points if point["source"] == "distilled"}
            untried = [each for each in curve_budgets(asked, self._context.data) if each not in {*sizes, *left_out}]
            ended = {budget: self._ended(budget, sizes, left_out) for budget in untried}
            left_out |= {budget: "whole" if ended[budget] else "time" for budget in untried}
        points.sort(key=lambda point: (point["budget"] or math.inf, [*SOURCES].index(point["source"])))
        return {
            "curve": points,
            "curve_left_out": [{"budget": key, "reason": left_out[key]} for key in sorted(left_out)],
        }

    @property
    def _own(self) -> int:
        """The run's budget."""
        return int(self.made["bytes"]["budget"])

    @property
    def _context(self) -> Context:
        return self.sets.assembler.context

    def _ended(self, budget: int, sizes: Mapping[int, int], left_out: Mapping[int, str]) -> bool:
        """Return whether a file of a smaller budget holds, or has room for, every train picture."""
        whole = [size for size, pictures in sizes.items() if pictures >= len(self._context.data.train)]
        whole += [size for size, reason in left_out.items() if reason == "whole"]
        return budget != self._own and min(whole, default=budget) < budget

    def _points(self, budget: int) -> list[dict[str, Any]] | str:
        """Return the points at one budget, or why it is left out."""
        context, options = self._context, at_budget(self.options, budget, self._own)
        place = self.folder / "curve" / f"{budget}bytes"
        place = reserve_folder(place, {"set": self.made["digests"], "budget": budget})
        record = context.from_first(
            f"the budget {budget}", lambda: read_record(place / RESULT, _Rows, "its students are trained again")
        )
        known = list(record["students"]) if record else []
        if budget == self._own:
            found: ComparedSets | str = self.sets
            known += [row for row in self.rows if _is_row_of(row, options)]
        else:
            found = self._sets(options, place)
        if isinstance(found, str):
            return found
        quiet = replace(context, loggers=(), report=None)  # its students have the names of those of the table
        rows = compare(replace(found, assembler=replace(found.assembler, context=quiet)), options, place, known)
        write_json(place / RESULT, {"students": rows})
        counts, balanced = self.made["test_pictures"], context.balanced
        return [curve_point(row, None if row["source"] == "real" else budget, counts, balanced) for row in rows]

    def _sets(self, options: DistillOptions, place: Path) -> ComparedSets | str:
        """Return the sets at another budget than the run's, with its distilled one stored, or why it is left out."""
        run, budget = self.sets.assembler, options.budget.bytes
        given = run.settings or {}
        settings = {**given, "budget": {**given.get("budget", {}), "bytes": budget}}
        assembler = replace(run, options=options.set_options(options.method), folder=place, settings=settings)
        file = place / FILE
        if not self._context.from_first(f"the file {file}", file.is_file):
            assembler = replace(assembler, known_proxy=run.proxy)
            if reason := self._context.from_first(f"the images of {file}", lambda: _reason(assembler)):
                return reason
            assembler.create().save(file)
        return ComparedSets(assembler, load(file, max_bytes=sys.maxsize))


def _reason(assembler: Assembler) -> str | None:
    """Return why a budget is left out: ``small`` or ``whole``; None where it is not."""
    key = assembler.options.size_key
    try:
        count = len(assembler.naturals.targets)
    except UserError as error:
        log.warning("report.curve: %s; the learning curve has no point there", error)
        return "small"
    if count < len(assembler.context.data.train):
        return None
    log.info(
        "report.curve: %s has room for %s, as many as there are; the curve ends before", key, counted(count, "image")
    )
    return "whole"


def _is_row_of(row: Row, options: DistillOptions) -> bool:
    """Return whether a row of the table is one of these; those of earlier versions do not count their pictures."""
    wanted = options.students
    return row["backbone"] in wanted.backbones and row["source"] in wanted.sources and row.get("pictures") is not None
