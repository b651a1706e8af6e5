"""Distil from Python: digits as arrays, teachers, a distilled file, and a student that is trained on it.

    python examples/from_python.py

writes digits-infer.safetensors and digits-infer_plus.safetensors into the current folder, in about a minute on a CPU.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import infer

SMALL_IMAGES = infer.AugmentOptions(crop=1, flip=False)  # 8 x 8 pixels; and a mirrored digit is none


def digits() -> infer.Splits:
    """Return scikit-learn's digits, of which every fifth is for testing."""
    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]  # uint8 [N, 1, 8, 8]
    labels = bunch.target.astype(np.int64)
    test = np.arange(len(labels)) % 5 == 0
    return infer.Splits.from_arrays(images[~test], labels[~test], images[test], labels[test], name="digits")


def main() -> None:
    """Distil the digits by two methods and print how well a student of each file does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(), help="folder of the two files; default: this one")
    parser.add_argument("--ipc", type=int, default=10, help="images per class that may be stored; default: 10")
    chosen = parser.parse_args()

    data = digits()
    quick = infer.TeacherOptions(epochs=15, batch=64, optimizer="nesterov", schedule="one_cycle")
    recipe = infer.StudentOptions(epochs=None, steps=600, lr=1e-2, schedule="one_cycle", temperature=4.0)
    inputs = infer.InputOptions(augment=SMALL_IMAGES)
    teachers = infer.train_teachers(data, ["convnet_narrow", "convnet_deep"], options=quick, augment=SMALL_IMAGES)
    for method in ("infer", "infer_plus"):
        options = infer.SetOptions.of_method(
            method, augment=SMALL_IMAGES, student=recipe, proxy_backbone="convnet_narrow"
        )
        file = chosen.folder / f"digits-{method}.safetensors"
        infer.distill(data, teachers, ipc=chosen.ipc, seed=0, options=options).save(file)

        small = infer.load(file)
        student = infer.train_student(small, "convnet_narrow", options=recipe, inputs=inputs)
        accuracy = infer.evaluate(student, data.test).accuracy
        print(f"{method}: {small} -> {100 * accuracy:.1f} % of the test pictures")


if __name__ == "__main__":
    main()
