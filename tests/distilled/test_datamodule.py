"""The distilled set in a plain Lightning Trainer."""

import pytest
import pytorch_lightning as pl
import timm
import torch
from distilled_sets import pool_set, views_set

from infer.core.errors import UserError
from infer.core.labels import distillation_loss
from infer.distilled import DistilledDataModule, DistilledSet, Header

IGNORED = [
    "ignore:.*does not have many workers",  # advice of Lightning
    "ignore:.*isinstance\\(treespec, LeafSpec\\)",  # Lightning calls what PyTorch deprecates
]


def test_batches_are_normalised_images_and_soft_labels(tmp_path):
    dataset = views_set()
    dataset.save(tmp_path / "d.safetensors")
    data = DistilledDataModule(tmp_path / "d.safetensors", batch_size=16)
    assert (data.num_classes, data.classes, data.temperature) == (3, ["a", "b", "ç"], 4.0)
    batches = list(data.train_dataloader())
    assert [len(images) for images, _ in batches] == [16, 16, 8]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert images.dtype == labels.dtype == torch.float32
    all_images, all_labels = dataset[:]
    order = [all_labels.eq(label).all(dim=1).nonzero()[0].item() for label in labels]
    assert order != list(range(40))  # shuffled
    assert sorted(order) == list(range(40))
    torch.testing.assert_close(images, dataset.normalise(all_images[order]))


def test_batches_are_composed_at_once_and_transformed(monkeypatch):
    sizes = []
    images = DistilledSet.images
    monkeypatch.setattr(DistilledSet, "images", lambda self, at: (sizes.append(len(at)), images(self, at))[1])
    data = DistilledDataModule(views_set(), batch_size=20, transform=lambda image: image * 0)
    batches = list(data.train_dataloader())
    assert sizes == [20, 20]
    assert all((pixels == -2).all() for pixels, _ in batches)  # (0 - 0.5) / 0.25


def test_workers_compose_the_same_batches():
    data = DistilledDataModule(pool_set(), batch_size=10, num_workers=1)
    images = torch.cat([images for images, _ in data.train_dataloader()])
    expected = pool_set().normalise(pool_set()[:][0])
    torch.testing.assert_close(images.flatten(1).sum(dim=1).sort()[0], expected.flatten(1).sum(dim=1).sort()[0])


def grey_set() -> DistilledSet:
    """Twelve grey images of 32 pixels and one label of logits each."""
    images = torch.randint(256, (12, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    header = Header(["a", "b", "c"], [0.5], [0.25], "static", "logits", 4.0, compensators_per_round=0)
    return DistilledSet(images, torch.arange(12) % 3, images[:0].to(torch.int8), torch.randn(12, 3).half(), header)


class Student(pl.LightningModule):
    """What a user writes."""

    def __init__(self, data: DistilledDataModule) -> None:
        super().__init__()
        self.network = timm.create_model("resnet10t", num_classes=data.num_classes, in_chans=1)
        self.temperature = data.temperature

    def training_step(self, batch, batch_index):
        images, labels = batch
        return distillation_loss(self.network(images), labels, self.temperature)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


@pytest.mark.filterwarnings(*IGNORED)
def test_a_plain_trainer_trains_a_timm_model(tmp_path):
    torch.manual_seed(0)
    data = DistilledDataModule(grey_set(), batch_size=6)
    student = Student(data)
    before = student.network.fc.weight.detach().clone()
    trainer = pl.Trainer(
        max_steps=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(student, datamodule=data)
    assert trainer.global_step == 2
    assert not torch.equal(student.network.fc.weight, before)


def test_a_set_without_labels_of_its_own_is_refused():
    with pytest.raises(UserError, match="labels=dynamic: the set has no labels of its own"):
        DistilledDataModule(pool_set(labels="dynamic"))
