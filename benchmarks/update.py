"""What update= loses against distilling anew: a file to which a class, or half of the pictures, comes later.

    python benchmarks/update.py data/neu-steel --json update.json

``before`` is a file without what comes later, ``updated`` the file that update= makes of it and the new pictures, and
``anew`` a file of all pictures. The last two have the same bytes, the same student and the same seeds. The file before
a class comes has the share of these bytes that its classes are of all; the one before pictures come has all of them.
Each run is the command distill.py, with one thread. ``decibels`` is the peak signal-to-noise ratio of train pictures
under the codec, once and, in another order, twice, as of stored pictures that are stored again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measure
import torch

from infer.core import codec
from infer.data import read_folder

ROOT = Path(__file__).parent.parent
BYTES, SIDE, CODEC, QUALITY = 24_576, 32, "avif", 40
WORDS = [
    *("dataset=image_folder", f"dataset.image_size={SIDE}", "dataset.channels=1", "recipe=image_folder"),
    *("method=infer_plus", f"budget.codec={CODEC}", f"budget.quality={QUALITY}", "teachers.backbones=[convnet_narrow]"),
    *("recipe.teacher.epochs=1", "recipe.teacher.min_steps=1000", "recipe.student.epochs=null"),
    *("recipe.student.steps=300", "labels.proxy_steps=100", "labels.candidates=2"),
    *("students.sources=[distilled]", "trainer=cpu"),
]


def divide(root: Path, folder: Path, later: str) -> tuple[Path, Path, float]:
    """Copy the pictures of ``root`` that are there ``before``, and those that come ``later``: a class, or half of them.

    Returns:
        Both folders, and the share of the bytes that the file before gets. The later one tests all classes.
    """
    before, new = folder / "before", folder / "new"
    *old, last = classes = sorted(path.name for path in (root / "train").iterdir())
    shutil.copytree(root / "test", new / "test")
    if later == "class":
        for part in ("train", "test"):
            for name in old:
                shutil.copytree(root / part / name, before / part / name)
        shutil.copytree(root / "train" / last, new / "train" / last)
        return before, new, len(old) / len(classes)
    shutil.copytree(root / "test", before / "test")
    for number, file in enumerate(sorted((root / "train").glob("*/*"))):
        place = (before, new)[number % 2] / "train" / file.parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    return before, new, 1.0


def distilled(
    root: Path, size: int, output: Path, words: Sequence[str], students: int = 2
) -> tuple[dict[str, Any], Path]:
    """Run distill.py on the pictures in ``root``; return what is recorded of it, and its file."""
    own = [f"dataset.root={root}", f"budget.bytes={size}", f"output={output}", f"students.seeds={students}"]
    began = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "distill.py", *WORDS, *words, *own], cwd=ROOT, env=environment, check=True)
    seconds = time.perf_counter() - began
    (file,) = output.glob("distill/*/*/seed*/result.json")
    result = json.loads(file.read_text(encoding="utf-8"))
    (row,) = result["students"]
    found = {
        "seconds": round(seconds, 1),
        "bytes": result["bytes"]["file"],
        "train_pictures": result["train_pictures"],
        "stored": result["images"]["naturals"],
        "teacher": result["teachers"]["convnet_narrow"]["accuracy"],
        "accuracies": row["accuracies"],
        "accuracy_mean": row["accuracy_mean"],
        "accuracy_std": row["accuracy_std"],
        "recall": row["recall"],
    }
    return found, file.with_name("distilled.safetensors")


def decibels(root: Path) -> list[float]:
    """Return the peak signal-to-noise ratio of train pictures that are compressed once, and twice."""
    images = read_folder(root, SIDE, channels=1).train.images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    once = codec.decode(codec.encode(images, CODEC, QUALITY), len(images), (1, SIDE, SIDE))
    twice = codec.decode(codec.encode(once[order], CODEC, QUALITY), len(images), (1, SIDE, SIDE))
    pairs = ((once, images), (twice, images[order]))
    return [float(10 * (255**2 / (ours.float() - true.float()).square().mean()).log10()) for ours, true in pairs]


def main() -> None:
    """Parse the arguments, make the files, print what was measured and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder with train/<class>/ and test/<class>/ pictures")
    parser.add_argument("words", nargs="*", help="words of distill.py after those of this file")
    parser.add_argument("--later", nargs="+", choices=("class", "half"), default=["class", "half"], help="what comes")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        found["anew"], _ = distilled(options.root.resolve(), BYTES, Path(place, "anew"), options.words)
        for later in options.later:
            folder = Path(place, later)
            before, new, share = divide(options.root, folder, later)
            old, file = distilled(before, int(share * BYTES), folder / "old", options.words, students=1)
            updated, _ = distilled(new, BYTES, folder / "updated", [*options.words, f"update={file}"])
            found[later] = {"before": old, "updated": updated}
    content = {
        "hardware": {**measure.machine("cpu"), "threads": 1, "cores": os.cpu_count()},
        "words": [*WORDS, *options.words],
        "decibels": decibels(options.root),
        **found,
    }
    print(json.dumps(content, indent=2))
    if options.json:
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
