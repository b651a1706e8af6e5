"""Train a timm model on a distilled file with a Lightning Trainer, and test it on the real test pictures.

python examples/lightning_timm.py small.safetensors parts --model resnet18
"""

import argparse

import pytorch_lightning as pl
import timm
import torch
from torch import Tensor, nn

import infer


class Student(pl.LightningModule):
    """Any network that matches the soft labels of a file."""

    def __init__(self, model: nn.Module, data: infer.DistilledDataModule, steps: int) -> None:
        super().__init__()
        self.model, self.steps, self.temperature = model, steps, data.temperature
        self.mixed = data.dataset.header.labels == "views"  # mixed views must not be mixed again

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the loss of a batch of normalised images; mixup mixes images and labels alike."""
        images, labels = batch
        if not self.mixed:
            weight, other = float(torch.distributions.Beta(0.8, 0.8).sample()), torch.randperm(len(images))
            images, labels = images.lerp(images[other], weight), labels.lerp(labels[other], weight)
        return infer.distillation_loss(self.model(images), labels, self.temperature)

    def configure_optimizers(self) -> dict:
        """Return AdamW and a schedule of one cycle, counted in steps."""
        optimiser = torch.optim.AdamW(self.parameters(), lr=2e-3, weight_decay=0.01)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=self.steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def main() -> None:
    """Train, then test on pictures that are normalised by the same mean and std."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="distilled file")
    parser.add_argument("pictures", help="folder of pictures that it was distilled from")
    parser.add_argument("--model", default="resnet18", help="name of a timm model; default: resnet18")
    parser.add_argument("--steps", type=int, default=300, help="steps of 64 images; default: 300")
    options = parser.parse_args()
    data = infer.DistilledDataModule(options.file, batch_size=64)
    small = data.dataset
    channels, side = small.naturals.shape[1:3]
    model = timm.create_model(options.model, num_classes=data.num_classes, in_chans=channels)
    trainer = pl.Trainer(max_steps=options.steps, logger=False, enable_checkpointing=False)
    trainer.fit(Student(model, data, options.steps), data)
    test = infer.read_folder(options.pictures, side, channels=channels).test
    accuracy = infer.evaluate(model, test, small.mean, small.std).accuracy
    print(f"{options.model}: {100 * accuracy:.1f} % of {len(test)} test pictures after {options.steps} steps")


if __name__ == "__main__":
    main()
