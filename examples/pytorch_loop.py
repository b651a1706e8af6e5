"""Train a network on a distilled file in a plain PyTorch loop, and test it on the real test pictures.

python examples/pytorch_loop.py small.safetensors parts
"""

import argparse
from itertools import chain, repeat

import torch
from torch import nn
from torch.utils.data import DataLoader

import infer


def network(channels: int, classes: int) -> nn.Module:
    """Return a small ConvNet; put your own here."""
    layers: list[nn.Module] = []
    for ins, outs in ((channels, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(ins, outs, 3, padding=1), nn.BatchNorm2d(outs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))


def train(small: infer.DistilledSet, model: nn.Module, steps: int) -> None:
    """Train ``model`` on the file: normalise the images, match the soft labels at the file's temperature."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-2, total_steps=steps)
    mixed = small.header.labels == "views"  # cropped, flipped and mixed already: never mix them again
    passes = chain.from_iterable(repeat(DataLoader(small, batch_size=64, shuffle=True)))
    for _, (images, labels) in zip(range(steps), passes, strict=False):
        images = small.normalise(images)
        if not mixed:  # mixup: each image with another one of the batch, and their labels alike
            weight, other = float(torch.distributions.Beta(0.8, 0.8).sample()), torch.randperm(len(images))
            images, labels = images.lerp(images[other], weight), labels.lerp(labels[other], weight)
        loss = infer.distillation_loss(model(images), labels, small.temperature)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def main() -> None:
    """Train, then test on pictures that are normalised by the same mean and std."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="distilled file")
    parser.add_argument("pictures", help="folder of pictures that it was distilled from")
    parser.add_argument("--steps", type=int, default=600, help="steps of 64 images; default: 600")
    options = parser.parse_args()
    small = infer.load(options.file)
    channels, side = small.naturals.shape[1:3]
    model = network(channels, len(small.classes))
    train(small, model, options.steps)
    test = infer.read_folder(options.pictures, side, channels=channels).test
    accuracy = infer.evaluate(model, test, small.mean, small.std).accuracy
    print(f"{options.file}: {100 * accuracy:.1f} % of {len(test)} test pictures after {options.steps} steps")


if __name__ == "__main__":
    main()
