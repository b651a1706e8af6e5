"""CIFAR-10 with more classes: each class is divided into clusters of a teacher's logits, as folders of links.

    python benchmarks/subclasses.py --root data/cifar10-jpeg --clusters 10 --to data/cifar10-sub100

The result has real images and artificial classes; it stands in for a real data set of many classes. The train images of
a class are clustered by k-means (seeded) on the logits of a teacher that ``train.py`` trained; a test image goes to the
nearest centre. Sub-classes of one class look alike, so accuracies are low. What the set shows is how the difference
between methods at equal numbers of images depends on the number of classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from sklearn.cluster import KMeans

from infer.core import ufc
from infer.data import Pictures, Splits, read_folder
from infer.models.networks import build
from infer.models.weights import frozen, load_weights

BACKBONE, SIDE = "convnet_narrow", 32


@torch.no_grad()
def logits(teacher: torch.nn.Module, part: Pictures, data: Splits) -> torch.Tensor:
    """Return the logits of the teacher for every image, float32 [N, C]."""
    found = [teacher(ufc.normalise(images, *data.moments)) for images in part.images.split(500)]
    return torch.cat(found)


def clusters(train: torch.Tensor, test: torch.Tensor, count: int, seed: int) -> tuple[list[int], list[int]]:
    """Return the cluster numbers of the train and the test rows of one class."""
    found = KMeans(count, n_init=4, random_state=seed).fit(train.numpy())
    return found.labels_.tolist(), found.predict(test.numpy()).tolist()


def link(source: Path, to: Path, labels: list[int]) -> None:
    """Link the images of the class folder ``source`` into folders ``to``/<class>-<cluster>."""
    files = sorted(source.iterdir())
    assert len(files) == len(labels), f"{source}: has files that are not images"
    for file, label in zip(files, labels, strict=True):
        folder = to / f"{source.name}-{label:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).symlink_to(file.resolve())


def main() -> None:
    """Parse the arguments, cluster every class and link its images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder with train/<class>/ and test/<class>/")
    parser.add_argument("--to", type=Path, required=True, help="folder to create")
    parser.add_argument("--clusters", type=int, default=10, help="clusters of each class")
    parser.add_argument("--seed", type=int, default=0, help="seed of k-means")
    parser.add_argument("--teacher", type=Path, default=Path(f"outputs/train/cifar10/{BACKBONE}/seed0"))
    options = parser.parse_args()
    if options.to.exists():
        raise SystemExit(f"error: --to={options.to}: exists; remove it or choose another folder")
    data = read_folder(options.root, SIDE, test_fraction=None, stream=False, name="cifar10")
    teacher = build(BACKBONE, len(data.classes), data.channels, data.side)
    load_weights(teacher, options.teacher / "teacher.safetensors")
    parts = {"train": data.train, "test": data.test}
    outputs = {name: logits(frozen(teacher), part, data) for name, part in parts.items()}
    for number, name in enumerate(data.classes):
        members = {part: (pictures.targets == number).nonzero().flatten() for part, pictures in parts.items()}
        found = clusters(*(outputs[part][members[part]] for part in parts), options.clusters, options.seed)
        for part, labels in zip(parts, found, strict=True):
            link(options.root / part / name, options.to / part, labels)
    sizes = [len(list(folder.iterdir())) for folder in (options.to / "train").iterdir()]
    print(f"{options.to}: {len(sizes)} classes of {min(sizes)} to {max(sizes)} train images")


if __name__ == "__main__":
    main()
