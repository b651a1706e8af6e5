"""The split as published, for any C, M and ipc."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infer.core.budget import infer_split, natural_split, published_images
from infer.core.errors import UserError


@pytest.mark.parametrize(
    ("classes", "teachers", "ipc", "natural", "compensators", "images"),
    [  # the paper's table: per class naturals, stored compensators, images a class once composed
        (10, 4, 10, 7, 28, 35),
        (10, 4, 50, 35, 140, 175),
        (10, 4, 100, 71, 284, 355),
        (100, 4, 10, 9, 36, 45),
        (100, 4, 50, 48, 192, 240),
        (100, 4, 100, 96, 384, 480),
        (200, 4, 10, 9, 36, 45),
        (200, 4, 50, 49, 196, 245),
        (200, 4, 100, 98, 392, 490),
        (1000, 3, 10, 9, 27, 36),
        (1000, 3, 50, 49, 147, 196),
        (1000, 3, 100, 99, 297, 396),
    ],
)
def test_the_split_is_that_of_the_papers_table(classes, teachers, ipc, natural, compensators, images):
    split = infer_split(ipc, classes, teachers)
    assert (split.rounds, split.compensators) == (natural, compensators)
    assert split.naturals + split.compensators == natural * (classes + teachers)
    assert natural + split.composed // classes == images
    assert published_images(ipc, classes, teachers) == images * classes


def test_a_budget_without_compensators_counts_naturals():
    assert published_images(1, 10, 4) == 10


@given(st.integers(1, 300), st.integers(2, 500), st.integers(1, 8), st.booleans())
def test_a_split_keeps_the_budget_or_names_the_smallest_ipc_that_works(ipc, classes, teachers, fill):
    try:
        split = infer_split(ipc, classes, teachers, fill)
    except UserError as error:
        smallest = int(str(error).split("the smallest that works is ipc=")[1].split(",")[0])
        assert not fill
        assert infer_split(smallest, classes, teachers).rounds >= 1
        with pytest.raises(UserError, match=f"ipc={smallest - 1}"):
            infer_split(smallest - 1, classes, teachers)
        return
    used = split.naturals + split.compensators
    assert used == ipc * classes if fill else ipc * classes - (classes + teachers) < used <= ipc * classes


@given(st.integers(0, 5000), st.integers(2, 200))
def test_a_split_of_naturals_has_no_compensators(images, classes):
    split = natural_split(images, classes)
    assert (split.naturals, split.compensators, split.composed) == (images, 0, 0)
