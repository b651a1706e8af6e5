"""The folder of a run: its name, its identity, and what lies in it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infer.core.errors import UserError, shown
from infer.core.extras import require
from infer.core.folder_names import folder_name
from infer.core.identity import as_identity
from infer.core.paths import user_path
from infer.core.progress import rank
from infer.data import read_dataset
from infer.models.options import BackboneOptions
from infer.pipeline.analysed import is_analysed
from infer.pipeline.assemble import planned
from infer.pipeline.compare import missing_rows
from infer.pipeline.curve import missing_budgets, require_budgets
from infer.pipeline.options import BaseOptions, DistillOptions, SearchOptions
from infer.pipeline.search import require_choices
from infer.pipeline.update import earlier_file
from infer.training.context import Context
from infer.training.teachers import require_teachers

log = logging.getLogger("infer")

Backbones = Mapping[str, BackboneOptions]


def run_name(options: DistillOptions) -> str:
    """Return the name of a run's folder, <method>-ipc<N>, or <method>-<N>bytes where ``budget.bytes`` is given."""
    size = f"ipc{options.ipc}" if options.budget.bytes is None else f"{options.budget.bytes}bytes"
    return f"{folder_name('method.name', options.method.name)}-{size}"


def context_of(options: BaseOptions, backbones: Backbones) -> Context:
    """Read the data and check the devices of a run."""
    options.trainer.require()
    if rank() > 0:
        log.setLevel(logging.WARNING)
    dataset, stored = options.dataset, None
    if isinstance(options, DistillOptions) and options.update is not None:
        earlier = earlier_file(options.update)
        dataset, stored = earlier.shape_in(dataset), earlier.stored
    return Context(read_dataset(dataset, stored), options.augment, dataset.balanced, options.trainer, backbones)


def identity(options: BaseOptions) -> dict[str, Any]:
    """Return the options that decide what a run creates, by the names of version 0.1.

    Where it is written, which loggers watch, on what machine it runs and what it is compared with are not among them.
    """
    content = as_identity(options)
    for key in ("output", "logger", "trainer", "dataset", "distill", "published", "report", "tune", "dry_run", "time"):
        content.pop(key, None)
    if content.get("search") == as_identity(SearchOptions()):
        del content["search"]
    content["students"].pop("sources")
    content.get("source", {}).pop("path", None)
    if "update" in content:
        content["update"] = earlier_file(content["update"]).digest
    return {**content, "labels": options.labels.identity}


def is_same_set(known: Mapping[str, Any], wanted: Mapping[str, Any], with_student: bool) -> bool:
    """Return whether two identities are those of the same set, whatever students are compared on it.

    Args:
        known: of a run on disk, of this or an earlier version.
        wanted: of a run.
        with_student: whether the first student decides the set too: as its proxy model, or for ``budget.choices``.
    """
    try:
        first = [settings["students"]["backbones"][0] for settings in (known, wanted)]
        names = [*wanted["teachers"]["backbones"], *(first[1:] if with_student else [])]
        networks = [[settings["backbones"][name] for name in names] for settings in (known, wanted)]
    except (LookupError, TypeError):
        return False
    others = [{**settings, "students": None, "backbones": None} for settings in (known, wanted)]
    return others[0] == others[1] and networks[0] == networks[1] and (first[0] == first[1] or not with_student)


@dataclass(frozen=True)
class Run:
    """A run that may start: its options are checked and its data are read.

    Args:
        options: of the run.
        context: its data, networks and devices.
        place: the folder it would have to itself.
        settings: its identity.
    """

    options: DistillOptions
    context: Context
    place: Path
    settings: Mapping[str, Any]

    @classmethod
    def prepare(cls, options: DistillOptions, backbones: Backbones, curve: Sequence[float] | None = None) -> Run:
        """Check everything that can be checked before something is trained.

        Args:
            options: of the run.
            backbones: options of networks that are not known by their name.
            curve: points that the learning curve may get; None: those of ``options``.

        Raises:
            UserError: for what cannot be created.
            ModuleNotFoundError: for a logger or a report whose library is not installed.
        """
        require(*options.logger, *(("matplotlib", "jinja2") if options.report.language else ()))
        if not missing_rows(options, []):
            raise UserError(
                f"students.sources={shown(options.students.sources)}: no row of its own with "
                f"labels={options.labels.kind}; choose distilled, random or real too"
            )
        context = context_of(options, backbones)
        names = options.teachers.backbones + options.students.backbones
        used = {name: as_identity(context.backbone(name)) for name in names}
        settings = context.identity(**identity(options), backbones=used)
        assembler = planned(context, options.set_options(options.method), options.teachers.backbones, settings)
        if options.budget.choices.values:
            require_choices(assembler, options)
        else:
            assembler.require_possible()
        require_budgets(assembler, options, (options.report.curve or []) if curve is None else curve)
        require_teachers(context, options.teachers.backbones, options.students.backbones)
        data = folder_name("dataset.name", context.data.name)
        place = user_path(options.output) / "distill" / data / run_name(options) / f"seed{options.seed}"
        return cls(options, context, place, settings)

    def is_same(self, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
        """Return whether a folder with the settings ``known`` has the set of this run, whose settings are ``wanted``.

        Students of another number or backbone come to its table.
        """
        options = self.options
        chosen = bool(options.budget.choices.values)
        return is_same_set(known, wanted, chosen or options.set_options(options.method).uses_proxy)

    def is_finished(self, result: Mapping[str, Any] | None) -> bool:
        """Return whether ``result`` has every row, and every number of the report, that the options ask for."""
        if result is None or missing_rows(self.options, result["students"]):
            return False
        if not {"scores", "hardware"} <= set(result) or missing_budgets(self.options, self.context.data, result):
            return False
        return not self.options.report.language or is_analysed(self.options, result)
