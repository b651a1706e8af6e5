"""The candidates of mixed views that the proxy model chooses."""

from dataclasses import replace

import pytest
import torch
from conftest import files

import infer
from infer.core.ufc import normalise
from infer.data import read_dataset
from infer.methods.proxy import ProxyModel, reducible_loss


def test_the_candidate_of_the_highest_reducible_loss_is_kept(run, tmp_path, monkeypatch):
    def brightness(_, images: torch.Tensor) -> torch.Tensor:  # in place of the proxy model, which no file keeps
        return images.float().mean(dim=(1, 2, 3))

    monkeypatch.setattr(ProxyModel, "reducible_loss", brightness)
    words = ["method=infer_plus", "students.seeds=1", "students.sources=[distilled,random]", "ipc=20"]
    ours, baseline = run("distill", *words)["students"]
    assert baseline["bytes"] == pytest.approx(ours["bytes"], rel=0.03)
    made = infer.load(files(tmp_path)[0])
    losses = []
    for number in range(4):
        candidates = replace(made, choices=torch.full((made.mixed_views.count,), number))
        losses.append(brightness(None, candidates.images(torch.arange(len(made)))))
    assert made.choices.tolist() == torch.stack(losses).argmax(dim=0).tolist()


def test_the_proxy_model_is_measured_in_eval_mode_at_the_students_temperature(config, run, tmp_path, monkeypatch):
    words = ["method=infer_plus", "students.seeds=1", "students.sources=[distilled]", "ipc=20"]
    words += ["labels.proxy_steps=20", "recipe.student.temperature=4"]
    moments = read_dataset(config("distill", *words).dataset).moments
    measure, sizes = ProxyModel.reducible_loss, []

    def spied(proxy: ProxyModel, images: torch.Tensor) -> torch.Tensor:
        found = measure(proxy, images)
        if not sizes:
            assert not any(module.training for module in proxy.network.modules())
            inputs = normalise(images, *moments)
            with torch.no_grad():
                teachers = torch.stack([teacher(inputs) for teacher in proxy.teachers])
                expected = reducible_loss(proxy.network.network(inputs), teachers, 4.0)
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
            sizes.append(len(images))
        return found

    monkeypatch.setattr(ProxyModel, "reducible_loss", spied)
    run("distill", *words)
    assert sizes[0] > 100  # pictures of a whole class
    assert not list(tmp_path.rglob("*.ckpt"))
