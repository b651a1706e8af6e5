"""CIFAR-10 with more classes than it has: each class cut into clusters of a teacher's features, as folders of links.

    python benchmarks/subclasses.py --root data/cifar10-jpeg --clusters 10 --to data/cifar10-sub100

A real set with many classes is not at hand where this project is made; this one has real pictures and made-up classes.
Train pictures of a class are clustered by k-means (seeded) on the logits of a teacher that ``train.py`` trained; test
pictures go to the nearest centre. Sub-classes of a class look alike, so accuracies are low; what is to be read off is
the difference between methods at equal images, against the number of classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load as from_safetensors
from sklearn.cluster import KMeans

from infer.cli import schema
from infer.core import ufc
from infer.data import Pictures, Splits
from infer.data import folders as sources
from infer.data.layout import Layout
from infer.models.networks import build, frozen


@torch.no_grad()
def logits(teacher: torch.nn.Module, part: Pictures, data: Splits) -> torch.Tensor:
    """float32 [N, C]."""
    found = [teacher(ufc.normalise(images, *data.moments)) for images in part.images.split(500)]
    return torch.cat(found)


def clusters(train: torch.Tensor, test: torch.Tensor, count: int, seed: int) -> tuple[list[int], list[int]]:
    """Cluster numbers of the train and the test rows of one class."""
    found = KMeans(count, n_init=4, random_state=seed).fit(train.numpy())
    return found.labels_.tolist(), found.predict(test.numpy()).tolist()


def main() -> None:
    """Parse, cluster, link."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--root", type=Path, required=True, help="folder with train/<class>/ and test/<class>/")
    made.add_argument("--to", type=Path, required=True)
    made.add_argument("--clusters", type=int, default=10)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--teacher", type=Path, default=Path("outputs/train/cifar10/convnet_narrow/seed0"))
    options = made.parse_args()
    if options.to.exists():
        raise SystemExit(f"error: --to={options.to}: exists; remove it or choose another folder")
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        config = schema.checked(compose("train", ["dataset=cifar10", "backbone=convnet_narrow"]))
    data = sources.folder("cifar10", options.root, Layout(config.dataset.image_size, 3, False, None), None, 0)
    backbone = config.backbone
    teacher = build(backbone.model, backbone.options, backbone.stem, len(data.classes), 3, data.side)
    teacher.load_state_dict(from_safetensors((options.teacher / "teacher.safetensors").read_bytes()))
    parts = {"train": data.train, "test": data.test}
    outputs = {name: logits(frozen(teacher), part, data) for name, part in parts.items()}
    for number, name in enumerate(data.classes):
        members = {part: (pictures.targets == number).nonzero().flatten() for part, pictures in parts.items()}
        found = clusters(*(outputs[part][members[part]] for part in parts), options.clusters, options.seed)
        for part, labels in zip(parts, found, strict=True):
            files = sorted((options.root / part / name).iterdir())
            assert len(files) == len(labels), f"{options.root / part / name}: has files that are no pictures"
            for file, label in zip(files, labels, strict=True):
                folder = options.to / part / f"{name}-{label:02d}"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / file.name).symlink_to(file.resolve())
    sizes = [len(list(folder.iterdir())) for folder in (options.to / "train").iterdir()]
    print(f"{options.to}: {len(sizes)} classes of {min(sizes)} to {max(sizes)} train pictures")


if __name__ == "__main__":
    main()
