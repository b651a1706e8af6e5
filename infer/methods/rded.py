"""RDED: random crops that the teachers classify with the lowest loss, one or several to an image.

Source: Sun, Shi, Yu, Lin, "On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation
Paradigm", CVPR 2024.

Where this version differs: the loss is the mean over all teachers, not that of one; images have the labels that the run
stores, not labels that a teacher computes again for every batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infer.core.augment import DRAWS, augment
from infer.methods.options import RDEDOptions
from infer.methods.selection import Naturals, SelectionInputs, select_created


@torch.no_grad()
def select(inputs: SelectionInputs, options: RDEDOptions) -> Naturals:
    """Create images of the crops with the lowest loss: the best crop of each candidate, then the best candidates."""
    generator = torch.Generator().manual_seed(inputs.seed)
    needed = inputs.largest * options.factor**2
    images = []
    for target, members in enumerate(inputs.order):
        candidates = members[: max(options.candidates, needed)]
        crops, losses = _best_crops(inputs, options, candidates, target, generator)
        ranked = crops[losses.argsort(stable=True)]
        ranked = ranked.repeat(-(-needed // len(ranked)), 1, 1, 1)[:needed]  # a small class repeats its crops
        images.append(stitch(ranked, options.factor))
    return select_created(inputs, torch.stack(images))


def _best_crops(
    inputs: SelectionInputs, options: RDEDOptions, indices: Tensor, target: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the best crop of each train image, uint8 [N, ch, H, W], and its loss, float32 [N]."""
    best, best_losses = [], []
    for batch in inputs.batches(indices):
        images, _ = inputs.data.train[batch]
        crops, losses = [], []
        for _ in range(options.crops):
            crop = augment(images, torch.rand(len(images), DRAWS, generator=generator), 0, False, options.least)
            losses.append(_loss(inputs, crop, target))
            crops.append(crop.round().to(torch.uint8))
        loss, which = torch.stack(losses).min(dim=0)
        best.append(torch.stack(crops)[which, torch.arange(len(images))])
        best_losses.append(loss)
    return torch.cat(best), torch.cat(best_losses)


def _loss(inputs: SelectionInputs, images: Tensor, target: int) -> Tensor:
    """Return the teachers' mean cross-entropy of ``images`` with the class ``target``, float32 [B]."""
    normalised = inputs.normalised(images)
    logits = torch.stack([teacher.to(inputs.device)(normalised).float() for teacher in inputs.teachers])
    return -logits.log_softmax(dim=-1).mean(dim=0)[:, target].cpu()


def stitch(crops: Tensor, factor: int) -> Tensor:
    """Put ``factor**2`` crops into each image, reduced in size, row by row.

    Args:
        crops: uint8 [N * factor**2, ch, side, side].
        factor: crops along each side of an image.

    Returns:
        Images uint8 [N, ch, side, side].
    """
    edges = torch.linspace(0, crops.shape[-1], factor + 1).round().long().tolist()
    images = torch.empty(len(crops) // factor**2, *crops.shape[1:], dtype=torch.uint8)
    for place in range(factor**2):
        row, column = divmod(place, factor)
        box = (slice(edges[row], edges[row + 1]), slice(edges[column], edges[column + 1]))
        size = (box[0].stop - box[0].start, box[1].stop - box[1].start)
        small = torch.nn.functional.interpolate(
            crops[place :: factor**2].float(), size, mode="bilinear", antialias=True, align_corners=False
        )
        images[..., box[0], box[1]] = small.round().clamp(0, 255).to(torch.uint8)
    return images
