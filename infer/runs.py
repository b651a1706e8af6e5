"""The two commands: from a checked configuration to a finished, reported run."""

from __future__ import annotations

import json
import logging
import resource
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loggers import Logger
from torch import nn

from infer import __version__
from infer.allocate import allocate
from infer.assemble import RANDOM, Assembly, split_by_images
from infer.backbones import frozen, load_weights
from infer.bench import Bench
from infer.compare import Sets, compare, missing, scores
from infer.compensators import Compensators
from infer.data import Splits, sources
from infer.data.layout import Layout
from infer.data.survey import survey
from infer.distilled import DistilledSet, load
from infer.errors import UserError
from infer.evidence import Exhibits, evidence, usable
from infer.fitting import Hardware, metrics_logger, rank
from infer.methods import check
from infer.report import page, pictures, table
from infer.report.verdict import decide
from infer.schema import BaseConfig, DatasetConfig, DistillConfig, TrainConfig, backbone
from infer.store import claim, digest, read_json, write_json
from infer.students import StudentData, student_steps, train_student
from infer.teachers import check_backbones, check_network, train_teacher, train_teachers

log = logging.getLogger("infer")


def read(config: DatasetConfig) -> Splits:
    """The data set of the configuration; jobs of a sweep that have the same one after another read it once."""
    levels = ("*/", "*/*/") if config.root else ()
    folders = [folder for level in levels for folder in sorted(Path(config.root or "").glob(level))]
    splits = _read(json.dumps(asdict(config)), tuple(folder.stat().st_mtime_ns for folder in folders))
    for note in splits.notes:
        log.warning(note)
    log.info(
        "%s: %d train and %d test pictures, %d classes, %d x %d, %s",
        splits.name,
        len(splits.train),
        len(splits.test),
        len(splits.classes),
        splits.side,
        splits.side,
        "grey" if splits.channels == 1 else "colour",
    )
    return splits


@lru_cache(maxsize=1)
def _read(content: str, changed: tuple[int, ...]) -> Splits:
    """The data set of that configuration, as JSON; ``changed``: when pictures last came or went."""
    config = DatasetConfig(**json.loads(content))
    if config.root is not None:
        layout = Layout(config.image_size, config.channels, config.centre, config.stream)
        splits = sources.folder(config.name, Path(config.root), layout, config.test_fraction, config.split_seed)
    elif config.kind == "digits":
        splits = sources.digits(config.name, config.test_fraction or 0.2, config.split_seed)
    else:
        splits = sources.torchvision_set(config.name, config.torchvision or "", Path(config.data_dir))
    if config.mean and config.std:
        splits = replace(splits, given_moments=(torch.tensor(config.mean), torch.tensor(config.std)))
    if config.imbalance:
        splits = splits.long_tailed(config.imbalance, config.split_seed)
    if config.validation:
        splits = splits.held_out(config.validation, config.split_seed)
    for key, found in (("channels", splits.channels), ("image_size", splits.side)):
        if getattr(config, key) != found:
            raise UserError(
                f"dataset.{key}={getattr(config, key)}: the pictures of {config.name} have {found}; leave it, or give "
                "dataset.root=<folder of pictures>, which are converted"
            )
    return splits


def distill(config: DistillConfig) -> dict[str, Any]:
    """python distill.py: teachers, compensators, labels, one file, students, report. Returns result.json's content."""
    if not missing(config, []):
        raise UserError(
            f"students.sources={config.students.sources}: no row of its own with labels={config.labels.kind}; choose "
            "distilled, random or real too"
        )
    hardware = _hardware(config)
    data = read(config.dataset)
    if config.budget.by == "images":  # refuses what cannot be split before anything is trained
        split = split_by_images(config, config.method, len(data.classes))
        check(data, split.naturals)
    bench = Bench(data, config, hardware)
    check_backbones(bench, config.students.backbones)
    backbones = {name: asdict(backbone(name)) for name in config.teachers.backbones + config.students.backbones}
    settings = bench.identity(**_settings(config), backbones=backbones)
    name = f"{config.method.name}-ipc{config.ipc}"
    folder = claim(Path(config.output, "distill", data.name, name, f"seed{config.seed}"), settings)
    file = folder / "distilled.safetensors"
    result = read_json(folder / "result.json") if file.is_file() else None
    exhibits = folder / "exhibits.safetensors"
    explained = not config.report.language or (exhibits.is_file() and "evidence" in (result or {}))
    if result is not None and not missing(config, result["students"]) and explained:
        log.info("finished before: %s", folder)
    else:
        with _loggers(config, folder, f"{data.name}-{name}-seed{config.seed}") as loggers:
            result = _distill(replace(bench, loggers=loggers), folder, file, settings, result)
            _log_result([metrics_logger(folder), *loggers], result)
        write_json(folder / "result.json", result)
    if rank() == 0:
        table.show(result)
    if rank() == 0 and config.report.language:
        result = {**result, **decide(result, config.report)}
        write_json(folder / "result.json", result)
        page.write(result, Exhibits.load(exhibits), load(file), folder / "report.html")
        log.info("report: %s", folder / "report.html")
    log.info("file: %s   figures: %s   pictures: %s", file, folder / "result.json", folder / "images")
    return result


def _distill(
    bench: Bench, folder: Path, file: Path, settings: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The run's result; where one was there ``before``, its file is as it was, and rows come to its table.

    The set is on disk, and said to be, before its students start: a run that is stopped never makes another.
    """
    config, data = bench.config, bench.data
    assert isinstance(config, DistillConfig)
    teachers = train_teachers(bench)
    compensate = Compensators(bench, teachers, folder)
    assembly = Assembly(bench, data.picks(config.seed), teachers, compensate, folder, settings)
    config, choices = allocate(assembly, config.report.seconds)
    assembly = replace(assembly, bench=replace(bench, config=config))
    if before:
        distilled, made = load(file), before
    else:
        start = time.perf_counter()
        distilled = assembly.of(config.method)
        size = distilled.save(file)
        made = {**_facts(assembly, distilled, size), "choices": choices}
        made["seconds"] = {
            "teachers": round(sum(t.seconds for t in teachers), 2),
            "distill": round(compensate.seconds, 2),
            "assemble": round(max(0.0, time.perf_counter() - start - compensate.spent), 2),
        }
        pictures.draw(distilled, folder / "images")
        made["students"] = []
        write_json(folder / "result.json", made)
    sets = Sets(assembly, distilled)
    known = made["students"] if not config.report.language else [row for row in made["students"] if usable(row)]
    rows = compare(sets, folder, known)
    explained: dict[str, Any] = {}
    if config.report.language:
        explained["data"] = survey(data, config.dataset.root)
        explained["evidence"], exhibits = evidence(sets, rows)
        exhibits.save(folder / "exhibits.safetensors")
    seconds = {**made["seconds"], "students": round(sum(row["seconds"] for row in rows), 2), "total": 0.0}
    return {
        **made,
        **explained,
        "students": rows,
        "scores": {name: scores(rows, name) for name in config.students.backbones},
        "seconds": {**seconds, "total": round(sum(seconds.values()), 2)},
        "hardware": _machine(),
        "version": __version__,
    }


def _facts(assembly: Assembly, distilled: DistilledSet, size: int) -> dict[str, Any]:
    """What the result says of the set itself, ``size`` bytes as a file."""
    config, data = assembly.bench.config, assembly.bench.data
    assert isinstance(config, DistillConfig)
    classes = len(data.classes)
    return {
        "dataset": data.name,
        "classes": classes,
        "train_pictures": data.train.targets.bincount(minlength=classes).tolist(),
        "test_pictures": data.test.targets.bincount(minlength=classes).tolist(),
        "method": config.method.name,
        "ipc": config.ipc,
        "seed": config.seed,
        "published": config.published,
        "labels": config.labels.kind,
        "budget": {
            **{key: value for key, value in asdict(config.budget).items() if key != "choices"},
            "label_share": config.labels.share,
        },
        "recipe": asdict(config.recipe.student),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "bytes": asdict(distilled.ledger(config.ipc, data.train_bytes, size)),
        "images": {
            "natural_per_class": len(distilled.naturals) / classes,
            "naturals": distilled.targets.bincount(minlength=classes).tolist(),
            "compensators": len(distilled.compensators),
            "composed_per_class": len(distilled.pairs) // classes,
            "views": distilled.views.count if distilled.views else 0,
        },
        "teachers": {t.name: {"accuracy": t.accuracy, "seconds": t.seconds} for t in assembly.teachers},
    }


def train(config: TrainConfig) -> dict[str, Any]:
    """python train.py: a teacher, or a student on random naturals or a distilled file. Returns the result."""
    distilled = load(config.source.path or "") if config.source.kind == "distilled" else None
    hardware = _hardware(config)
    data = read(config.dataset)
    bench = Bench(data, config, hardware)
    name = config.backbone.name
    check_network(bench, name, config.backbone)
    if config.source.kind == "real":
        where = Path(config.output, "train", data.name, name, f"seed{config.seed}")
        with _loggers(config, where, f"{data.name}-{name}-seed{config.seed}") as loggers:
            teacher = train_teacher(replace(bench, loggers=loggers), name, config.backbone, config.seed)
        return {"accuracy": teacher.accuracy, "seconds": teacher.seconds, "file": str(teacher.file)}
    if distilled is not None:
        _require_fit(distilled, data, config.source.path)
        what = f"distilled-{digest(distilled.to_bytes())}"
        teachers = _named_teachers(bench, distilled) if distilled.header.labels == "dynamic" else []
    else:
        what = f"random-ipc{config.ipc}-{config.labels.kind}"
        made = []
        if config.labels.kind != "hard":
            check_backbones(bench, [])
            made = train_teachers(bench)
        where = claim(
            Path(config.output, "train", data.name, name, what, f"set{config.seed}"),
            bench.identity(**_settings(config)),
        )
        distilled = Assembly(bench, data.picks(config.seed), made, None, where, {}).of(RANDOM)
        teachers = [teacher.network for teacher in made]
    settings = bench.identity(file=digest(distilled.to_bytes()), **_settings(config))
    folder = claim(Path(config.output, "train", data.name, name, what, f"seed{config.seed}"), settings)
    steps = student_steps(bench, len(distilled), len(teachers), distilled.header.labels == "dynamic")
    source = StudentData.of_set(distilled, teachers)
    with _loggers(config, folder, f"{data.name}-{name}-{what}-seed{config.seed}") as loggers:
        ready = replace(bench, loggers=loggers)
        result = dict(train_student(ready, f"{name}-{what}", config.backbone, source, steps, config.seed, folder))
    log.info("student %s on %s: test accuracy %.2f %% (%s)", name, what, 100 * result["accuracy"], folder)
    return result


def _settings(config: BaseConfig) -> dict[str, Any]:
    """The part of a configuration that decides what a run makes: not where it lies, who watches, on what machine, or
    what it is compared with."""
    content = asdict(config)
    for key in ("output", "logger", "trainer", "dataset", "distill", "published", "report"):
        content.pop(key, None)
    content["students"].pop("sources")
    return content


def _require_fit(distilled: DistilledSet, data: Splits, path: str | None) -> None:
    shape, expected = tuple(distilled.naturals.shape[1:]), (data.channels, data.side, data.side)
    if len(distilled.header.classes) != len(data.classes) or shape != expected:
        raise UserError(
            f"source.path={path}: holds {len(distilled.header.classes)} classes of images {shape}, but dataset="
            f"{data.name} has {len(data.classes)} classes of images {expected}; give the dataset it was made from"
        )


def _named_teachers(bench: Bench, distilled: DistilledSet) -> list[nn.Module]:
    """The teachers that a file with dynamic labels names."""
    teachers = []
    for name, (file, known) in distilled.header.provenance.get("files", {}).items():
        path = Path(file)
        if not path.is_file() or digest(path.read_bytes()) != known:
            raise UserError(
                f"{file}: the teacher {name} that the file's dynamic labels need is missing or another than it was; "
                "restore it, run where outputs/ lies, or distil anew"
            )
        network = bench.network(backbone(name))
        load_weights(network, path)
        teachers.append(frozen(network))
    if not teachers:
        raise UserError("source.path: the file's labels are dynamic, but it names no teachers; distil anew")
    return teachers


@contextmanager
def _loggers(config: BaseConfig, folder: Path, name: str) -> Iterator[list[Logger]]:
    """The loggers of the configuration beside metrics.csv; a W&B run ends with the run, and says how."""
    loggers: list[Logger] = []
    exit_code = 1
    if "tensorboard" in config.logger:
        from pytorch_lightning.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(str(folder), name="", version="tensorboard"))
    if "wandb" in config.logger:
        import wandb
        from pytorch_lightning.loggers import WandbLogger

        folder.mkdir(parents=True, exist_ok=True)
        wandb_run = WandbLogger(
            name=name, save_dir=str(folder), settings=wandb.Settings(silent=True), **config.logger["wandb"]
        )
        wandb_run.log_hyperparams(_settings(config))
        loggers.append(wandb_run)
    try:
        yield loggers
        exit_code = 0
    finally:
        if "wandb" in config.logger:
            wandb.finish(exit_code=exit_code)


def _hardware(config: BaseConfig) -> Hardware:
    hardware = Hardware(**asdict(config.trainer))
    hardware.check()
    if rank() > 0:
        log.setLevel(logging.WARNING)
    return hardware


def _log_result(loggers: Sequence[Logger], result: Mapping[str, Any]) -> None:
    """The figures that people compare runs by, once, at the end."""
    figures = {f"accuracy/{row['backbone']}/{row['source']}": row["accuracy_mean"] for row in result["students"]}
    figures |= {f"teacher/{name}/accuracy": teacher["accuracy"] for name, teacher in result["teachers"].items()}
    figures |= {f"bytes/{name}": size for name, size in result["bytes"].items()}
    for logger in loggers:
        logger.log_metrics(figures, step=0)
        logger.save()


def _machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    threads = torch.get_num_threads()
    return {"gpu": gpu, "cpu_threads": threads, "torch": torch.__version__, "peak_bytes": peak}
