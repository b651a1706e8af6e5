"""Labels of a run's file: which ones they are, and what they take."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import files
from torch import Tensor

import infer
from infer.core.labels import Ensemble
from infer.methods.proxy import ProxyModel
from infer.models.networks import build
from infer.models.options import backbone
from infer.models.weights import PixelClassifier, load_weights
from infer.pipeline.run_folder import identity
from infer.training.training_set import TrainingSet

CPU = torch.device("cpu")
TEACHERS = ["convnet_narrow", "resnet_narrow"]


def teacher_logits(output: Path, images: Tensor, mean: float, std: float) -> Tensor:
    """What the teachers of a digits run say of uint8 images [N, 1, 8, 8]: logits [M, N, 10]."""
    found = []
    for name in TEACHERS:
        network = build(backbone(name), 10, 1, 8).eval()
        (file,) = output.rglob(f"{name}/seed0/teacher.safetensors")
        load_weights(network, file)
        with torch.no_grad():
            found.append(network((images.double() / 255 - mean).div(std).float()))
    return torch.stack(found)


def labelled(run, tmp_path: Path, *words: str) -> tuple[infer.DistilledSet, Tensor]:
    """The file of a digits run of two teachers, and their logits of its images."""
    short = ["students.sources=[distilled]", "students.seeds=1", "teachers.margin=-1"]
    run("distill", *short, f"teachers.backbones=[{','.join(TEACHERS)}]", *words)
    (file,) = files(tmp_path)
    made = infer.load(file)
    mean, std = made.header.mean[0], made.header.std[0]
    return made, teacher_logits(tmp_path, made.images(torch.arange(len(made))), mean, std)


def test_static_labels_are_the_mean_logits_of_the_stored_images(run, tmp_path):
    made, logits = labelled(run, tmp_path, "ipc=5")
    assert len(made) == len(made.naturals) + 10 * len(made.compensators) == len(made.labels)
    assert len(made.compensators) > 0
    assert made.labels.dtype == torch.float16
    torch.testing.assert_close(made.labels, logits.mean(dim=0).half(), rtol=1e-3, atol=1e-3)
    assert logits.std(dim=1).min() > 0.1  # the teachers tell the images apart


def test_labels_of_mixed_views_are_8_bit_shares_of_the_mean_probabilities(run, tmp_path):
    words = ["labels=views", "method=infer", "budget=raw", "ipc=20", "recipe.student.temperature=2"]
    made, logits = labelled(run, tmp_path, *words)
    assert len(made.compensators) > 0
    probabilities = (logits / 2).softmax(dim=-1).mean(dim=0)
    shares = 255 * probabilities / probabilities.amax(dim=1, keepdim=True)
    assert made.labels.dtype == torch.uint8
    assert made.labels.shape == shares.shape == (128, 10)
    assert (made.labels - shares).abs().max() < 0.51  # rounded to the nearest
    _, labels = made[:]
    torch.testing.assert_close(labels, probabilities, rtol=0, atol=0.01)


def test_chosen_mixed_views_of_compressed_naturals_and_compensators(run, tmp_path):
    words = ["students.seeds=1", "students.sources=[distilled]", "ipc=20", "budget=coded"]
    run("distill", *words, "labels=views", "labels.candidates=4", "labels.proxy_steps=20")
    (file,) = files(tmp_path)
    made = infer.load(file)
    assert made.choices.unique().tolist() == [0, 1, 2, 3]
    assert not list(tmp_path.rglob("*.ckpt"))
    assert made.label_bytes == 128 * 10 + 32
    assert len(made.compensators) == len(made.naturals) // 10 > 0
    assert made.mixed_views.pool == made.pool == len(made.naturals) + 10 * len(made.compensators)
    assert file.stat().st_size <= 20 * 10 * 64
    made.export(tmp_path / "out")
    with (tmp_path / "out" / "labels.csv").open(encoding="utf-8") as table:
        assert {row["kind"] for row in csv.DictReader(table)} == {"view"}
    content = bytearray(file.read_bytes())
    start = content.index(b"ftypavif")
    content[start : start + 400] = bytes(400)
    file.write_bytes(content)
    with pytest.raises(infer.UserError, match="cannot be decoded"):
        infer.load(file)


class Scaled(torch.nn.Module):
    """A network whose logits are ``scale`` times as large on bright images."""

    def __init__(self, network: torch.nn.Module, scale: float) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        return torch.where(images.mean(dim=(1, 2, 3), keepdim=False)[:, None] > 0, self.scale, 1.0) * logits


def bright_and_dark() -> tuple[infer.Splits, torch.nn.Module]:
    """Bright train pictures and dark test pictures of four classes, and a network of them."""
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.randint(256, (80, 1, 8, 8), dtype=torch.uint8, generator=draw), torch.arange(80) % 4
    data = infer.Splits.from_arrays(images, labels, images // 8, labels)
    torch.manual_seed(0)
    return data, build("convnet_narrow", 4, 1, 8).eval()


@pytest.mark.parametrize("labels", ["static", "views"])
@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_a_teacher_whose_logits_are_not_finite_is_named(labels, scale):
    """On the train pictures alone, so that its accuracy on the test pictures does not tell."""
    data, network = bright_and_dark()
    options = infer.SetOptions.of_method("random", ipc=20, labels=infer.LabelOptions(labels))
    teachers = [network, Scaled(network, scale)]
    with pytest.raises(
        infer.UserError, match=r"^teacher Scaled-1: its logits are NaN or infinite; .* smaller lr"
    ) as error:
        infer.distill(data, teachers, options=options)
    assert "\n" not in str(error.value)


def test_a_run_with_such_a_teacher_writes_no_set(run, tmp_path, monkeypatch):
    whole = Ensemble.logits
    factors = torch.tensor([1.0, math.nan]).view(-1, 1, 1)  # of both teachers
    monkeypatch.setattr(Ensemble, "logits", lambda ensemble, images: whole(ensemble, images) * factors)
    with pytest.raises(infer.UserError, match=r"^teacher resnet_narrow: its logits are NaN or infinite"):
        labelled(run, tmp_path, "method=random", "ipc=5")
    assert not files(tmp_path)
    assert not list(tmp_path.rglob("images"))


def test_a_teacher_that_is_not_finite_on_test_pictures_is_named_by_its_position():
    data, network = bright_and_dark()
    with torch.no_grad():
        network[-1].bias.fill_(math.nan)
    with pytest.raises(
        infer.UserError, match=r"^teachers\[0\]: Sequential: |^teachers\[0\]: ConvNet: its logits are NaN"
    ):
        infer.distill(data, [network], method="random")


def test_candidates_are_not_chosen_by_a_loss_that_is_not_a_number():
    data, network = bright_and_dark()
    proxy = ProxyModel(PixelClassifier(Scaled(network, math.nan), *data.moments), [network], data.moments, 1.0, CPU)
    with pytest.raises(infer.UserError, match=r"^the proxy model: its logits are NaN"):
        proxy.reducible_loss(data.train.images)
    proxy = replace(proxy, network=PixelClassifier(network, *data.moments), teachers=[Scaled(network, math.inf)])
    with pytest.raises(infer.UserError, match=r"^teacher Scaled: its logits are NaN"):
        proxy.reducible_loss(data.train.images)


@pytest.mark.parametrize("scale", [1.0, 1e6, 1e12])
def test_logits_beyond_float16_are_stored_as_the_distribution_that_they_are(tmp_path, scale):
    data, network = bright_and_dark()
    options = infer.SetOptions.of_method("random", ipc=5)
    infer.distill(data, [Scaled(network, scale)], options=options).save(tmp_path / "made.safetensors")
    made = infer.load(tmp_path / "made.safetensors")
    images = made.normalise(made.naturals)
    with torch.no_grad():
        expected = (Scaled(network, scale)(images) / made.temperature).softmax(dim=-1)
    torch.testing.assert_close(made[:][1], expected, rtol=0, atol=1e-2)


def test_static_labels_of_a_baseline_are_averaged_as_labels_space_says(run, monkeypatch):
    """They average logits, as in the paper, unless told otherwise; labels of mixed views are always probabilities."""
    spaces = {}
    of_set = TrainingSet.of_set

    def spied(chosen, networks):
        spaces[chosen.header.labels] = chosen.header.space
        return of_set(chosen, networks)

    monkeypatch.setattr(TrainingSet, "of_set", spied)
    words = ["method=random", "budget=raw", "ipc=20", "students.seeds=1", "labels=views"]
    words += ["students.sources=[distilled,random_static]"]
    for space, more in {"logits": [], "probabilities": ["labels.space=probabilities"]}.items():
        run("distill", *words, *more)
        assert spaces == {"views": "probabilities", "static": space}


def test_smooth_noise_takes_no_bytes_and_the_baseline_has_it_too(config, run, tmp_path):
    words = ["method=random", "budget=raw", "labels=views", "students.seeds=1", "ipc=20"]
    results = {}
    for count in (0, 8):
        more = [f"labels.smooth_noise={count}", f"output={tmp_path / str(count)}"]
        assert ("compensators" in identity(config("distill", *words, *more))["labels"]) == (count > 0)
        results[count] = run("distill", *words, *more, "students.sources=[distilled,random]")
    without, made = (infer.load(files(tmp_path / str(count))[0]) for count in (0, 8))
    assert (without.mixed_views.smooth_noise, made.mixed_views.smooth_noise) == (0, 8)
    assert (made.label_bytes, len(made.compensators)) == (without.label_bytes, 0)
    assert 0 <= len(without.naturals) - len(made.naturals) <= 1  # for a longer header
    assert not torch.equal(without.labels, made.labels)
    ours, baseline = results[8]["students"]
    assert ours["accuracy_mean"] == baseline["accuracy_mean"]  # the same seed's pictures and views: the same set
    bad = tmp_path / "bad.safetensors"
    for key, value in (("compensators", 10**6), ("seed", 2**64)):
        changed = replace(made, header=replace(made.header, views={**made.header.views, key: value}))
        bad.write_bytes(changed.to_bytes())
        with pytest.raises(infer.UserError, match=rf"views.{key}={value}: must be less than or equal to "):
            infer.load(bad)
