"""RDED (Sun et al. 2024): the crops that teachers find most realistic, one or several to an image."""

from __future__ import annotations

import torch
from torch import Tensor

from infer.core.augment import DRAWS, augment
from infer.methods.selection import Given, Naturals, made


@torch.no_grad()
def naturals(given: Given, candidates: int, crops: int, least: float, factor: int) -> Naturals:
    """Of the seed's first ``candidates`` pictures of a class (more where more are needed) the best of so many ``crops``
    of at least that share of the area, by the teachers' mean cross-entropy; then the best of these, ``factor`` squared
    of them at a fraction of their side to an image."""
    draw = torch.Generator().manual_seed(given.seed)
    stitched = []
    for number, members in enumerate(given.picks):
        wanted = given.rows * factor**2
        some = members[: max(candidates, wanted)]
        best, scores = _crops(given, some, number, crops, least, draw)
        ranked = best[scores.argsort(stable=True)]
        ranked = ranked.repeat(-(-wanted // len(ranked)), 1, 1, 1)[:wanted]  # a class of few pictures shows them again
        stitched.append(stitch(ranked, factor))
    return made(given, torch.stack(stitched))


def _crops(
    given: Given, members: Tensor, target: int, crops: int, least: float, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The best crop of each picture, uint8, and its score, the lower the better."""
    best, scores = [], []
    for batch in given.batches(members):
        images, _ = given.data.train[batch]
        seen, losses = [], []
        for _ in range(crops):
            crop = augment(images, torch.rand(len(images), DRAWS, generator=draw), 0, False, least)
            logits = torch.stack([t.to(given.device)(given.inputs(crop)).float() for t in given.teachers])
            losses.append(-logits.log_softmax(dim=-1).mean(dim=0)[:, target].cpu())
            seen.append(crop.round().to(torch.uint8))
        loss, which = torch.stack(losses).min(dim=0)
        best.append(torch.stack(seen)[which, torch.arange(len(images))])
        scores.append(loss)
    return torch.cat(best), torch.cat(scores)


def stitch(patches: Tensor, factor: int) -> Tensor:
    """Images uint8 [N, ch, side, side] of ``patches`` uint8 [N * factor^2, ch, side, side], row after row."""
    edges = torch.linspace(0, patches.shape[-1], factor + 1).round().long().tolist()
    images = torch.empty(len(patches) // factor**2, *patches.shape[1:], dtype=torch.uint8)
    for place in range(factor**2):
        row, column = divmod(place, factor)
        box = (slice(edges[row], edges[row + 1]), slice(edges[column], edges[column + 1]))
        size = (box[0].stop - box[0].start, box[1].stop - box[1].start)
        small = torch.nn.functional.interpolate(
            patches[place :: factor**2].float(), size, mode="bilinear", antialias=True, align_corners=False
        )
        images[..., box[0], box[1]] = small.round().clamp(0, 255).to(torch.uint8)
    return images
