"""The options of a run; each part is declared beside the code that uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

from infer.core.checks import Choice, Name, Range, check, replaced
from infer.core.durations import check_duration
from infer.core.errors import UserError, shown
from infer.core.options import AugmentOptions, BudgetOptions, LabelOptions, MixingOptions, UFCOptions
from infer.core.sources import REPORTED, SOURCES
from infer.data import DatasetOptions
from infer.models.options import BackboneOptions
from infer.pipeline.set_options import MethodOptions, SetOptions
from infer.pipeline.tune_options import TuneOptions
from infer.report.options import ReportOptions
from infer.training.options import MicroBatchOptions, StudentOptions, TeacherOptions, TrainerOptions


@dataclass(frozen=True)
class TeachersOptions:
    """Which teachers: their ``backbones``, their ``seed``, and the ``margin`` above chance that they must reach."""

    backbones: Annotated[list[str], Name()] = field(
        default_factory=lambda: ["convnet_narrow", "convnet_deep", "resnet_narrow"]
    )
    seed: Annotated[int, Range(0, 2**31)] = 0
    margin: Annotated[float, Range(-1, 1)] = 0.1

    def check_together(self, at: str) -> None:
        """Raise :class:`UserError` unless each backbone is named once."""
        _each_once(f"{at}backbones", self.backbones)


@dataclass(frozen=True)
class StudentsOptions:
    """Which students: their ``backbones``, ``seeds`` students a row, and the ``sources`` they are trained on."""

    backbones: Annotated[list[str], Name()] = field(default_factory=lambda: ["convnet_narrow"])
    seeds: Annotated[int, Range(1, 1000)] = 3
    sources: Annotated[list[str], Choice(*SOURCES)] = field(
        default_factory=lambda: ["distilled", "distilled_hard", "random", "random_static", "random_hard", "real"]
    )

    def check_together(self, at: str) -> None:
        """Raise :class:`UserError` unless each backbone is named once."""
        _each_once(f"{at}backbones", self.backbones)


def _each_once(key: str, names: list[str]) -> None:
    if not names or len(set(names)) != len(names):
        raise UserError(f"{key}={shown(names)}: give one or more backbones, each once")


@dataclass(frozen=True)
class RecipeOptions:
    """How teachers, compensators and students are trained."""

    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    ufc: UFCOptions = field(default_factory=UFCOptions)
    student: StudentOptions = field(default_factory=StudentOptions)


@dataclass(frozen=True)
class BudgetChoices:
    """Values to try of budget.*."""

    codec: list[str] | None = None
    quality: list[int] | None = None


@dataclass(frozen=True)
class LabelsChoices:
    """Values to try of labels.*."""

    share: list[float] | None = None
    candidates: list[int] | None = None
    mixing: list[str] | None = None


@dataclass(frozen=True)
class MixingChoices:
    """Values to try of mixing.*."""

    alpha: list[float] | None = None
    natural_ratio: list[float] | None = None


@dataclass(frozen=True)
class Choices:
    """Values to try on held-out pictures, by the key of the setting."""

    budget: BudgetChoices = field(default_factory=BudgetChoices)
    labels: LabelsChoices = field(default_factory=LabelsChoices)
    mixing: MixingChoices = field(default_factory=MixingChoices)

    def check_together(self, at: str) -> None:
        """Raise :class:`UserError` for an empty list."""
        for key, values in self.values.items():
            if not values:
                raise UserError(f"{at}{key}={shown(values)}: give one value or more")

    @property
    def values(self) -> dict[str, list[Any]]:
        """The values to try by key, such as ``budget.quality``."""
        return {
            f"{group}.{key}": values
            for group, settings in asdict(self).items()
            for key, values in settings.items()
            if values is not None
        }


@dataclass(frozen=True)
class SearchedBudgetOptions(BudgetOptions):
    """A budget, with settings to choose on held-out pictures."""

    choices: Choices = field(default_factory=Choices)


@dataclass(frozen=True)
class SearchOptions:
    """How ``budget.choices`` are tried: on the share ``held_out`` of the train pictures."""

    held_out: Annotated[float, Range(0.01, 0.5)] = 0.1


@dataclass(frozen=True)
class BaseOptions:
    """What both commands share: conf/base.yaml."""

    ipc: Annotated[int, Range(1, 10**6)] = 10
    seed: Annotated[int, Range(0, 2**31)] = 0
    output: str = "outputs"
    dataset: DatasetOptions = field(default_factory=DatasetOptions)
    teachers: TeachersOptions = field(default_factory=TeachersOptions)
    students: StudentsOptions = field(default_factory=StudentsOptions)
    recipe: RecipeOptions = field(default_factory=RecipeOptions)
    budget: SearchedBudgetOptions = field(default_factory=SearchedBudgetOptions)
    mixing: MixingOptions = field(default_factory=MixingOptions)
    labels: LabelOptions = field(default_factory=LabelOptions)
    trainer: TrainerOptions = field(default_factory=TrainerOptions)
    logger: dict[str, Any] = field(default_factory=dict)

    def check_together(self, at: str) -> None:
        """Raise :class:`UserError` for an unknown logger."""
        for name in self.logger:
            Choice("tensorboard", "wandb").check(f"{at}logger", name)

    @property
    def augment(self) -> AugmentOptions:
        """The augmentation of training pictures."""
        return AugmentOptions(self.dataset.crop, self.dataset.flip, self.dataset.resized_crop)

    def set_options(self, method: MethodOptions) -> SetOptions:
        """Return what decides a set of ``method``."""
        budget = {key: value for key, value in vars(self.budget).items() if key != "choices"}
        return SetOptions(
            ipc=self.ipc,
            seed=self.seed,
            method=method,
            budget=BudgetOptions(**budget),
            labels=self.labels,
            ufc=self.recipe.ufc,
            student=self.recipe.student,
            mixing=self.mixing,
            augment=self.augment,
            proxy_backbone=self.students.backbones[0],
        )


@dataclass(frozen=True)
class DistillOptions(BaseOptions):
    """A run of distill.py: conf/distill.yaml."""

    method: MethodOptions = field(default_factory=MethodOptions)
    distill: MicroBatchOptions = field(default_factory=MicroBatchOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    report: ReportOptions = field(default_factory=ReportOptions)
    published: dict[str, Annotated[float, Range(0, 100)]] = field(default_factory=dict)
    tune: TuneOptions | None = None
    dry_run: bool = False
    update: str | None = field(default=None, metadata={"added": "0.2"})
    time: str | None = field(default=None, metadata={"added": "0.2"})

    def chosen(self, choice: Mapping[str, Any]) -> DistillOptions:
        """Return the options with those values at keys such as ``budget.quality``, and no choice left open."""
        return replaced(replace(self, budget=replace(self.budget, choices=Choices())), choice)

    def check_together(self, at: str) -> None:
        """Raise :class:`UserError` for combinations that mean nothing."""
        super().check_together(at)
        check_duration(f"{at}time", self.time)
        self._check_report(at)
        if self.update is not None and self.dataset.root is None:
            raise UserError(
                f"{at}update={shown(self.update)}: dataset={self.dataset.name} is no folder of new pictures; give "
                "dataset=image_folder dataset.root=<folder>"
            )
        if self.time is not None and not self.trainer.one_device:
            raise UserError(
                f"{at}time={self.time}: is planned for one device; choose trainer=cpu or gpu, or leave it away"
            )
        self._check_choices(at)
        if self.tune:
            self._check_study(f"{at}tune.", self.tune)

    def _check_report(self, at: str) -> None:
        lacking = [source for source in REPORTED if source not in self.students.sources]
        keys = {"language": self.report.language, "curve": self.report.curve}
        if lacking and (asked := [f"report.{key}=null" for key, value in keys.items() if value]):
            raise UserError(
                f"students.sources={shown(self.students.sources)}: a report compares {', '.join(REPORTED)}; add "
                f"{', '.join(lacking)}, or {' '.join(asked)}"
            )
        if self.report.curve and self.budget.by != "bytes":
            raise UserError(
                f"{at}report.curve={shown(self.report.curve)}: multiplies bytes, and budget.by={self.budget.by} counts "
                "images; choose budget=coded or budget=raw, or report.curve=null"
            )

    def _check_choices(self, at: str) -> None:
        for key, values in self.budget.choices.values.items():
            for value in values:
                check(self.chosen({key: value}), at)
            if self.labels.kind == "views" and key.startswith("mixing."):
                raise UserError(
                    f"{at}budget.choices.{key}={shown(values)}: changes nothing with labels=views, which are mixed as "
                    "labels.mixing says; leave it away"
                )

    def _check_study(self, at: str, study: TuneOptions) -> None:
        if not self.trainer.one_device:
            raise UserError(
                f"trainer.strategy={self.trainer.strategy}: a trial of a study takes one device; choose trainer=cpu or "
                "gpu, and start the command once for each device"
            )
        for key, values in self.budget.choices.values.items():
            raise UserError(
                f"budget.choices.{key}={shown(values)}: a study tries settings itself; leave it (and budget=auto, and "
                "experiment=poc) away, or tune="
            )
        if self.time is not None:
            raise UserError(f"{at}timeout: limits a study; leave time={self.time} away, or tune=")
        if self.dry_run:
            raise UserError("dry_run=true: lists runs, not the trials of a study; leave tune= away")
        for key, space in study.dimensions.items():
            for value in space if isinstance(space, list) else (space["low"], space["high"]):
                self.with_trial({key: value}, at)

    def with_trial(self, values: Mapping[str, Any], at: str = "tune.") -> DistillOptions:
        """Return the options with the values of a trial, checked, and without the study."""
        try:
            changed = replaced(replace(self, tune=None), values)
        except UserError as error:
            raise UserError(f"{at}space.{error}") from error
        check(changed)
        return changed


@dataclass(frozen=True)
class SourceOptions:
    """What train.py trains on: ``real`` pictures, ``random`` ones, or the ``distilled`` file at ``path``."""

    kind: Annotated[str, Choice("real", "random", "distilled")] = "real"
    path: str | None = None

    def check_together(self, at: str) -> None:
        """Raise :class:`UserError` for a distilled set without a file."""
        if self.kind == "distilled" and not self.path:
            raise UserError(f"{at}path: has no value; give {at}path=<a file of distill.py>")


@dataclass(frozen=True)
class TrainOptions(BaseOptions):
    """A run of train.py: conf/train.yaml."""

    source: SourceOptions = field(default_factory=SourceOptions)
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
