"""Kill runs at random moments, start them again, and compare the end with that of an unbroken run.

    python tests/pipeline/kill_runs.py --count 40 --seed 0

Every scenario is a command that is first run unbroken. It is then run again elsewhere, and its process group is killed
a few times, each time after a random part of the seconds that the unbroken run took. The last start is left alone. Its
files must be the bits of the unbroken run's, its results the same, its metrics.csv whole, and no other file may be
left.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]

SHORT = [
    "trainer=cpu",
    "teachers.backbones=[convnet_narrow]",
    "recipe.teacher.epochs=2",
    "recipe.teacher.min_steps=0",
    "recipe.student.steps=60",
]
TINY = [*SHORT, "recipe.ufc.steps=40", "distill.rounds=2", "students.seeds=1", "students.sources=[distilled,random]"]
"""Settings of runs of seconds."""

SCENARIOS = {
    "infer": ["distill.py", "method=infer", "ipc=5", *TINY],
    "infer_plus": ["distill.py", "method=infer_plus", "ipc=10", "labels.proxy_steps=40", *TINY],
    "train": ["train.py", "source=random", "ipc=4", "labels=static", *SHORT],
    "study": ["distill.py", "method=random", "ipc=2", "tune=default", "tune.trials=3", *TINY],
    "sweep": ["distill.py", "-m", "method=random,herding", "ipc=2", *TINY],
}
KILLS_A_RUN = 4
DEPENDS_ON_TIME = {"seconds", "steps_per_second", "peak_bytes", "duration", "started", "time", "date", "hardware"}
"""Keys of results that differ between two runs of the same settings."""


def start(words: list[str], output: Path) -> subprocess.Popen[str]:
    """Start a command in a process group of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    return subprocess.Popen(
        [sys.executable, *words, f"output={output}"],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(words: list[str], output: Path) -> float:
    """Run a command to its end; return its seconds."""
    begin = time.perf_counter()
    process = start(words, output)
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}: exit status {process.returncode}\n{printed}")
    return time.perf_counter() - begin


def kill(words: list[str], output: Path, after: float) -> bool:
    """Start a command and kill it ``after`` so many seconds; return whether it was still running."""
    process = start(words, output)
    try:
        process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    return False


def state(output: Path) -> dict[str, Any]:
    """Describe what lies below ``output``: digests of tensors, results without times, steps of metrics, other names."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in output.rglob("*") if path.is_file()):
        name = str(path.relative_to(output))
        if path.name == "distilled.safetensors":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.suffix == ".safetensors":  # which may hold seconds
            tensors = load_file(path)
            found[name] = {
                key: hashlib.sha256(tensors[key].numpy().tobytes()).hexdigest()
                for key in sorted({*tensors} - DEPENDS_ON_TIME)
            }
        elif path.name == "result.json":
            found[name] = _timeless(json.loads(path.read_text(encoding="utf-8")))
        elif path.name == "metrics.csv":
            found[name] = _measured(path)
        else:
            found[name] = "present"
    return found


def _timeless(value: Any) -> Any:
    """Return ``value`` without what depends on time and place."""
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in DEPENDS_ON_TIME and k != "command"}
    if isinstance(value, list):
        return [_timeless(entry) for entry in value]
    return Path(value).name if isinstance(value, str) and os.sep in value else value


def _measured(path: Path) -> Counter[tuple[str, str]]:
    """Count the values of a metrics.csv by column and step; an unbroken run has each once."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return Counter((key, row["step"]) for row in rows for key, value in row.items() if value and key != "step")


def differences(whole: dict[str, Any], broken: dict[str, Any]) -> list[str]:
    """Name what differs between the ends of an unbroken and a killed run; locks and logs may."""
    names = sorted(
        name
        for name in {*whole, *broken}
        if whole.get(name) != broken.get(name) and not name.endswith((".lock", ".log", ".html"))
    )
    return [f"{name}: {_short(whole.get(name))} became {_short(broken.get(name))}" for name in names]


def _short(value: Any) -> str:
    return str(value)[:300]


def trial(name: str, draw: random.Random, folder: Path, whole: dict[str, Any], seconds: float) -> tuple[int, list[str]]:
    """Kill one run a few times and let it end; return how many kills met it running, and what then differs."""
    output = folder / "outputs"
    kills = [kill(SCENARIOS[name], output, draw.uniform(0.1, 1) * seconds) for _ in range(KILLS_A_RUN)]
    finish(SCENARIOS[name], output)
    return sum(kills), differences(whole, state(output))


def kill_runs(count: int, seed: int, names: list[str]) -> dict[str, list[str]]:
    """Kill runs of the scenarios ``names`` in turn until ``count`` kills met one; return what differed by trial."""
    draw, done, found = random.Random(seed), 0, {}
    with tempfile.TemporaryDirectory() as place:
        ends = {}
        for name in names:
            seconds = finish(SCENARIOS[name], Path(place, name, "outputs"))
            ends[name] = (state(Path(place, name, "outputs")), seconds)
        number = 0
        while done < count:
            name = names[number % len(names)]
            kills, differs = trial(name, draw, Path(place, f"{name}-{number}"), *ends[name])
            done += kills
            found[f"{number} {name}"] = differs
            print(f"{done:3d} kills  {name:<12}{differs or 'the same end'}", flush=True)
            number += 1
    return found


def main() -> int:
    """Run as a command; the exit status is 1 where an end differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=40, help="kills that meet a running process (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    parser.add_argument("--only", nargs="*", choices=SCENARIOS, default=list(SCENARIOS), help="scenarios")
    words = parser.parse_args()
    return int(any(kill_runs(words.count, words.seed, words.only).values()))


if __name__ == "__main__":
    sys.exit(main())
