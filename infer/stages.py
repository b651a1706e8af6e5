"""The stages of a run: each is made when missing, resumed when unfinished, and reused when there."""

from __future__ import annotations

import logging
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loggers import Logger
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from infer import __version__, passes, ufc
from infer.backbones import build, frozen, require_batch_norm
from infer.budget import Split
from infer.data import Pictures, Splits, Streamed
from infer.data.batches import Indices, in_order, loader
from infer.distilled import DistilledSet, Header
from infer.errors import UserError
from infer.fitting import Hardware, fit, forget, measure_accuracy
from infer.labels import Ensemble
from infer.lit import (
    Classifier,
    CompensatorModule,
    Optimiser,
    Passes,
    StudentModule,
    TeacherModule,
    UFCOptions,
)
from infer.methods import Stored
from infer.mixing import student_batch
from infer.schema import BackboneConfig, BaseConfig, DistillConfig, UFCPasses, backbone
from infer.store import claim, digest, read_json, write_bytes, write_json

log = logging.getLogger("infer")

_EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Bench:
    """What every stage works with: the data, the configuration, the machine and the loggers."""

    data: Splits
    config: BaseConfig
    hardware: Hardware
    loggers: Sequence[Logger] = ()

    def network(self, options: BackboneConfig) -> nn.Module:
        """A new network of that backbone for this data."""
        data = self.data
        return build(options.model, options.options, options.stem, len(data.classes), data.channels, data.side)

    def accuracy(self, module: Classifier) -> float:
        """Test accuracy in 0 to 1."""
        size = len(self.data.test)
        draw = partial(in_order, size, _EVALUATION_BATCH)
        batches = loader(self.data.test, draw, math.ceil(size / _EVALUATION_BATCH), self.data.test.streams)
        return measure_accuracy(module, batches, self.hardware)

    @property
    def _module_options(self) -> dict[str, Any]:
        return {"classes": len(self.data.classes), **self._augmentation}

    @property
    def _augmentation(self) -> dict[str, Any]:
        dataset = self.config.dataset
        return {"crop": dataset.crop, "flip": dataset.flip, "resized_crop": dataset.resized_crop}

    def fit(
        self,
        module: Classifier,
        source: Pictures | Streamed | StudentData,
        draw: Callable[[int], Tensor],
        steps: int,
        seed: int,
        folder: Path,
        name: str,
    ) -> float:
        """Train ``module`` on the batches ``source[draw(step)]``, made on the device unless they stream from disk."""
        if source.streams:
            batches = loader(source, draw, steps, streams=True)
        else:
            module.resident = source
            batches = loader(Indices(), draw, steps)
        return fit(module, batches, seed, folder, name, self.hardware, self.loggers)

    def identity(self, **more: Any) -> dict[str, Any]:
        """What makes a result on this data the same result, besides ``more``."""
        return {
            "data": self.data.fingerprint,
            **self._augmentation,
            "precision": self.hardware.precision,
            **more,
        }


@dataclass(frozen=True)
class Teacher:
    """A trained, frozen network, its test accuracy, the seconds it took, and its file."""

    name: str
    network: nn.Module
    accuracy: float
    seconds: float
    file: Path


def train_teacher(bench: Bench, name: str, options: BackboneConfig, seed: int) -> Teacher:
    """The teacher of that backbone and seed, in outputs/train/<dataset>/<name>/seed<k>."""
    torch.manual_seed(seed)
    network = bench.network(options)
    recipe = bench.config.recipe.teacher
    settings = bench.identity(backbone=asdict(options), recipe=asdict(recipe), seed=seed)
    folder = claim(Path(bench.config.output, "train", bench.data.name, name, f"seed{seed}"), settings)
    file = folder / "teacher.safetensors"
    result = read_json(folder / "result.json")
    if result is None:
        train = bench.data.train
        batch = min(recipe.batch, len(train))
        length = len(train) // batch
        steps = recipe.epochs * length
        log.info("teacher %s: training, %d epochs of %d steps", name, recipe.epochs, length)
        module = TeacherModule(
            name,
            network,
            bench.data.moments,
            optimiser=Optimiser(recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.schedule, steps),
            **bench._module_options,
        )
        draw = partial(student_batch, len(train), 0, batch, None, seed)
        seconds = bench.fit(module, train, draw, steps, seed, folder, "teacher") if steps else 0.0
        weights = {key: value.contiguous().cpu() for key, value in network.state_dict().items()}
        write_bytes(file, to_safetensors(weights))
        result = {"dataset": bench.data.name, "backbone": name, "seed": seed, "accuracy": bench.accuracy(module)}
        result["seconds"] = round(seconds, 2)
        write_json(folder / "result.json", result)
        forget(folder, "teacher")
    else:
        load_weights(network, file)
    log.info("teacher %s: test accuracy %.2f %% (%s)", name, 100 * result["accuracy"], folder)
    return Teacher(name, frozen(network.cpu()), result["accuracy"], result["seconds"], file)


def load_weights(network: nn.Module, file: Path) -> None:
    """Fill ``network`` from a teacher's file."""
    try:
        network.load_state_dict(from_safetensors(file.read_bytes()))
    except (OSError, RuntimeError, ValueError) as error:
        cure = "restore it, or remove its folder so that it is trained anew"
        raise UserError(f"{file}: cannot be read as this teacher; {cure}") from error


def check_backbones(bench: Bench, students: Sequence[str]) -> None:
    """Refuse names, options and teachers without BatchNorm before anything is made."""
    for name in bench.config.teachers.backbones:
        require_batch_norm(name, check_network(bench, name, backbone(name)))
    for name in students:
        check_network(bench, name, backbone(name))


def check_network(bench: Bench, name: str, options: BackboneConfig) -> nn.Module:
    """The network, once it has been shown to take a batch of this data; refuses it in one line else."""
    network = frozen(bench.network(options))
    data = bench.data
    try:
        network(torch.zeros(2, data.channels, data.side, data.side))
    except Exception as error:  # a foreign forward pass raises what it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"backbone={name}: does not take images of {data.channels} x {data.side} x {data.side} ({reason}); "
            "choose another backbone or dataset.image_size"
        ) from error
    return network


def train_teachers(bench: Bench) -> list[Teacher]:
    """All teachers of the configuration; refuses those near chance."""
    config = bench.config.teachers
    teachers = [train_teacher(bench, name, backbone(name), config.seed) for name in config.backbones]
    least = bench.data.chance + config.margin * (1 - bench.data.chance)
    for teacher in teachers:
        if teacher.accuracy < least:
            raise UserError(
                f"teachers.backbones={teacher.name}: its test accuracy {teacher.accuracy:.1%} is near chance "
                f"({bench.data.chance:.1%}; teachers.margin asks for {least:.1%}); train it longer "
                "(recipe.teacher.epochs), change recipe.teacher.lr, or leave it out"
            )
    return teachers


class Compensators:
    """Optimises compensators against every teacher, and keeps each batch of rounds that is done."""

    def __init__(self, bench: Bench, teachers: Sequence[Teacher], folder: Path) -> None:
        self.bench = bench
        self.teachers = teachers
        self.folder = folder
        self.seconds = 0.0

    def __call__(self, naturals: Tensor, targets: Tensor) -> Tensor:
        """Compensators float32 [K, M, ch, H, W] of ``naturals`` uint8 [K, C, ch, H, W]."""
        if not len(naturals):
            return torch.empty(0, len(self.teachers), *naturals.shape[2:])
        return torch.stack([self._optimise(teacher, naturals, targets) for teacher in self.teachers], dim=1)

    def _optimise(self, teacher: Teacher, naturals: Tensor, targets: Tensor) -> Tensor:
        bench = self.bench
        assert isinstance(bench.config, DistillConfig)
        recipe, how = bench.config.recipe.ufc, bench.config.distill
        name = f"compensators-{teacher.name}"
        # Kept with the teacher, named by all that decides them: runs that differ in students or labels share them.
        made_of = {
            "teacher": digest(teacher.file.read_bytes()),
            "naturals": digest(naturals.contiguous().numpy().tobytes() + targets.contiguous().numpy().tobytes()),
            "recipe": asdict(recipe),
            "seed": bench.config.seed,
            "precision": bench.hardware.precision,
        }
        file = teacher.file.parent / f"compensators-{digest(made_of)}.safetensors"
        if not file.exists():
            options = UFCOptions(**asdict(recipe))
            module = CompensatorModule(
                teacher.name, teacher.network, naturals, targets, bench.data.moments, options, compile=how.compile
            )
            module.passes = self._passes(module, teacher, how)
            log.info(
                "compensators of %s: %d rounds of %d images, %d rounds of %d a pass",
                teacher.name,
                *targets.shape,
                module.passes.rounds,
                module.passes.classes,
            )
            batches = loader(Indices(), partial(in_order, recipe.steps, 1), recipe.steps)
            seconds = fit(module, batches, bench.config.seed, self.folder, name, bench.hardware, bench.loggers)
            content = {"u": module.u.detach().cpu(), "seconds": torch.tensor(seconds)}
            write_bytes(file, to_safetensors(content))
            forget(self.folder, name)
        done = from_safetensors(file.read_bytes())
        self.seconds += float(done["seconds"])
        return done["u"]

    def _passes(self, module: CompensatorModule, teacher: Teacher, how: UFCPasses) -> Passes:
        """The passes measured for this teacher on this machine, once: a run that goes on cuts its steps alike."""
        device = self.bench.hardware.device
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        measured_on = {
            "shape": list(module.naturals.shape),
            "device": gpu or f"{platform.machine()}, {torch.get_num_threads()} threads",
            "precision": self.bench.hardware.precision,
            "torch": torch.__version__,
            **asdict(how),
        }
        file = teacher.file.parent / f"passes-{digest(measured_on)}.json"
        kept = read_json(file)
        if kept is None:
            log.info("compensators of %s: measuring how to cut a step", teacher.name)
            found = passes.choose(module, device, self.bench.hardware.precision, how.rounds, how.chunk)
            kept = {**asdict(found), "measured_on": measured_on}
            write_json(file, kept)
        return Passes(kept["rounds"], kept["classes"])


def labelled(
    bench: Bench, stored: Stored, split: Split, teachers: Sequence[Teacher], kind: str, settings: Mapping[str, Any]
) -> DistilledSet:
    """What a method stored, with its header and the labels of ``kind``."""
    config, data = bench.config, bench.data
    provenance = {
        "dataset": data.name,
        "settings": dict(settings),
        "teachers": {teacher.name: round(teacher.accuracy, 4) for teacher in teachers},
        "code": f"infer {__version__}",
    }
    if kind == "dynamic":  # the consumer needs the teachers themselves
        provenance["files"] = {t.name: [str(t.file), digest(t.file.read_bytes())] for t in teachers}
    hard = kind == "hard"
    header = Header(
        classes=data.classes,
        mean=data.moments[0].tolist(),
        std=data.moments[1].tolist(),
        labels=kind,
        space="probabilities" if hard else config.labels.space,
        temperature=1.0 if hard else config.recipe.student.temperature,
        compensators_per_round=split.compensators_per_round,
        provenance=provenance,
    )
    unlabelled = DistilledSet(stored.naturals, stored.targets, stored.compensators, None, header)
    return _label(unlabelled, teachers, bench.hardware.device)


def _label(unlabelled: DistilledSet, teachers: Sequence[Teacher], device: torch.device) -> DistilledSet:
    header = unlabelled.header
    if header.labels == "dynamic":
        sizes = (t.numel() * t.element_size() for teacher in teachers for t in teacher.network.state_dict().values())
        return replace(unlabelled, header=replace(header, label_bytes=sum(sizes)))
    if header.labels == "hard":
        return unlabelled
    ensemble = Ensemble([teacher.network for teacher in teachers], header.space, header.temperature).to(device)
    log.info("labels of %d images by %d teachers", len(unlabelled), len(teachers))
    mean, std = torch.tensor(header.mean, device=device), torch.tensor(header.std, device=device)
    labels = [
        ensemble(ufc.normalise(unlabelled.images(indices).to(device), mean, std)).half().cpu()
        for indices in torch.arange(len(unlabelled)).split(_EVALUATION_BATCH)
    ]
    return replace(unlabelled, labels=torch.cat(labels))


@dataclass(frozen=True)
class StudentData:
    """What a student trains on: batches of (images uint8, labels float32 [B, C]).

    ``naturals`` images come first, ``composed`` ones after them; ``ensemble`` labels on the fly in place of the labels.
    """

    source: DistilledSet | Pictures | Streamed
    classes: int
    naturals: int
    composed: int
    moments: tuple[Tensor, Tensor]
    space: str
    temperature: float
    ensemble: Ensemble | None = None

    @classmethod
    def of_set(cls, distilled: DistilledSet, teachers: Sequence[nn.Module]) -> StudentData:
        """A distilled set; its ``teachers`` label where its labels are dynamic."""
        header = distilled.header
        naturals, composed = len(distilled.naturals), len(distilled.pairs)
        moments = (torch.tensor(header.mean), torch.tensor(header.std))
        space, temperature = header.space, header.temperature
        ensemble = Ensemble(teachers, space, temperature) if header.labels == "dynamic" else None
        return cls(distilled, len(header.classes), naturals, composed, moments, space, temperature, ensemble)

    @classmethod
    def of_real(cls, data: Splits) -> StudentData:
        """All real train pictures with their classes as labels."""
        return cls(data.train, len(data.classes), len(data.train), 0, data.moments, "probabilities", 1.0)

    @property
    def streams(self) -> bool:
        """Whether a batch has to be read from disk."""
        return isinstance(self.source, Streamed)

    @property
    def device(self) -> torch.device:
        """Where the images lie, and indices have to."""
        return torch.device("cpu") if isinstance(self.source, Streamed) else self.source.device

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return 0 if isinstance(self.source, Streamed) else self.source.nbytes

    def to(self, device: torch.device) -> StudentData:
        """The same with its images and labels on ``device``; streamed ones stay where they are."""
        return self if isinstance(self.source, Streamed) else replace(self, source=self.source.to(device))

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.source, DistilledSet):
            return self.source.images(indices), self.source.raw_labels(indices)
        images, targets = self.source[indices]
        return images, nn.functional.one_hot(targets, self.classes).float()


def student_steps(bench: Bench, images: int, teachers: int, dynamic: bool) -> int:
    """Steps of every student of a table, from the size of its distilled set; dynamic labels take M + 1 times fewer."""
    recipe = bench.config.recipe.student
    steps = recipe.steps or (recipe.epochs or 0) * math.ceil(images / recipe.batch)
    return max(1, steps // (teachers + 1)) if dynamic else steps


def train_student(
    bench: Bench, name: str, options: BackboneConfig, source: StudentData, steps: int, seed: int, folder: Path
) -> Mapping[str, Any]:
    """The result of one student, kept in ``folder``: {accuracy, seconds, steps}."""
    result = read_json(folder / "result.json")
    if result is not None:
        return result
    recipe, mixing = bench.config.recipe.student, bench.config.mixing
    torch.manual_seed(seed)
    network = bench.network(options)
    module = StudentModule(
        name,
        network,
        source.moments,
        optimiser=Optimiser(recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.schedule, steps),
        mixing=mixing.kind,
        alpha=mixing.alpha,
        space=source.space,
        temperature=source.temperature,
        ensemble=source.ensemble,
        **bench._module_options,
    )

    draw = partial(student_batch, source.naturals, source.composed, recipe.batch, mixing.natural_ratio, seed)
    seconds = bench.fit(module, source, draw, steps, seed, folder, "student")
    result = {"accuracy": bench.accuracy(module), "seconds": round(seconds, 2), "steps": steps}
    write_json(folder / "result.json", result)
    forget(folder, "student")
    return result
