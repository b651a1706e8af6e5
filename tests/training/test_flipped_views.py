"""Flips of mixed views: ``recipe.student.flip_views``."""

from dataclasses import replace

import pytest
import torch

from infer.core.mixed_views import MixedViews
from infer.core.options import AugmentOptions, MixingOptions
from infer.data import Splits
from infer.distilled import DistilledSet, Header
from infer.training.context import Context, context_of_call
from infer.training.options import StudentOptions
from infer.training.students import Student, fit_student
from infer.training.training_set import TrainingSet

CLASSES = ["a", "b"]


@pytest.fixture
def context() -> Context:
    images, labels = torch.randint(256, (8, 3, 8, 8), dtype=torch.uint8), torch.arange(8) % 2
    return context_of_call(Splits.from_arrays(images, labels, images, labels, CLASSES), None, None)


def small(views: bool) -> TrainingSet:
    moments = [0.5] * 3, [0.2] * 3
    described = MixedViews(20, 6, 0, 1, True, None, "cutmix").header if views else None
    header = Header(CLASSES, *moments, "views" if views else "static", "probabilities", 4.0, 0, views=described)
    labels = torch.full((20, 2), 9, dtype=torch.uint8) if views else torch.full((6, 2), 0.5, dtype=torch.float16)
    images, none = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8), torch.empty(0, 3, 8, 8, dtype=torch.int8)
    return TrainingSet.of_set(DistilledSet(images, torch.arange(6) % 2, none, labels, header), [])


def augmentation(context: Context, training_set: TrainingSet, flip_views: bool) -> AugmentOptions:
    recipe = StudentOptions(epochs=None, steps=1, batch=4, flip_views=flip_views)
    student = Student("narrow", "convnet_narrow", recipe, MixingOptions(), 1, 0)
    return fit_student(context, student, training_set, None).module.task.augmentation


def test_views_are_flipped_where_the_recipe_says_so_and_pictures_may_be(context):
    as_they_are = AugmentOptions(crop=0, flip=False)
    assert augmentation(context, small(views=True), flip_views=False) == as_they_are
    assert augmentation(context, small(views=True), flip_views=True) == AugmentOptions(crop=0, flip=True)
    upright = replace(context, augmentation=replace(context.augmentation, flip=False))
    assert augmentation(upright, small(views=True), flip_views=True) == as_they_are


def test_other_images_are_flipped_as_before(context):
    assert augmentation(context, small(views=False), flip_views=True) == context.augmentation
    plain = replace(small(views=False), final=True)  # a row without augmentation
    assert augmentation(context, plain, flip_views=True) == AugmentOptions(crop=0, flip=False)
