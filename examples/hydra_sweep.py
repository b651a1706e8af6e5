"""Run a Hydra sweep from Python, without a shell, and read its table.

    python examples/hydra_sweep.py

distils the digits by the paper's method and by random selection, at two sizes and with three seeds: twelve jobs that
share their teachers. Words after ``--`` are added to the command line:

    python examples/hydra_sweep.py -- recipe.student.steps=1000 trainer=cpu

The same command again finds the finished jobs, resumes an unfinished one, and writes the same table.
"""

import argparse
import csv
import sys
from pathlib import Path

from infer.cli import distill

JOBS = ["-m", "method=infer,random", "ipc=5,10", "seed=0,1,2"]
QUICK = ["students.seeds=1", "students.sources=[distilled]"]  # one student of each file


def sweep(output: Path, words: list[str]) -> Path:
    """Run all jobs, as ``python distill.py -m ...`` does, and return the table of this sweep."""
    sys.argv = ["distill.py", *JOBS, *QUICK, f"output={output}", *words]
    distill()
    tables = (output / "sweeps").glob("*/table.csv")
    return max(tables, key=lambda path: path.stat().st_mtime)


def main() -> None:
    """Run the sweep, then print the mean and the std over its seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs"), help="folder of all outputs; default: outputs")
    parser.add_argument("words", nargs="*", help="further words of the command line, after --")
    options = parser.parse_args()
    with sweep(options.output, options.words).open() as file:
        for row in csv.DictReader(file):
            accuracy, std = 100 * float(row["accuracy"]), 100 * float(row["std"])
            print(f"{row['setting']} ipc={row['ipc']}: {accuracy:.1f} ± {std:.1f} % over {row['students']} seeds")


if __name__ == "__main__":
    main()
