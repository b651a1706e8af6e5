"""The training sets of the comparison: what a student can be trained on, and their titles."""

from __future__ import annotations

SOURCES = {
    "distilled": "the distilled file",
    "distilled_hard": "the distilled images, hard labels",
    "random": "random images, same bytes (equal-bytes baseline)",
    "random_images": "random images, same count (equal-images baseline)",
    "random_static": "random images, same bytes, one soft label each",
    "random_hard": "random images, same bytes, hard labels",
    "distilled_plain": "the distilled file, no augmentation",
    "random_plain": "equal-bytes baseline, no augmentation",
    "real": "the full training set",
}
"""The title of every source, in the order of the table's rows.

Random images are drawn from the training set and stored with the codec of the distilled file. Those of ``random``,
``random_images`` and ``random_plain`` have its kind of labels too.
"""

REPORTED = ("real", "distilled", "random")
"""The sources that a report compares."""
