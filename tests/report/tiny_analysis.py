"""A tiny data set of stripes, its distilled sets and students, for the tests of this folder."""

from functools import cache

import torch
from torch import Tensor, nn

from infer.core import codec, ufc
from infer.core.mixed_views import MixedViews
from infer.data import Splits
from infer.distilled import DistilledSet, Header
from infer.report.analysis import REPORTED, AnalysisInputs, Compression

CLASSES = ["flat", "kuro 黒", "ridge"]
STORED = 24


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy stripes uint8 [N, 1, 8, 8], whose frequency tells the class, and the classes int64 [N]."""
    draw = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (count,), generator=draw)
    ramp = torch.sin(torch.arange(8)[None, :, None] * (0.5 + targets[:, None, None] * 0.8))
    images = ramp * 60 + 128 + 90 * torch.randn(count, 8, 8, generator=draw)
    return images.clamp(0, 255).to(torch.uint8)[:, None], targets


@cache
def data() -> Splits:
    return Splits.from_arrays(*pictures(300, 1), *pictures(200, 2), classes=CLASSES, name="stripes")


@cache
def network(seed: int, first: int, last: int, steps: int) -> nn.Module:
    """A network that is trained for some steps on a part of the training images."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(32, 3))
    inputs = ufc.normalise(data().train.images[first:last], *data().moments)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs), data().train.targets[first:last]).backward()
        optimiser.step()
    return model.requires_grad_(False).eval()


def distilled(kind: str = "composed", first: int = 0) -> DistilledSet:
    """Training images with two teachers' compensators ("composed"), mixed views of them ("views"), or alone
    ("stored")."""
    chosen = slice(first, first + STORED)
    order = data().train.targets[chosen].argsort(stable=True)
    images, targets = data().train.images[chosen][order], data().train.targets[chosen][order]
    compensators = torch.randint(-10, 10, (4, 1, 8, 8), generator=torch.Generator().manual_seed(3)).to(torch.int8)
    if kind == "stored":
        compensators = compensators[:0]
    sheets = tuple(codec.encode(images, "webp", 40)) if kind == "composed" else ()
    if sheets:
        images = codec.decode(sheets, len(images), (1, 8, 8))
    mean, std = (moment.tolist() for moment in data().moments)
    views = MixedViews(40, 36, 0, 1, False, None, "cutmix", candidates=1).header if kind == "views" else None
    header = Header(
        CLASSES,
        mean,
        std,
        "views" if views else "hard",
        "probabilities",
        1.0,
        2 if len(compensators) else 0,
        views=views,
        provenance={"settings": {"ipc": 10, "method": {"name": "infer"}}},
    )
    labels = torch.full((40, 3), 85, dtype=torch.uint8) if views else None
    return DistilledSet(images, targets, compensators, labels, header, sheets)


@cache
def inputs(kind: str = "composed", balanced: bool = False, seeds: int = 2) -> AnalysisInputs:
    """Two students of each source, the better ones of the full training set."""
    parts = {"real": (0, 300, 60), "distilled": (0, STORED, 20), "random": (60, 60 + STORED, 15)}
    students = {
        source: [network(10 * number + seed, *parts[source]) for seed in range(seeds)]
        for number, source in enumerate(REPORTED)
    }
    compression = Compression("webp" if kind == "composed" else None, 40)
    teacher = network(99, 0, 300, 100)
    cpu = torch.device("cpu")
    return AnalysisInputs(
        data(), distilled(kind), distilled("stored", 60), students, teacher, cpu, balanced, compression
    )
