"""Everything that is to be measured on a GPU, in one script of less than eight minutes.

    python benchmarks/gpu.py data/cifar10-jpeg --json gpu.json

The argument is a folder of CIFAR-10 with train/<class>/ and test/<class>/. Each part is a command in a process of its
own with a time limit; one that fails or takes too long has its ``error`` in the file, and the others go on. The file is
written after each part:

- step: a training step of a ResNet18 student and teacher, alone, recorded as a CUDA graph, over the floor (step.py);
- distillation: compensators, their passes recorded, against the serial reference (distillation.py);
- job: the whole job at ipc 10 with the paper's networks, from pictures to the table: four teachers of 20 epochs, and
  three students of either network on the file and on random pictures;
- side by side: small trainings, four at once on the GPU against one after the other (jobs.py);
- compile: the step of the student as it is, and in modes of torch.compile.

``--smoke`` runs all parts on the CPU at a size that says nothing, on digits, without compiling.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import measure
import torch

ROOT = Path(__file__).parent.parent
LIMIT = 465
"""Seconds of all parts together; the rest of eight minutes is the start of this script."""
JOB = ["recipe=one_cycle", "method=infer", "ipc=10", "students.sources=[distilled,random]", "trainer=gpu"]
JOB += ["distill.compile=graph"]
SMALL = ["recipe.teacher.epochs=1", "recipe.teacher.min_steps=0", "teachers.margin=-1", "recipe.ufc.steps=50"]
SMALL += ["recipe.student.steps=500", "students.sources=[distilled,random]"]
TINY = ["dataset=digits", "recipe=digits", "teachers.backbones=[convnet_narrow]", "teachers.margin=-1", "ipc=2"]
TINY += ["recipe.teacher.epochs=1", "recipe.teacher.min_steps=0", "recipe.ufc.steps=2", "recipe.student.steps=2"]
TINY += ["students.backbones=[convnet_narrow]", "students.sources=[distilled]", "students.seeds=1"]


class Part(NamedTuple):
    """A command and its time limit.

    Attributes:
        seconds: the limit.
        words: of the command, after python.
        written: what it writes: its JSON, or the folder of a run.
    """

    seconds: int
    words: list[str]
    written: Path


def parts(cifar10: Path, folder: Path) -> dict[str, Part]:
    """Return the parts by name; what matters most comes first."""
    resnet = ["benchmarks/step.py", "--backbones", "resnet18", "--device", "cuda", "--precision", "bf16-mixed"]
    resnet += ["--steps", "150", "--warm-up", "20", "--turns", "1", "--trainings", "student on mixed views"]
    serial = ["benchmarks/distillation.py", "--backbones", "resnet18", "convnet_narrow", "--device", "cuda"]
    serial += ["--compile", "graph", "--rounds", "7", "--seconds", "4", "--turns", "2"]
    root = f"dataset.root={cifar10.resolve()}"
    side = ["benchmarks/jobs.py", "--trainer", "gpu", "--jobs", "4", "--turns", "1", root, *SMALL]
    return {
        "step": _writing(50, [*resnet, "teacher", "--compile", "graph"], folder / "step.json"),
        "distillation": _writing(45, serial, folder / "distillation.json"),
        "job": _run(240, ["dataset=cifar10", root, *JOB], folder / "job"),
        "side by side": _writing(45, side, folder / "jobs.json"),
        "compile=null": _writing(25, resnet, folder / "null.json"),
        **{
            f"compile={mode}": _writing(30, [*resnet, "--compile", mode], folder / f"{mode}.json")
            for mode in ("reduce-overhead", "default")
        },
    }


def tiny(folder: Path) -> dict[str, Part]:
    """Return the same parts, at sizes for a CPU and a moment."""
    case = ["--backbones", "convnet_narrow", "--classes", "3", "--side", "8", "--device", "cpu", "--turns", "1"]
    step = ["benchmarks/step.py", *case, "--steps", "2", "--warm-up", "1", "--batch", "4", "--trainings", "teacher"]
    jobs = ["benchmarks/jobs.py", "--jobs", "2", "--turns", "1", "--threads", "1", *TINY, "students.seeds=2"]
    serial = ["benchmarks/distillation.py", *case, "--rounds", "2", "--steps", "2"]
    return {
        "step": _writing(300, step, folder / "step.json"),
        "distillation": _writing(300, serial, folder / "distillation.json"),
        "job": _run(300, [*TINY, "trainer=cpu", "trainer.jobs=1"], folder / "job"),
        "side by side": _writing(600, jobs, folder / "jobs.json"),
        "compile=default": _writing(300, [*step, "--compile", "default"], folder / "default.json"),
    }


def _writing(seconds: int, words: list[str], file: Path) -> Part:
    return Part(seconds, [*words, "--json", str(file)], file)


def _run(seconds: int, words: list[str], output: Path) -> Part:
    return Part(seconds, ["distill.py", *words, f"output={output}"], output)


def outcome(part: Part, limit: float) -> dict[str, Any]:
    """Run a part for at most ``limit`` seconds; return its command, its seconds, its result and its error."""
    log = part.written.with_suffix(".log")
    environment = {**os.environ, "COLUMNS": "200"}
    begun = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *part.words],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
            error = None if code == 0 else f"exit code {code}: {_last_line(log)}"
        except subprocess.TimeoutExpired:
            error = f"it took more than {limit:.0f} s"
        finally:
            _end(process)
    seconds = round(time.perf_counter() - begun, 1)
    return {
        "command": shlex.join(["python", *part.words]),
        "seconds": seconds,
        "error": error,
        "result": _stages(part.written) if part.words[0] == "distill.py" else _content(part.written),
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and every process that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def _content(file: Path) -> Any:
    return json.loads(file.read_text()) if file.exists() else None


def _stages(output: Path) -> dict[str, Any]:
    """Return what a run has done: the seconds of its teachers, and where it has ended, those of its stages."""
    teachers = {file.parts[-3]: _content(file) for file in sorted(output.glob("train/*/*/seed0/result.json"))}
    found: dict[str, Any] = {
        "teachers": {name: {key: each[key] for key in ("seconds", "accuracy")} for name, each in teachers.items()}
    }
    for file in output.glob("distill/*/*/seed0/result.json"):
        result = _content(file)
        rows = [[row["backbone"], row["source"], row["seconds"], row["accuracies"]] for row in result["students"]]
        found |= {"stages": result["seconds"], "students": rows, "hardware": result["hardware"]}
    return found


def main() -> int:
    """Parse the arguments, run the parts and write what they found; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", type=Path, nargs="?", help="folder of CIFAR-10: train/<class>/ and test/<class>/")
    parser.add_argument("--parts", nargs="+", help="names of parts; all by default")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on the CPU, to see that the script runs")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="file to write the results to")
    options = parser.parse_args()
    if not options.smoke and (why := _missing(options.cifar10)):
        print(f"error: {why}", file=sys.stderr)
        return 2
    if options.smoke:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"  # torch.compile then returns the function itself
    deadline = time.monotonic() + (math.inf if options.smoke else LIMIT)
    found: dict[str, Mapping[str, Any]] = {}
    hardware = measure.machine("cpu" if options.smoke else "cuda")
    with tempfile.TemporaryDirectory() as folder:
        chosen = tiny(Path(folder)) if options.smoke else parts(options.cifar10, Path(folder))
        for name in options.parts or chosen:
            limit = min(chosen[name].seconds, deadline - time.monotonic())
            found[name] = outcome(chosen[name], limit) if limit > 0 else {"error": "no time was left", "result": None}
            print(f"{name}: {found[name]['error'] or found[name]['result']}", flush=True)
            options.json.write_text(json.dumps({"hardware": hardware, "parts": found}, indent=2) + "\n")
    return int(any(each["error"] for each in found.values()))


def _missing(cifar10: Path | None) -> str | None:
    """Return what is missing for a measurement."""
    if not torch.cuda.is_available():
        return "no GPU is visible here; --smoke runs every part at a tiny size on the CPU"
    if cifar10 is None or not (cifar10 / "train").is_dir():
        return f"cifar10={cifar10}: give the folder of CIFAR-10 with train/<class>/ and test/<class>/"
    return None


if __name__ == "__main__":
    sys.exit(main())
