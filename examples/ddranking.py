"""Let the package ddranking judge distilled files of CIFAR-10, beside the scores of the runs that made them.

pip install ddranking==0.2.0   (it needs NumPy below 2: an environment of its own)
python examples/ddranking.py cifar10 outputs/distill/cifar10/infer-ipc10/seed0 outputs/distill/cifar10/rded-ipc10/seed0

The package gets equally many images of each class, with one soft label each. It trains its ConvNet on them with five
learning rates, keeps the best test accuracy, and does the same with as many random pictures. Our rows differ: they have
equal bytes, one learning rate, and the accuracy of the last epoch.
"""

import argparse
import json
import tempfile
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import torch
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder

import infer
from infer.metrics.ranking import ddranking_score

try:
    from dd_ranking.metrics import SoftLabelEvaluator
    from dd_ranking.utils import build_model, train_one_epoch
except ModuleNotFoundError:  # --help needs no package
    SoftLabelEvaluator = None

MODEL, SIZE, CLASSES = "ConvNet-3", (32, 32), 10
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # of the package


def pictures(root: str, train: bool, transform: object, download: bool, most: int) -> Subset:
    """Return ``most`` pictures of the folder, the same number of each class: the package reads its own copy else."""
    found = ImageFolder(f"{root}/{'train' if train else 'test'}", transform)
    targets = torch.tensor(found.targets)
    chosen = [(targets == number).nonzero().flatten()[: most // CLASSES] for number in range(CLASSES)]
    return Subset(found, torch.cat(chosen).tolist())


def images_and_logits(small: infer.DistilledSet) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return equally many items of each class, class by class, and logits whose softmax is their labels."""
    members = [(small.targets == number).nonzero().flatten() for number in range(CLASSES)]
    each = min(map(len, members))
    images, labels = small[torch.cat([own[:each] for own in members])]
    mean, std = (torch.tensor(moment)[:, None, None] for moment in (MEAN, STD))
    return (images / 255 - mean) / std, small.temperature * labels.clamp(min=1e-8).log(), each


def teacher(evaluator: SoftLabelEvaluator, epochs: int) -> torch.nn.Module:
    """Train the network that labels the package's random pictures: it has no file of its own here."""
    model = build_model(MODEL, CLASSES, SIZE, device="cpu")
    loader = DataLoader([*zip(evaluator.images_train, evaluator.labels_train, strict=True)], 256, shuffle=True)
    optimiser = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    for epoch in range(epochs):
        train_one_epoch(epoch, model, loader, torch.nn.CrossEntropyLoss(), optimiser, device="cpu")
    return model.eval()


def judged(small: infer.DistilledSet, options: argparse.Namespace, augment: str | None) -> tuple[float, float]:
    """Return the package's improvement over random pictures and its hard-label recovery, both -1 to 1."""
    images, logits, each = images_and_logits(small)
    with tempfile.TemporaryDirectory() as place, redirect_stdout(StringIO()):
        weights = Path(place) / "CIFAR10" / MODEL / "ckpt_best.pt"
        weights.parent.mkdir(parents=True)
        torch.save(build_model(MODEL, CLASSES, SIZE, device="cpu").state_dict(), weights)
        settings = {"num_eval": options.evaluations, "num_epochs": options.epochs, "data_aug_func": augment}
        own = partial(pictures, most=options.pictures)
        with patch("dd_ranking.utils.data.datasets.CIFAR10", own):
            evaluator = SoftLabelEvaluator(
                real_data_path=options.data, ipc=each, model_name=MODEL, temperature=small.temperature, num_workers=0,
                device="cpu", teacher_dir=place, save_path=f"{place}/scores.csv", **settings,
            )  # fmt: skip
        evaluator.test_interval = options.epochs  # once, after the last epoch
        evaluator.teacher_model = teacher(evaluator, options.epochs)
        found = evaluator.compute_metrics(image_tensor=images, soft_labels=logits)
    return found["improvement_over_random_mean"] / 100, found["hard_label_recovery_mean"] / 100


def main() -> None:
    """Print a line for each run: the package's scores, and those of the run's result.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of the official CIFAR-10 pictures, train/<class> and test/<class>")
    parser.add_argument("runs", nargs="+", help="folders of runs of distill.py, with labels=static")
    parser.add_argument("--epochs", type=int, default=300, help="of every training; default: the package's 300")
    parser.add_argument("--evaluations", type=int, default=5, help="repetitions; default: the package's 5")
    parser.add_argument("--pictures", type=int, default=50000, help="of the data set that are read; default: all")
    options = parser.parse_args()
    if SoftLabelEvaluator is None:
        parser.error("it needs the package ddranking; install ddranking==0.2.0 into an environment of its own")
    print(f"{'run':40} label-robust: package  ours   augmentation-robust: package  ours")
    for run in map(Path, options.runs):
        small = infer.load(run / "distilled.safetensors")
        improvement, recovery = judged(small, options, "cutmix")
        plain, _ = judged(small, options, None)
        ours = next(iter(json.loads((run / "result.json").read_text())["scores"].values()))
        shown = [f"{ours[key]:.3f}" if key in ours else "  -  " for key in ("label_robust", "augmentation_robust")]
        package = f"{ddranking_score(improvement - recovery):.3f}", f"{ddranking_score(improvement + plain):.3f}"
        print(f"{run.parent.name:40} {package[0]:>21} {shown[0]:>5} {package[1]:>28} {shown[1]:>5}", flush=True)


if __name__ == "__main__":
    main()
