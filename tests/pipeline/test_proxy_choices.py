"""The candidates of mixed views that the proxy model chooses."""

from dataclasses import replace

import pytest
import torch
from conftest import files

import infer
from infer.core.label_code import quantise_labels
from infer.core.labels import Ensemble, average
from infer.core.ufc import normalise
from infer.data import read_dataset
from infer.distilled import DistilledSet
from infer.methods.proxy import ProxyModel, reducible_loss
from infer.models.networks import build
from infer.pipeline.assemble import Assembler


class Dark(torch.nn.Module):
    """A proxy model that is the more certain of the first class the darker an image is."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(-images.float().mean(dim=(1, 2, 3))[:, None] / 50, (0, 3))


def test_the_candidate_of_the_highest_reducible_loss_is_kept(run, tmp_path, monkeypatch):
    def brightness(
        _, images: torch.Tensor, logits: object = None
    ) -> torch.Tensor:  # in place of the proxy model, which no file keeps
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

    def spied(proxy: ProxyModel, images: torch.Tensor, *logits: torch.Tensor) -> torch.Tensor:
        found = measure(proxy, images, *logits)
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


def test_each_candidate_is_composed_and_labelled_once(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    images, targets = torch.randint(256, (120, 1, 8, 8), dtype=torch.uint8, generator=draw), torch.arange(120) % 4
    data = infer.Splits.from_arrays(images, targets, images[:8], targets[:8])
    torch.manual_seed(0)
    teachers = [build("convnet_narrow", 4, 1, 8).eval() for _ in range(2)]
    composed: list[int] = []
    labelled: list[int] = []
    compose, label = DistilledSet.images, Ensemble.logits
    monkeypatch.setattr(
        DistilledSet, "images", lambda own, at: composed.extend(own.choices[at].tolist()) or compose(own, at)
    )
    monkeypatch.setattr(Ensemble, "logits", lambda own, at: labelled.append(len(at)) or label(own, at))
    monkeypatch.setattr(Assembler, "proxy", ProxyModel(Dark(), teachers, data.moments, 1.0, torch.device("cpu")))
    options = infer.SetOptions.of_method("random", ipc=30, labels=infer.LabelOptions("views", candidates=4, share=0.9))
    made = infer.distill(data, teachers, options=options)
    views = len(made)
    assert [composed.count(number) for number in range(4)] == [views] * 4
    assert sum(labelled) == 4 * views
    assert made.choices.unique().tolist() == [0, 1, 2, 3]
    chosen = made.normalise(compose(made, torch.arange(views)))
    expected = average(
        label(Ensemble(teachers, "probabilities", made.temperature), chosen), "probabilities", made.temperature
    )
    assert torch.equal(made.labels, quantise_labels(expected))
