"""Data sets from arrays, and one line for each mistake in them."""

import numpy as np
import pytest
import torch

from infer import UserError
from infer.data import Splits
from infer.data.datasets import digits_splits

IMAGES = np.arange(6 * 3 * 8 * 8, dtype=np.uint32).astype(np.uint8).reshape(6, 3, 8, 8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def from_arrays(train_images=IMAGES, train_labels=LABELS, test_images=IMAGES[:3], test_labels=LABELS[:3], **options):
    return Splits.from_arrays(train_images, train_labels, test_images, test_labels, **options)


def test_arrays_become_the_same_data_set_as_their_source():
    digits = digits_splits("digits", 0.2, 0)
    for convert in (lambda tensor: tensor, lambda tensor: tensor.numpy()):
        parts = [convert(part) for split in (digits.train, digits.test) for part in (split.images, split.targets)]
        made = Splits.from_arrays(*parts)
        assert made.name == "arrays"
        assert made.classes == digits.classes
        assert made.fingerprint == digits.fingerprint
        assert torch.equal(made.train[torch.tensor([7])][0], digits.train[torch.tensor([7])][0])
        assert (made.notes, made.validation, made.given_moments) == ((), None, None)


def test_arrays_of_any_memory_layout_are_taken():
    frozen = IMAGES.copy()
    frozen.flags.writeable = False
    last = np.ascontiguousarray(IMAGES.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    expected = from_arrays().fingerprint
    for images in (frozen, last, IMAGES[::-1][::-1], torch.from_numpy(last), torch.from_numpy(IMAGES)):
        assert from_arrays(images).fingerprint == expected


def test_classes_and_name_are_kept():
    splits = from_arrays(classes=["cat", "dog", "owl"], name="pets")
    assert (splits.name, splits.classes) == ("pets", ["cat", "dog", "owl"])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"train_images": IMAGES.tolist()}, "train_images=list: give a NumPy array or a torch tensor, uint8 [N, ch"),
        ({"train_images": IMAGES / 255}, "train_images=float64 [6, 3, 8, 8]: give uint8 [N, ch, H, H]"),
        ({"test_images": torch.zeros(3, 3, 8, 8)}, "test_images=float32 [3, 3, 8, 8]: give uint8 [N, ch, H, H]"),
        ({"train_images": IMAGES[:, 0]}, "train_images=uint8 [6, 8, 8]: give uint8 [N, ch, H, H]"),
        ({"train_images": IMAGES.transpose(0, 2, 3, 1)}, "train_images=uint8 [6, 8, 8, 3]: has 8 channels; give 1 "),
        ({"train_images": IMAGES[:, :2]}, "train_images=uint8 [6, 2, 8, 8]: has 2 channels; give 1 (grey) or 3"),
        ({"test_images": IMAGES[:3, :, :6]}, "test_images=uint8 [3, 3, 6, 8]: is not square; crop or resize"),
        ({"test_images": IMAGES[:3, :1]}, "test_images: has pictures of [1, 8, 8], but train_images of [3, 8, 8]"),
        ({"train_labels": LABELS[:5]}, "train_labels=int64 [5]: give one label for each of 6 pictures"),
        ({"train_labels": LABELS.astype(np.int32)}, "train_labels=int32 [6]: give int64 [N]"),
        ({"test_labels": np.eye(3)}, "test_labels=float64 [3, 3]: give int64 [N]"),
        ({"test_labels": np.eye(3, dtype=np.int64)}, "test_labels=int64 [3, 3]: give int64 [N]"),
        ({"test_images": IMAGES[:0], "test_labels": LABELS[:0]}, "test_labels=int64 [0]: give one label for each of 0"),
        ({"train_labels": LABELS - 1}, "train_labels: has the label -1; classes are numbered from 0"),
        ({"classes": ["a", "b"]}, "train_labels: has the label 2; 2 classes are 0 to 1"),
        ({"classes": ["a", "b", "c", "d", "e"]}, "train_labels: no picture of class d and 1 more classes; every class"),
        ({"classes": ["a", "b", "a"]}, "classes: has 'a' twice; give each class a name of its own"),
        ({"classes": ["a", 1, "b"]}, "classes: has 1, a int; give texts, such as '1'"),
        ({"classes": "abc"}, "classes=abc: give a list of texts, such as ['cat', 'dog']"),
        ({"classes": 3}, "classes=3: give a list of texts, such as ['cat', 'dog']"),
        ({"test_labels": LABELS[:3] // 2}, "test_labels: no picture of class 2; every class needs one"),
        ({"train_labels": LABELS * 0, "test_labels": LABELS[:3] * 0}, "classes=['0']: two or more classes are needed"),
    ],
)
def test_a_mistake_is_one_line(wrong, says):
    with pytest.raises(UserError) as error:
        from_arrays(**wrong)
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)
