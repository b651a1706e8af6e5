"""The types of our configuration keys and the checks of their values; the values themselves are in conf/.

A mistake ends here, before any folder is made and before torch is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from infer.core.errors import UserError, choices

CONF = Path(__file__).parents[2] / "conf"

COMMAND = "INFER_COMMAND"
"""The variable that holds the command as it was typed, for results of processes that a launcher starts."""

SOURCES = {
    "distilled": "the distilled file",
    "distilled_hard": "its images with hard labels",
    "random": "random naturals, the same kind of labels, coding and bytes",
    "random_images": "as many random naturals, the same kind of labels and coding",
    "random_static": "random naturals, one soft label each, the same coding and bytes",
    "random_hard": "random naturals, hard labels, the same coding and bytes",
    "distilled_plain": "the distilled file, neither cropped, flipped nor mixed",
    "random_plain": "random naturals like it, neither cropped, flipped nor mixed",
    "real": "the whole real set",
}
"""What a student of the comparison may be trained on."""

REPORTED = ("real", "distilled", "random")
"""The rows that a report needs."""


@dataclass
class DatasetConfig:
    """conf/dataset."""

    name: str = MISSING
    kind: str = MISSING
    torchvision: str | None = MISSING
    root: str | None = MISSING
    data_dir: str = MISSING
    image_size: int = MISSING
    channels: int = MISSING
    crop: int = MISSING
    flip: bool = MISSING
    resized_crop: float | None = None
    centre: bool = False
    stream: bool | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    test_fraction: float | None = MISSING
    validation: float | None = None
    imbalance: float | None = None
    balanced: bool = False
    split_seed: int = MISSING

    def _check(self, at: str) -> None:
        _one_of(f"{at}kind", self.kind, ["digits", "torchvision", "folder"])
        _one_of(f"{at}channels", self.channels, [1, 3])
        _within(f"{at}image_size", self.image_size, 4, 1024)
        _within(f"{at}crop", self.crop, 0, self.image_size)
        if self.resized_crop is not None:
            _within(f"{at}resized_crop", self.resized_crop, 0.01, 1)
        for key, values in (("mean", self.mean), ("std", self.std)):
            if (self.mean is None) != (self.std is None) or (values is not None and len(values) != self.channels):
                raise UserError(f"{at}{key}={values}: give mean and std a value for each of {self.channels} channels")
        if self.test_fraction is not None:
            _within(f"{at}test_fraction", self.test_fraction, 0.01, 0.9)
        if self.validation is not None:
            _within(f"{at}validation", self.validation, 0.01, 0.9)
        if self.imbalance is not None:
            _within(f"{at}imbalance", self.imbalance, 1, 1e6)
        _path_part(f"{at}name", self.name)
        if self.kind == "folder" and self.root is None:
            raise UserError(f"{at}root=null: give the folder of pictures, {at}root=<folder>")


@dataclass
class BackboneConfig:
    """conf/backbone."""

    name: str = MISSING
    model: str = MISSING
    stem: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)

    def _check(self, at: str) -> None:
        _one_of(f"{at}stem", self.stem, ["auto", "small", "full"])


@dataclass
class TeachersConfig:
    """conf/teachers."""

    backbones: list[str] = MISSING
    seed: int = MISSING
    margin: float = MISSING

    def _check(self, at: str) -> None:
        _each_once(f"{at}backbones", self.backbones)
        _within(f"{at}margin", self.margin, -1, 1)


@dataclass
class StudentsConfig:
    """conf/students."""

    backbones: list[str] = MISSING
    seeds: int = MISSING
    sources: list[str] = MISSING

    def _check(self, at: str) -> None:
        _each_once(f"{at}backbones", self.backbones)
        _within(f"{at}seeds", self.seeds, 1, 1000)
        for source in self.sources:
            _one_of(f"{at}sources", source, list(SOURCES))


@dataclass
class WeightsConfig:
    """How weights are trained, a part of conf/recipe."""

    batch: int = MISSING
    optimizer: str = MISSING
    lr: float = MISSING
    weight_decay: float = MISSING
    schedule: str = MISSING

    def _check(self, at: str) -> None:
        _one_of(f"{at}optimizer", self.optimizer, ["sgd", "nesterov", "adamw"])
        _one_of(f"{at}schedule", self.schedule, ["cosine", "one_cycle"])
        _within(f"{at}batch", self.batch, 1, 65536)
        _within(f"{at}lr", self.lr, 1e-9, 100)
        _within(f"{at}weight_decay", self.weight_decay, 0, 1)


@dataclass
class TeacherRecipe(WeightsConfig):
    """recipe.teacher."""

    epochs: int = MISSING
    min_steps: int = MISSING

    def _check(self, at: str) -> None:
        super()._check(at)
        _within(f"{at}epochs", self.epochs, 0, 100_000)
        _within(f"{at}min_steps", self.min_steps, 0, 10**8)


@dataclass
class StudentRecipe(WeightsConfig):
    """recipe.student."""

    epochs: int | None = MISSING
    steps: int | None = MISSING
    real_epochs: int = MISSING
    temperature: float = MISSING

    def _check(self, at: str) -> None:
        super()._check(at)
        if (self.epochs is None) == (self.steps is None):
            raise UserError(
                f"{at}epochs={self.epochs} and {at}steps={self.steps}: give one of them, and null for the other"
            )
        _within(f"{at}epochs or steps", self.epochs or self.steps or 0, 1, 10**8)
        _within(f"{at}temperature", self.temperature, 0.01, 1000)


@dataclass
class UFCRecipe:
    """recipe.ufc."""

    steps: int = MISSING
    lr: float = MISSING
    bn_weight: float = MISSING
    first_weight: float = MISSING
    jitter: int = MISSING
    resized_crop: float | None = None

    def _check(self, at: str) -> None:
        _within(f"{at}steps", self.steps, 1, 10**7)
        if self.resized_crop is not None:
            _within(f"{at}resized_crop", self.resized_crop, 0.01, 1)
        _within(f"{at}jitter", self.jitter, 0, 1024)
        _within(f"{at}lr", self.lr, 1e-9, 100)
        _within(f"{at}bn_weight", self.bn_weight, 0, 1e6)
        _within(f"{at}first_weight", self.first_weight, 0, 1e6)


@dataclass
class RecipeConfig:
    """conf/recipe."""

    teacher: TeacherRecipe = field(default_factory=TeacherRecipe)
    ufc: UFCRecipe = field(default_factory=UFCRecipe)
    student: StudentRecipe = field(default_factory=StudentRecipe)


@dataclass
class BudgetChoices:
    """budget.choices.budget."""

    codec: list[str] | None = None
    quality: list[int] | None = None


@dataclass
class LabelsChoices:
    """budget.choices.labels."""

    share: list[float] | None = None
    candidates: list[int] | None = None
    mixing: list[str] | None = None


@dataclass
class MixingChoices:
    """budget.choices.mixing."""

    alpha: list[float] | None = None
    natural_ratio: list[float] | None = None


@dataclass
class Choices:
    """budget.choices: of a setting, by its own key, the values to try."""

    budget: BudgetChoices = field(default_factory=BudgetChoices)
    labels: LabelsChoices = field(default_factory=LabelsChoices)
    mixing: MixingChoices = field(default_factory=MixingChoices)

    def _check(self, at: str) -> None:
        for key, values in self.values.items():
            if not values:
                raise UserError(f"{at}{key}={values}: give one value or more")

    @property
    def values(self) -> dict[str, list[Any]]:
        """Of each key, such as ``budget.quality``, that is open, the values to try."""
        return {
            f"{group}.{key}": values
            for group, settings in asdict(self).items()
            for key, values in settings.items()
            if values is not None
        }


@dataclass
class BudgetConfig:
    """conf/budget."""

    by: str = MISSING
    fill: bool = MISSING
    codec: str | None = MISSING
    quality: int = MISSING
    per_class: str = MISSING
    choices: Choices = field(default_factory=Choices)

    def _check(self, at: str) -> None:
        _one_of(f"{at}by", self.by, ["images", "bytes"])
        if self.codec is not None:
            _one_of(f"{at}codec", self.codec, ["avif", "webp", "jpeg"])
        _within(f"{at}quality", self.quality, 0, 100)
        _one_of(f"{at}per_class", self.per_class, ["uniform", "sqrt", "proportional"])


@dataclass
class MixingConfig:
    """conf/mixing."""

    kind: str = MISSING
    alpha: float = MISSING
    natural_ratio: float | None = MISSING

    def _check(self, at: str) -> None:
        _one_of(f"{at}kind", self.kind, ["mixup", "cutmix", "none"])
        _within(f"{at}alpha", self.alpha, 1e-3, 1e3)
        if self.natural_ratio is not None:
            _within(f"{at}natural_ratio", self.natural_ratio, 0, 1)


@dataclass
class LabelsConfig:
    """conf/labels."""

    kind: str = MISSING
    space: str = MISSING
    share: float = MISSING
    mixing: str = MISSING
    candidates: int = MISSING
    compensators: int = MISSING
    scout: int = MISSING

    def _check(self, at: str) -> None:
        _one_of(f"{at}kind", self.kind, ["static", "views", "dynamic", "hard"])
        _within(f"{at}share", self.share, 1e-4, 100)
        _one_of(f"{at}mixing", self.mixing, ["mixup", "cutmix", "none"])
        _one_of(f"{at}candidates", self.candidates, [1, 2, 4, 16, 256])
        _within(f"{at}compensators", self.compensators, 0, 256)
        _within(f"{at}scout", self.scout, 1, 10**7)
        _one_of(f"{at}space", self.space, ["logits", "probabilities"])


@dataclass
class TrainerConfig:
    """conf/trainer."""

    accelerator: str = MISSING
    devices: int = MISSING
    nodes: int = 1
    strategy: str = MISSING
    precision: str = MISSING

    def _check(self, at: str) -> None:
        _one_of(f"{at}accelerator", self.accelerator, ["auto", "cpu", "gpu", "mps"])
        _one_of(f"{at}strategy", self.strategy, ["auto", "ddp_spawn", "ddp"])
        _one_of(f"{at}precision", self.precision, ["32-true", "bf16-mixed", "16-mixed"])
        _within(f"{at}devices", self.devices, 1, 4096)
        _within(f"{at}nodes", self.nodes, 1, 4096)


@dataclass
class UFCPasses:
    """distill: how a step of compensators is cut into passes; nothing here changes a result beyond rounding."""

    rounds: int | None = MISSING
    chunk: int | None = MISSING
    compile: str | None = MISSING

    def _check(self, at: str) -> None:
        if self.rounds is not None:
            _within(f"{at}rounds", self.rounds, 1, 10**6)
        if self.chunk is not None:
            _within(f"{at}chunk", self.chunk, 1, 10**6)
        if self.compile is not None:
            _one_of(f"{at}compile", self.compile, ["default", "reduce-overhead", "max-autotune"])


@dataclass
class MethodConfig:
    """conf/method."""

    name: str = MISSING
    compensators: bool = MISSING
    options: dict[str, Any] = field(default_factory=dict)

    def _check(self, at: str) -> None:
        _one_of(f"{at}name", self.name, sorted(path.stem for path in (CONF / "method").glob("*.yaml")))
        given: Any = OmegaConf.load(CONF / "method" / f"{self.name}.yaml")
        known = [*given.get("method", given).options]  # a method that sets other groups too has a global file
        for key, value in self.options.items():
            if key not in known:  # as of a recipe that was chosen for another method
                raise UserError(
                    f"{at}options.{key}={value}: no option of method={self.name}; it has {', '.join(known) or 'none'}"
                )
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(f"{at}options.{key}={value}: must be a number")
        _within(f"{at}options.easiest", self.options.get("easiest", 0), 0, 1)


@dataclass
class SourceConfig:
    """conf/source."""

    kind: str = MISSING
    path: str | None = None

    def _check(self, at: str) -> None:
        _one_of(f"{at}kind", self.kind, ["real", "random", "distilled"])


@dataclass
class ReportConfig:
    """report: the page for those who decide; nothing here changes what a run makes."""

    language: str | None = MISSING
    retrainings: int = MISSING
    watts: float = MISSING
    time_budget: str | None = MISSING
    tolerance: float = MISSING

    def _check(self, at: str) -> None:
        if self.language is not None:
            _one_of(f"{at}language", self.language, ["en", "ja"])
        _within(f"{at}retrainings", self.retrainings, 1, 10**6)
        _within(f"{at}watts", self.watts, 1, 10**6)
        _within(f"{at}tolerance", self.tolerance, 0, 100)
        _duration(f"{at}time_budget", self.time_budget)

    @property
    def seconds(self) -> float | None:
        """Of the time budget; None where there is none."""
        return _seconds(self.time_budget)


@dataclass
class TuneConfig:
    """conf/tune: a study of settings; what it finds is a recipe of its own."""

    trials: int = MISSING
    timeout: str | None = MISSING
    storage: str | None = MISSING
    validation: float = MISSING
    objectives: list[str] = MISSING
    max_bytes: int | None = MISSING
    prune: bool = MISSING
    seed: int = MISSING
    space: dict[str, Any] = MISSING

    def _check(self, at: str) -> None:
        _within(f"{at}trials", self.trials, 1, 10**6)
        _duration(f"{at}timeout", self.timeout)
        _within(f"{at}validation", self.validation, 0.01, 0.9)
        _within(f"{at}seed", self.seed, 0, 2**31)
        if self.objectives not in (["accuracy"], ["accuracy", "bytes"]):
            raise UserError(f"{at}objectives={self.objectives}: choose [accuracy] or [accuracy,bytes]")
        if self.prune and len(self.objectives) > 1:
            raise UserError(f"{at}prune=true: trials can be ended early for one objective alone; give {at}prune=false")
        if not self.dimensions:
            raise UserError(f"{at}space: nothing is open in it; give a setting's range, as in conf/tune/default.yaml")
        for key, range_ in self.dimensions.items():
            if isinstance(range_, list):
                if not range_:
                    raise UserError(f"{at}space.{key}=[]: give one value or more")
                continue
            ends = (range_.get("low"), range_.get("high"))
            numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
            if not numbers or ends[0] > ends[1] or (range_.get("log") and ends[0] <= 0) or {*range_} - {*_RANGE}:
                raise UserError(
                    f"{at}space.{key}={range_}: give {{low, high}}, numbers, low first (and above 0 with log: true), "
                    "or a list of values"
                )

    @property
    def seconds(self) -> float | None:
        """Of the timeout; None where there is none."""
        return _seconds(self.timeout)

    @property
    def dimensions(self) -> dict[str, Any]:
        """Of each open key, such as ``recipe.ufc.lr``, its list of values, or its {low, high, log}."""
        return dict(_dimensions(self.space, ""))


_RANGE = ("low", "high", "log")


def _dimensions(space: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in space.items():
        if isinstance(value, Mapping) and not set(_RANGE) & set(value):
            yield from _dimensions(value, f"{above}{key}.")
        elif value is not None:
            yield f"{above}{key}", value


@dataclass
class BaseConfig:
    """conf/base.yaml: what both commands share."""

    ipc: int = MISSING
    seed: int = MISSING
    output: str = MISSING
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    teachers: TeachersConfig = field(default_factory=TeachersConfig)
    students: StudentsConfig = field(default_factory=StudentsConfig)  # recipes choose them; train.py has its backbone
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    mixing: MixingConfig = field(default_factory=MixingConfig)
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: dict[str, Any] = field(default_factory=dict)

    def _check(self, at: str) -> None:
        _within(f"{at}ipc", self.ipc, 1, 10**6)
        _within(f"{at}seed", self.seed, 0, 2**31)
        for name in self.logger:
            _one_of(f"{at}logger", name, ["wandb", "tensorboard"])


@dataclass
class DistillConfig(BaseConfig):
    """conf/distill.yaml."""

    method: MethodConfig = field(default_factory=MethodConfig)
    distill: UFCPasses = field(default_factory=UFCPasses)
    report: ReportConfig = field(default_factory=ReportConfig)
    published: dict[str, float] = field(default_factory=dict)
    tune: TuneConfig | None = None
    dry_run: bool = MISSING

    def chosen(self, choice: Mapping[str, Any]) -> DistillConfig:
        """With those values at keys such as ``budget.quality``; no choice is left open in it."""
        return changed(replace(self, budget=replace(self.budget, choices=Choices())), choice)

    def _check(self, at: str) -> None:
        super()._check(at)
        for key, values in self.budget.choices.values.items():
            for value in values:
                self.chosen({key: value})
            if self.labels.kind == "views" and key.startswith("mixing."):
                raise UserError(
                    f"{at}budget.choices.{key}={values}: changes nothing with labels=views, which are mixed as "
                    "labels.mixing says; leave it away"
                )
        if self.tune:
            if self.trainer.devices * self.trainer.nodes > 1 or self.trainer.strategy != "auto":
                raise UserError(
                    f"{at}trainer.strategy={self.trainer.strategy}: a trial of a study takes one device; choose "
                    "trainer=cpu or gpu, and give the command once a device"
                )
            if opened := self.budget.choices.values:
                key, values = next(iter(opened.items()))
                raise UserError(
                    f"{at}budget.choices.{key}={values}: a study tries settings itself; leave it (and budget=auto, and "
                    "experiment=poc) away, or tune="
                )
            if self.dry_run:
                raise UserError(f"{at}dry_run=true: lists runs, not the trials of a study; leave tune= away")
            for key, range_ in self.tune.dimensions.items():
                for value in range_ if isinstance(range_, list) else (range_["low"], range_["high"]):
                    changed(self, {key: value})
        lacking = [source for source in REPORTED if source not in self.students.sources]
        if self.report.language and lacking:
            raise UserError(
                f"students.sources={self.students.sources}: a report compares {', '.join(REPORTED)}; add "
                f"{', '.join(lacking)}, or report.language=null"
            )


@dataclass
class TrainConfig(BaseConfig):
    """conf/train.yaml."""

    source: SourceConfig = field(default_factory=SourceConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)


def register() -> None:
    """Make the schemas known to Hydra's defaults lists."""
    store = ConfigStore.instance()
    store.store(name="distill_schema", node=DistillConfig)
    store.store(name="train_schema", node=TrainConfig)


def checked(config: DictConfig) -> Any:
    """The typed configuration of a run; raises where a value is missing, of the wrong type or out of range."""
    typed = OmegaConf.to_object(config)
    _check_below(typed, "")
    return typed


def changed(config: DistillConfig, values: Mapping[str, Any]) -> DistillConfig:
    """``config`` with ``values`` at keys such as ``recipe.ufc.lr``, checked; there is no study in it."""
    node = cast(DictConfig, OmegaConf.structured(replace(config, tune=None)))
    for key, value in values.items():
        if OmegaConf.select(node, key, default=node) is node:
            raise UserError(f"tune.space.{key}: no setting of this command; see python distill.py --help for its keys")
        try:
            OmegaConf.update(node, key, value)
        except OmegaConfBaseException as error:
            raise UserError(f"tune.space.{key}: {str(error).splitlines()[0]}") from error
    return cast(DistillConfig, checked(node))


def recipe_yaml(config: DistillConfig, values: Mapping[str, Any], head: Sequence[str]) -> str:
    """A file that ``recipe=`` loads: the recipe of ``config`` with ``values``, and those of other groups."""
    best = changed(config, values)
    node = OmegaConf.create({key: asdict(getattr(best, key)) for key in ("recipe", "teachers", "students")})
    for key, value in values.items():
        OmegaConf.update(node, key, value, force_add=True)
    lines = ["# @package _global_", *(f"# {line}" for line in head)]
    return "\n".join([*lines, OmegaConf.to_yaml(node)])


def _check_below(node: Any, at: str) -> None:
    if hasattr(node, "_check"):
        node._check(at)
    for part in fields(node):
        value = getattr(node, part.name)
        if is_dataclass(value):
            _check_below(value, f"{at}{part.name}.")


def backbone(name: str) -> BackboneConfig:
    """The configuration of ``name``: conf/backbone/<name>.yaml, or the timm model of that name."""
    path = CONF / "backbone" / f"{name}.yaml"
    if not path.is_file():
        return BackboneConfig(name=name, model=name)
    merged = OmegaConf.merge(OmegaConf.structured(BackboneConfig), OmegaConf.load(path))
    return cast(BackboneConfig, checked(cast(DictConfig, merged)))


def _one_of(key: str, value: object, known: list[Any]) -> None:
    if value not in known:
        raise choices(key, value, [str(k) for k in known])


def _each_once(key: str, names: list[str]) -> None:
    if not names or len(set(names)) != len(names):
        raise UserError(f"{key}={names}: give one or more backbones, each once")


def _within(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(f"{key}={value}: must lie between {low} and {high}")


def _duration(key: str, value: str | None) -> None:
    if value is not None and not re.fullmatch(r"\d+(\.\d+)?[smh]", value):
        raise UserError(f"{key}={value}: give a number and s, m or h, such as 30m")


def _seconds(duration: str | None) -> float | None:
    if duration is None:
        return None
    return float(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def _path_part(key: str, value: str) -> None:
    if not value or "/" in value or value.startswith("."):
        raise UserError(f"{key}={value}: names a folder below output=; it must have no slash and no leading dot")
