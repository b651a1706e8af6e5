"""The whole job, from pictures to the table: trainings side by side against one after the other, in alternation.

    python benchmarks/jobs.py dataset.root=data/cifar10-jpeg --json jobs.json

Each run is the command distill.py, its start included, in a folder of its own. ``one by one`` is trainer.jobs=1, with
the same threads in each training and therefore the same results. ``all threads`` is trainer.jobs=1 with every core in
each training: one process, as it was before there were jobs. A ratio is the seconds of one of them over those side by
side, of runs next to each other. distill.rounds is fixed, because a measurement would choose it anew in each folder.
With ``--trainer gpu`` the processes share a GPU, and there is no third kind.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measure
import torch

ROOT = Path(__file__).parent.parent
WORDS = ["dataset=cifar10", "recipe=cpu", "method=infer", "ipc=10", "students.seeds=3", "distill.rounds=8"]


def job(words: Sequence[str], jobs: str, threads: str) -> tuple[float, list[Any]]:
    """Run distill.py in a new folder; return its seconds, and the accuracies of its teachers and students."""
    with tempfile.TemporaryDirectory() as output:
        own = [f"trainer.jobs={jobs}", f"trainer.threads={threads}", f"output={output}"]
        began = time.perf_counter()
        subprocess.run([sys.executable, "distill.py", *words, *own], cwd=ROOT, check=True)
        seconds = time.perf_counter() - began
        (file,) = Path(output, "distill").glob("*/*/seed*/result.json")
        result = json.loads(file.read_text(encoding="utf-8"))
    rows = [[row["backbone"], row["source"], *row["accuracies"]] for row in result["students"]]
    return seconds, [*rows, *([name, found["accuracy"]] for name, found in result["teachers"].items())]


def main() -> None:
    """Parse the arguments, run the jobs in turn, print the ratios and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help=f"words of distill.py after {' '.join(WORDS)}")
    parser.add_argument("--jobs", default="auto", help="trainer.jobs of the runs side by side")
    parser.add_argument("--threads", default="null", help="trainer.threads of both, null: as trainer.jobs=auto has it")
    parser.add_argument(
        "--turns", type=int, default=3, help="runs of each of the three, which alternate: A B C A B C ..."
    )
    parser.add_argument("--trainer", default="cpu", choices=("cpu", "gpu"))
    parser.add_argument("--json", type=Path, help="file to write the results to")
    options = parser.parse_args()
    cores = torch.get_num_threads()
    kinds = {
        "one by one": ("1", options.threads),
        "side by side": (options.jobs, options.threads),
    }
    if options.trainer == "cpu":
        kinds["all threads"] = ("1", str(cores))
    words = [*WORDS, *options.words, f"trainer={options.trainer}"]
    found: dict[str, list[tuple[float, list[Any]]]] = {kind: [] for kind in kinds}
    for _ in range(options.turns):
        for kind, settings in kinds.items():
            found[kind].append(job(words, *settings))
            print(f"{kind}: {found[kind][-1][0]:.1f} s", flush=True)
    ours = [seconds for seconds, _ in found["side by side"]]
    ratios = {
        kind: [seconds / own for (seconds, _), own in zip(found[kind], ours, strict=True)]
        for kind in kinds
        if kind != "side by side"
    }
    accuracies = [accuracies for kind in ("one by one", "side by side") for _, accuracies in found[kind]]
    content = {
        "hardware": measure.machine("cuda" if options.trainer == "gpu" else "cpu"),
        "jobs": cores if options.jobs == "auto" else int(options.jobs),
        **_summary(ratios["one by one"]),
        "same_accuracies": all(each == accuracies[0] for each in accuracies),
        **({"against_all_threads": _summary(ratios["all threads"])} if "all threads" in ratios else {}),
        "seconds": {kind: [round(seconds, 1) for seconds, _ in runs] for kind, runs in found.items()},
        "words": words,
    }
    measure.printed(content)
    if options.json:
        options.json.write_text(json.dumps(content, indent=2) + "\n")


def _summary(ratios: Sequence[float]) -> dict[str, float]:
    return {"ratio_median": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}


if __name__ == "__main__":
    main()
