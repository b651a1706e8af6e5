"""Small distilled sets for the tests of this folder."""

from typing import Any

import torch

from infer.core import codec
from infer.core.label_code import quantise_labels
from infer.core.mixed_views import MixedViews
from infer.distilled import DistilledSet, Header

CLASSES, TEACHERS, ROUNDS, SIDE = 3, 2, 2, 4


def pool_set(extra: int = 1, labels: str = "static") -> DistilledSet:
    """Two rounds of three classes, two compensators each, and one extra natural image of class 0."""
    generator = torch.Generator().manual_seed(0)
    count = ROUNDS * CLASSES + extra
    images = torch.randint(256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    targets = torch.tensor([*list(range(CLASSES)) * ROUNDS, 0])[:count]
    u = torch.randint(-127, 128, (ROUNDS * TEACHERS, 3, SIDE, SIDE), generator=generator, dtype=torch.int8)
    total = count + ROUNDS * TEACHERS * CLASSES
    soft = torch.randn(total, CLASSES, generator=generator).half() if labels == "static" else None
    header = Header(["a", "b", "ç"], [0.5] * 3, [0.25] * 3, labels, "logits", 4.0, TEACHERS, provenance={"seed": 0})
    return DistilledSet(images, targets, u, soft, header)


def views_set(count: int = 40, mixing: str = "cutmix", smooth_noise: int = 0, **code: Any) -> DistilledSet:
    """Mixed views of the images of :func:`pool_set`, compressed, each chosen among four candidates."""
    plain = pool_set()
    generator = torch.Generator().manual_seed(1)
    views = MixedViews(count, plain.pool, 5, 1, True, None, mixing, candidates=4, smooth_noise=smooth_noise, **code)
    sheets = tuple(codec.encode(plain.naturals, "webp", 90))
    header = Header(
        plain.classes,
        plain.header.mean,
        plain.header.std,
        "views",
        "probabilities",
        4.0,
        TEACHERS,
        sheets=[len(sheet) for sheet in sheets],
        views=views.header,
    )
    return DistilledSet(
        codec.decode(sheets, len(plain.naturals), (3, SIDE, SIDE)),
        plain.natural_targets,
        plain.compensators,
        quantise_labels(torch.randn(count, CLASSES, generator=generator).softmax(dim=1), views.label_bits),
        header,
        sheets,
        torch.randint(4, (count,), generator=generator),
    )
