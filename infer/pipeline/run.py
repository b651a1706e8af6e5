"""The two commands: from a checked configuration to a finished, reported run."""

from __future__ import annotations

import json
import logging
import os
import resource
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from infer import __version__
from infer.cli.schema import COMMAND, BaseConfig, DatasetConfig, DistillConfig, TrainConfig, backbone
from infer.core.errors import UserError
from infer.core.files import claim, digest, find, read_json, write_json
from infer.data import Splits
from infer.data import folders as sources
from infer.data.layout import Layout
from infer.data.summary import survey
from infer.distilled.dataset import DistilledSet, load
from infer.methods import check
from infer.models.networks import frozen, load_weights
from infer.pipeline import search as allocate
from infer.pipeline.assemble import RANDOM, Assembly, split_by_images
from infer.pipeline.compare import Sets, compare, missing, scores
from infer.report import page, pictures, table, tracking
from infer.report.analysis import Exhibits, evidence, usable
from infer.report.verdict import decide
from infer.training.compensators import Compensators
from infer.training.context import Bench
from infer.training.fit import Hardware, metrics_logger, rank
from infer.training.students import StudentData, student_steps, train_student
from infer.training.teachers import check_backbones, check_network, teacher_folder, train_teacher, train_teachers

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
    """python distill.py: teachers, compensators, labels, one file, students, report. Returns result.json's content, or
    with ``dry_run`` what there is of it."""
    if config.dry_run:
        return plan(config)
    result, folder = make(config)
    if rank() == 0:
        table.show(result)
    if (folder / "report.html").is_file():
        log.info("report: %s", folder / "report.html")
    file = folder / "distilled.safetensors"
    log.info("file: %s   figures: %s   pictures: %s", file, folder / "result.json", folder / "images")
    return result


def plan(config: DistillConfig) -> dict[str, Any]:
    """What this run would find: its folder, and its state there, finished, unfinished or new. Makes nothing."""
    place, _, settings = _ready(config)
    folder, claimed = find(place, settings)
    result = _kept(folder) if claimed else None
    lacking = missing(config, result["students"]) if result else []
    finished = result and not lacking and _explained(config, folder, result)
    state = "finished" if finished else "unfinished" if claimed else "new"
    to_come = f"   to come: {', '.join(source for _, source in lacking)}" if lacking else ""
    print(f"{state:<12}{folder}{to_come}")
    return {"state": state, "folder": str(folder)}


def _kept(folder: Path) -> dict[str, Any] | None:
    """What the run of that folder came to; None where it, or its file, is not there."""
    return read_json(folder / "result.json") if (folder / "distilled.safetensors").is_file() else None


def make(config: DistillConfig, report: Callable[[int, float], None] | None = None) -> tuple[dict[str, Any], Path]:
    """The run of that configuration, made or found finished: result.json's content, and the folder.

    ``report`` is told of its students on their way. Of several processes with one configuration one makes it.
    """
    place, bench, settings = _ready(config)
    data, folder = bench.data, claim(place, settings)
    bench = replace(bench, report=report)
    with bench.alone(folder / ".lock", str(folder)):
        result = _kept(folder)
        if result is not None and not missing(config, result["students"]) and _explained(config, folder, result):
            log.info("finished before: %s", folder)
            return _reported(config, folder, result), folder
        name = f"{data.name}-{config.method.name}-ipc{config.ipc}-seed{config.seed}"
        tags = [data.name, config.method.name, f"ipc{config.ipc}", config.labels.kind]
        with tracking.loggers(config.logger, folder, name, "distill", tags, settings) as watching:
            result, teachers = _distill(replace(bench, loggers=watching), folder, settings, result)
            tracking.log_figures([metrics_logger(folder), *watching], result)
            write_json(folder / "result.json", result)
            result = _reported(config, folder, result)
            tracking.publish(watching, result, folder, teachers)
    return result, folder


def _ready(config: DistillConfig) -> tuple[Path, Bench, dict[str, Any]]:
    """Where a run belongs, what it works with, and the settings that it is known by; refuses what cannot be made."""
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
    if config.budget.choices.values:
        allocate.check(data)
    bench = Bench(data, config, hardware)
    check_backbones(bench, config.students.backbones)
    backbones = {name: asdict(backbone(name)) for name in config.teachers.backbones + config.students.backbones}
    settings = bench.identity(**decisive(config), backbones=backbones)
    name = f"{config.method.name}-ipc{config.ipc}"
    return Path(config.output, "distill", data.name, name, f"seed{config.seed}"), bench, settings


def _explained(config: DistillConfig, folder: Path, result: Mapping[str, Any]) -> bool:
    """Whether a report that is asked for has all it rests on; the evidence of an older version is taken again."""
    known = (folder / "exhibits.safetensors").is_file() and "real_coded" in result.get("evidence", {})
    return not config.report.language or known


def _reported(config: DistillConfig, folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """The result with its verdict, and the page written, where a report is asked for."""
    if rank() == 0 and config.report.language:
        result = {**result, **decide(result, config.report)}
        write_json(folder / "result.json", result)
        exhibits = Exhibits.load(folder / "exhibits.safetensors")
        page.write(result, exhibits, load(folder / "distilled.safetensors"), folder / "report.html")
    return result


def _distill(
    bench: Bench, folder: Path, settings: Mapping[str, Any], before: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Path]]:
    """The run's result, and the file of each teacher; where a result was there ``before``, its set is as it was, and
    rows come to its table.

    The set is on disk, and said to be, before its students start: a run that is stopped never makes another.
    """
    config, data = bench.config, bench.data
    assert isinstance(config, DistillConfig)
    file = folder / "distilled.safetensors"
    teachers = train_teachers(bench)
    compensate = Compensators(teachers)
    assembly = Assembly(bench, data.picks(config.seed), teachers, compensate, folder, settings)
    config, choices = allocate.allocate(assembly, config.report.seconds)
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
    result = {
        **made,
        **explained,
        "students": rows,
        "scores": {name: scores(rows, name) for name in config.students.backbones},
        "seconds": {**seconds, "total": round(sum(seconds.values()), 2)},
        "hardware": _machine(),
        "version": __version__,
    }
    return result, {teacher.name: teacher.file for teacher in teachers}


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
        "recipe": {**asdict(config.recipe.student), "mixing": config.mixing.kind},
        "command": os.environ.get(COMMAND) or shlex.join(["python", *sys.orig_argv[1:]]),
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
        where = teacher_folder(bench, name, config.backbone, config.seed)
        title, tags = f"{data.name}-{name}-seed{config.seed}", [data.name, name]
        with tracking.loggers(config.logger, where, title, "teacher", tags, decisive(config)) as watching:
            teacher = train_teacher(replace(bench, loggers=watching), name, config.backbone, config.seed)
            facts = {"accuracy": teacher.accuracy, "seconds": teacher.seconds}
            tracking.publish_teacher(watching, data.name, name, teacher.file, facts)
        return {**facts, "file": str(teacher.file)}
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
            bench.identity(**decisive(config)),
        )
        with bench.alone(where / ".lock", str(where)):
            distilled = Assembly(bench, data.picks(config.seed), made, None, where, {}).of(RANDOM)
        teachers = [teacher.network for teacher in made]
    settings = bench.identity(file=digest(distilled.to_bytes()), **decisive(config))
    folder = claim(Path(config.output, "train", data.name, name, what, f"seed{config.seed}"), settings)
    steps = student_steps(bench, len(distilled), len(teachers), distilled.header.labels == "dynamic")
    source = StudentData.of_set(distilled, teachers)
    title, tags = f"{data.name}-{name}-{what}-seed{config.seed}", [data.name, name, config.source.kind]
    with (
        bench.alone(folder / ".lock", str(folder)),
        tracking.loggers(config.logger, folder, title, "student", tags, settings) as watching,
    ):
        ready = replace(bench, loggers=watching)
        result = dict(train_student(ready, f"{name}-{what}", config.backbone, source, steps, config.seed, folder))
    log.info("student %s on %s: test accuracy %.2f %% (%s)", name, what, 100 * result["accuracy"], folder)
    return result


def decisive(config: BaseConfig) -> dict[str, Any]:
    """The part of a configuration that decides what a run makes: not where it lies, who watches, on what machine, or
    what it is compared with."""
    content = asdict(config)
    for key in ("output", "logger", "trainer", "dataset", "distill", "published", "report", "tune", "dry_run"):
        content.pop(key, None)
    content["students"].pop("sources")
    content.get("source", {}).pop("path", None)
    if not content["labels"]["compensators"]:  # runs of before there were any are known without them
        del content["labels"]["compensators"]
    return content


def _require_fit(distilled: DistilledSet, data: Splits, path: str | None) -> None:
    shape, expected = tuple(distilled.naturals.shape[1:]), (data.channels, data.side, data.side)
    if len(distilled.header.classes) != len(data.classes) or shape != expected:
        raise UserError(
            f"source.path={path}: holds {len(distilled.header.classes)} classes of images {shape}, but dataset="
            f"{data.name} has {len(data.classes)} classes of images {expected}; give the dataset it was made from"
        )
    for own, other in zip(distilled.header.classes, data.classes, strict=True):
        if own != other:
            raise UserError(
                f"source.path={path}: has the class {own} where dataset={data.name} has {other}; give the dataset it "
                "was made from"
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


def _hardware(config: BaseConfig) -> Hardware:
    hardware = Hardware(**asdict(config.trainer))
    hardware.check()
    if rank() > 0:
        log.setLevel(logging.WARNING)
    return hardware


def _machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    threads = torch.get_num_threads()
    return {"gpu": gpu, "cpu_threads": threads, "torch": torch.__version__, "peak_bytes": peak}
