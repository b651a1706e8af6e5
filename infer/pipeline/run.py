"""A run of distill.py: teachers, a distilled set, students, a report, in one folder."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from infer.core.errors import UserError
from infer.core.files import SETTINGS, find_folder, read_json, reserve_folder, sweep_temporaries, write_json
from infer.core.forecast import forecast, forecasting
from infer.core.progress import counted, rank, stage, stages, stages_left
from infer.core.version import __version__
from infer.data.summary import summarise
from infer.distilled import DistilledSet, load
from infer.metrics.ranking import ddranking_scores
from infer.models.weights import frozen, load_weights
from infer.pipeline import timed
from infer.pipeline.analysed import is_analysed, lacks_random
from infer.pipeline.assemble import Assembler
from infer.pipeline.baselines import ComparedSets
from infer.pipeline.compare import Row, missing_rows, threads_of_students
from infer.pipeline.curve import LearningCurve
from infer.pipeline.next_steps import after_distilling
from infer.pipeline.options import DistillOptions
from infer.pipeline.pieces import stages_of
from infer.pipeline.records import ANALYSIS, ARRAYS, FILE, analysis_digests, read_result, set_digests
from infer.pipeline.results import machine, set_facts
from infer.pipeline.run_folder import Backbones, Run, run_name
from infer.pipeline.search import BudgetSearch
from infer.pipeline.selected import SELECTED, write_selected
from infer.pipeline.suspects import thumbnails, with_suspects
from infer.pipeline.teachers import trained_teachers
from infer.report import datasheet, pictures, table, tracking
from infer.report.analysis import REPORTED, AnalysisInputs, Compression, ReportArrays, analyse, usable
from infer.report.curve import recommendation
from infer.report.verdict import decide
from infer.training.compensators import Compensators
from infer.training.jobs import threads_of_each
from infer.training.metrics_file import MetricsFile
from infer.training.records import RESULT
from infer.training.students import learns_from_classes
from infer.training.teachers import Teacher
from infer.training.workers import workers

log = logging.getLogger("infer")

Report = Callable[[int, float], None]

_IMAGES = "images"


def distill(options: DistillOptions, backbones: Backbones, quiet: bool = False) -> dict[str, Any]:
    """Run ``options`` and print the comparison and what to do next; with ``dry_run`` print only its state.

    Args:
        options: of the run.
        backbones: options of networks that are not known by their name.
        quiet: print neither, as for a job of a sweep, whose table comes at its end.

    Returns:
        The content of result.json, or the state.
    """
    if options.dry_run:
        return plan(options, backbones)
    result, folder = create(options, backbones)
    if rank() == 0 and not quiet:
        table.show(result)
        print(*after_distilling(result, folder, folder / FILE, options.logger), sep="\n")
    return result


def plan(options: DistillOptions, backbones: Backbones) -> dict[str, Any]:
    """Print and return the state of the run, finished, unfinished or new, and its folder. Nothing is created."""
    run = Run.prepare(options, backbones, timed.whole_curve())
    folder, reserved = find_folder(run.place, run.settings, run.is_same)
    result = read_result(folder) if reserved else None
    lacking = missing_rows(options, result["students"]) if result else []
    state = "finished" if run.is_finished(result) else "unfinished" if reserved else "new"
    to_come = f"   to come: {', '.join(source for _, source in lacking)}" if lacking else ""
    print(f"{state:<12}{folder}{to_come}")
    return {"state": state, "folder": str(folder)}


def create(options: DistillOptions, backbones: Backbones, report: Report | None = None) -> tuple[dict[str, Any], Path]:
    """Return the content of result.json and the folder of the run, created or found finished.

    Args:
        options: of the run.
        backbones: options of networks that are not known by their name.
        report: called with the step and the accuracy of its students in training.
    """
    run = Run.prepare(options, backbones, timed.whole_curve())
    _, begun = find_folder(run.place, run.settings, run.is_same)
    folder = reserve_folder(run.place, run.settings, run.is_same)
    run = replace(run, context=replace(run.context, report=report))
    with run.context.lock(folder / ".lock", str(folder)):
        result = run.context.from_first("the result of the run", lambda: read_result(folder))
        if result is not None and run.is_finished(result):
            log.info("finished before: %s", folder)
            result = _reported(run, folder, with_suspects(run, folder, result))
        else:
            result = _logged(run, folder, result)
        if rank() == 0 and not (folder / _IMAGES).is_dir():  # they were deleted
            pictures.draw(_load(folder / FILE), folder / _IMAGES)
        sweep_temporaries(folder)  # of processes that this one started
        return timed.recorded(result, folder / RESULT, begun), folder


def _logged(run: Run, folder: Path, before: dict[str, Any] | None) -> dict[str, Any]:
    """Create the result with the loggers of the run."""
    options, data = run.options, run.context.data
    name = f"{data.name}-{run_name(options)}-seed{options.seed}"
    tags = [data.name, options.method.name, f"ipc{options.ipc}", options.labels.kind]
    with tracking.loggers(options.logger, folder, name, "distill", tags, run.settings) as loggers:
        context = replace(run.context, loggers=loggers)
        planned = stages_of(options, data, _known_rows(options, before), before)
        with workers(), stages(len(planned)), forecasting([*chain(*planned)], timed.end()):
            result, teachers = _distill(replace(run, context=context), folder, before)
            write_json(folder / RESULT, result)
            result = with_suspects(run, folder, result, teachers)
        tracking.log_results([MetricsFile(folder), *loggers], result)
        result = _reported(run, folder, result)
        files = {teacher.name: teacher.file for teacher in teachers if teacher.file}
        tracking.log_artifacts(loggers, result, folder, files)
    return result


def _distill(run: Run, folder: Path, before: Mapping[str, Any] | None) -> tuple[dict[str, Any], list[Teacher]]:
    """Return the run's result and its teachers.

    Where a result was there ``before``, its set stays and rows are added to its table. The set is on disk, and recorded
    there, before its students start: a run that is stopped never creates another.
    """
    options = run.options
    names = options.teachers.backbones
    stage("Training %s (%s)", counted(len(names), "teacher"), ", ".join(names))
    teachers = trained_teachers(run.context, options)
    compensators = Compensators(teachers, options.recipe.ufc, options.distill)
    order = run.context.data.picks(options.seed)
    settings = options.set_options(options.method)
    provenance = read_json(folder / SETTINGS)  # of the first command: others may ask for more students of the set
    assembler = Assembler(run.context, settings, order, teachers, compensators, folder, provenance)
    search = BudgetSearch(assembler, timed.for_choices(options))
    options, choices = search.run(run.place.with_name("auto"))
    known = _known_rows(options, before)
    if choices:  # they decide the stages, and an earlier run may have tried them
        _, *rest = stages_of(options, run.context.data, known, before)
        stages_left(len(rest))
        forecast().replan([*chain(*rest)])
    assembler = replace(assembler, options=options.set_options(options.method))
    if before:
        distilled, made = _load(folder / FILE), dict(before)
    else:
        distilled, made = _create_set(assembler, options, folder)
        made |= {"choices": choices, "digests": set_digests(folder, teachers)}
        write_json(folder / RESULT, made)
    sets = ComparedSets(assembler, distilled)
    stage("Training %s", timed.students(options, len(missing_rows(options, known or []))))
    options, rows = timed.compared(sets, options, folder, known or [])
    asked = options.report.language and not is_analysed(options, before)
    analysed = _analysed(sets, options, rows, folder) if asked else {}
    curve = LearningCurve(sets, timed.for_curve(options), rows, made, folder, timed.whole_curve()).measure()
    seconds = {**made["seconds"], "students": round(sum(row["seconds"] for row in rows), 2), "total": 0.0}
    if any(row not in rows for row in made["students"]):  # an analysis is of the rows that were
        made = {key: value for key, value in made.items() if key not in ANALYSIS}
    result = {
        **made,
        **analysed,
        **curve,
        "students": rows,
        "scores": {name: ddranking_scores(rows, name) for name in dict.fromkeys(row["backbone"] for row in rows)},
        "seconds": {**seconds, "total": round(sum(seconds.values()), 2)},
        "hardware": {**machine(), "training_threads": _threads(run.options, options)},
        "version": __version__,
    }
    return result, teachers


def _threads(asked: DistillOptions, options: DistillOptions) -> dict[str, int]:
    """Return the threads of each training: of teachers, as ``asked``, or their compensators, and of students."""
    teachers = threads_of_each(asked.trainer, len(asked.teachers.backbones))
    return {"teachers": teachers, "students": threads_of_students(options)}


def _known_rows(options: DistillOptions, before: Mapping[str, Any] | None) -> list[Row] | None:
    """Return the rows of an earlier command that stay: an analysis reads weights; None where the set is created."""
    if before is None:
        return None
    stay = not options.report.language or is_analysed(options, before)
    return [row for row in before["students"] if stay or usable(row)]


def _create_set(assembler: Assembler, options: DistillOptions, folder: Path) -> tuple[DistilledSet, dict[str, Any]]:
    """Create, save and draw the set; return it and what the result says of it."""
    start, compensators = time.perf_counter(), assembler.compensators
    assert compensators is not None
    distilled = assembler.create()
    size = distilled.save(folder / FILE)
    if rank() == 0:
        write_selected(assembler, options.dataset.root, folder / SELECTED)
    distilled = _read_back(distilled, folder / FILE)
    made = set_facts(assembler, options, distilled, size)
    made["seconds"] = {
        "teachers": round(sum(teacher.seconds for teacher in assembler.teachers), 2),
        "distill": round(compensators.seconds, 2),
        "assemble": round(max(0.0, time.perf_counter() - start - compensators.waited), 2),
    }
    pictures.draw(distilled, folder / _IMAGES)
    return distilled, {**made, "students": []}


def _load(file: Path) -> DistilledSet:
    """Load the file of a run, however large it is: this program wrote it."""
    return load(file, max_bytes=sys.maxsize)


def _read_back(distilled: DistilledSet, file: Path) -> DistilledSet:
    """Read the file that ``distilled`` was saved to; a file that is not read as it was written does not stay."""
    try:
        found = _load(file)
        for part in ("naturals", "natural_targets", "compensators", "labels", "choices"):
            written, read = getattr(distilled, part), getattr(found, part)
            if (written is None) != (read is None) or (written is not None and not torch.equal(written, read)):
                raise UserError(f"{file}: its {part} are not read as they were written; choose another budget.codec")
    except UserError:
        file.unlink(missing_ok=True)
        raise
    return found


def _analysed(sets: ComparedSets, options: DistillOptions, rows: Sequence[Row], folder: Path) -> dict[str, Any]:
    """Analyse the first student of the table for the report; the tensors behind its plots are written."""
    stage("Analysing the students for the report")
    assembler = sets.assembler
    context, student = assembler.context, options.students.backbones[0]
    own = {row["source"]: row for row in rows if row["backbone"] == student}
    budget = options.budget
    best = max(assembler.teachers, key=lambda teacher: teacher.balanced_accuracy).network
    inputs = AnalysisInputs(
        context.data,
        sets["distilled"],
        sets["random"],
        {source: _students(assembler, student, own[source]["weights"]) for source in REPORTED},
        best.to(context.trainer.device),
        context.trainer.device,
        context.balanced,
        Compression(budget.codec, budget.quality, budget.speed, budget.subsampling),
    )
    found, arrays = analyse(inputs)
    arrays.save(folder / ARRAYS)
    added = {"student": student, "seeds": own["distilled"]["seeds"], "real_coded": assembler.real_bytes}
    added["hard_labels"] = learns_from_classes(context, student, sets["distilled"])
    analysed = {"data": summarise(context.data, options.dataset.root), "evidence": {**added, **found}}
    return {**analysed, "analysis_digests": analysis_digests(folder, analysed)}


def _students(assembler: Assembler, name: str, files: Sequence[str]) -> list[nn.Module]:
    """Load trained students."""
    networks = [assembler.context.network(name) for _ in files]
    for network, file in zip(networks, files, strict=True):
        load_weights(network, Path(file))
        frozen(network.to(assembler.context.trainer.device))
    return networks


def _reported(run: Run, folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Return the result, with its verdict where ``report.language`` is set; write both and the datasheet."""
    if rank() > 0:
        return result
    distilled = _load(folder / FILE)
    result = {**result, **recommendation(result, run.options.report.tolerance)}
    if run.options.report.language and lacks_random(result):
        log.warning(
            "%s: stays as it is: it lacks the comparison with random images, and the weights of its students were "
            "deleted; remove the folder to have everything made again",
            folder / "report.html",
        )
    elif run.options.report.language:
        from infer.report import brief, page  # matplotlib is an extra

        result = {**result, **decide(result, run.options.report)}
        suspects = thumbnails(run.context.data, result)
        page.write(result, ReportArrays.load(folder / ARRAYS), distilled, folder / "report.html", suspects)
        brief.write(result, distilled, folder / "brief.md")
    write_json(folder / RESULT, result)
    datasheet.write(result, distilled, folder / "datasheet.md")
    return result
