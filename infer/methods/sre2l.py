"""SRe2L: images optimised from noise until a teacher recognises their class and sees its own BatchNorm statistics.

Source: Yin, Xing, Shen, "Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New Perspective",
NeurIPS 2023. The defaults are those of the authors' script for CIFAR-100.

Where this version differs: a step rolls the images, down and right, but does not crop them at random; images have the
labels that the run stores, not labels of the crops of every epoch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infer.core import ufc
from infer.core.errors import UserError
from infer.core.progress import track
from infer.methods.options import SRe2LOptions
from infer.methods.selection import Naturals, SelectionInputs, select_created


def select(inputs: SelectionInputs, options: SRe2LOptions) -> Naturals:
    """Create images against the first teacher, in batches of about ``options.batch`` with all classes alike.

    A batch has at least one image of every class, even where ``options.batch`` is smaller.
    """
    objective = ufc.Objective(inputs.teachers[0], options.bn_weight, options.first_weight).to(inputs.device)
    generator = torch.Generator().manual_seed(inputs.seed)
    classes, shape = len(inputs.order), inputs.data.train.shape
    rows = [len(some) for some in torch.arange(inputs.largest).split(max(1, options.batch // classes))]
    images = []
    for number, row_count in enumerate(rows, 1):
        noise = torch.randn((row_count * classes, *shape), generator=generator)
        progress = f"Optimising SRe2L images, batch {number} of {len(rows)}"
        optimised = _optimise(objective, noise, inputs, options, generator, progress)
        images.append(optimised.view(row_count, classes, *shape))
    return select_created(inputs, torch.cat(images).transpose(0, 1))


def _optimise(
    objective: ufc.Objective,
    noise: Tensor,
    inputs: SelectionInputs,
    options: SRe2LOptions,
    generator: torch.Generator,
    progress: str,
) -> Tensor:
    """Optimise a batch that starts from ``noise`` [B, ch, H, W], classes in turn; return it as uint8.

    Raises:
        UserError: where the loss is no finite number.
    """
    mean, std = (moment.to(inputs.device).view(-1, 1, 1) for moment in inputs.data.moments)
    lowest, highest = -mean / std, (1 - mean) / std
    classes = torch.arange(len(inputs.order), device=inputs.device)
    targets = classes.repeat(len(noise) // len(classes))[None]  # the whole batch is one round of the objective
    images = noise[None].to(inputs.device).requires_grad_()
    optimiser = torch.optim.Adam([images], options.lr, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
    finite = torch.ones((), dtype=torch.bool, device=inputs.device)
    good_steps = torch.zeros((), dtype=torch.int64, device=inputs.device)  # read once: a GPU does not wait in each step
    for _ in track(range(options.steps), progress):
        shift = torch.randint(options.jitter + 1, (2,), generator=generator).tolist()
        optimiser.zero_grad()
        loss = objective(images.roll(shift, dims=(-2, -1)), targets).loss.sum()
        loss.backward()
        finite &= loss.detach().isfinite()
        good_steps += finite
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            images.copy_(images.clamp(lowest, highest))
    if not (finite and images.isfinite().all()):
        raise UserError(
            f"method=sre2l: the loss is no finite number at step {int(good_steps) + 1} of {options.steps}; choose a "
            f"smaller method.options.lr (it is {options.lr}), bn_weight or first_weight"
        )
    return ((images.detach()[0] * std + mean) * 255).round().to(torch.uint8).cpu()
