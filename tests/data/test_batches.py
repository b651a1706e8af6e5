"""Batches as functions of the step."""

import torch

from infer.data.batches import in_order, loader


def test_batches_continue_at_the_step_of_a_stopped_run():
    batches = loader(torch.arange(100), lambda step: torch.tensor([step, step + 50]), steps=30)
    batches.sampler.start = 20
    assert [batch.tolist() for batch in batches] == [[step, step + 50] for step in range(20, 30)]
    assert torch.cat([in_order(7, 3, step) for step in range(3)]).tolist() == list(range(7))
