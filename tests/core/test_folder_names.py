"""Folder names of classes on every file system."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infer.core.folder_names import folder_names

DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", *(f"{p}{n}" for p in ("COM", "LPT") for n in range(10))}


def check(classes: list[str]) -> list[str]:
    """The names, each of them valid everywhere and no two the same for any file system."""
    names = folder_names(classes)
    assert len(names) == len(classes)
    assert folder_names(classes) == names
    for name in names:
        assert 0 < len(name.encode()) <= 100
        assert not set(name) & set('/\\:*?"<>|\0')
        assert not {unicodedata.category(character) for character in name} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
        assert name[0] not in ".- "
        assert name[-1] not in ". "
        assert name.split(".")[0].strip().upper() not in DEVICES
    for form in ("NFC", "NFD", "NFKC"):
        normal = [unicodedata.normalize(form, name) for name in names]
        if form != "NFKC":
            assert len({name.casefold() for name in normal}) == len(names)
            assert len({name.upper() for name in normal}) == len(names)
    return names


def test_plain_names_stay_as_they_are():
    classes = ["cat", "Pferd 3", "kuro 黒", "v1.2", "a_b-c", "हिन्दी", "Ñandú", "x-1"]
    assert check(classes) == [unicodedata.normalize("NFC", name) for name in classes]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["a/", "a_", "a_-0"], ["a_-0-1", "a_-1", "a_-0"]),
        (["x", "x.", "x-1"], ["x-0", "x-1-1", "x-1"]),
        (["A", "a", "b"], ["A-0", "a-1", "b"]),
        (["é", "e\u0301"], ["é-0", "é-1"]),
        (["straße", "STRASSE"], ["straße-0", "STRASSE-1"]),
        (["CON", "con", "nul.txt", "COM1.a.b", "lpt¹", "console"], None),
        (["", ".", "..", "...", " "], ["_-0", "_-1", "_-2", "_-3", "_-4"]),
        (["../up", "..\\up", "/etc/passwd", "C:\\x"], ["_up-0", "_up-1", "_etc_passwd", "C__x"]),
        (["-rf", "--", "=1+1", "@x"], ["_rf", "_-", "_1_1", "_x"]),
        (["\ud800", "\udcff", "a\udc80b"], ["ud800", "udcff", "audc80b"]),
        (["a\nb", "a\0b", "a\u202eb", "a\u200bb"], ["a_b-0", "a_b-1", "a_b-2", "a_b-3"]),
    ],
)
def test_awkward_names_become_valid_and_distinct(classes, expected):
    names = check(classes)
    if expected:
        assert names == expected


def test_long_names_are_cut():
    names = check(["n" * 300, "n" * 301, "黒" * 300, "😀" * 300, "é" * 49 + "abé"])
    assert names[0] == "n" * 98 + "-0"
    assert names[2] == "黒" * 33


@given(st.lists(st.text(max_size=8), unique=True, max_size=12))
def test_any_names(classes):
    check(classes)


@given(st.lists(st.text(alphabet="aA./-_01 ıIiİßSſs\u0301", max_size=4), unique=True, max_size=30))
def test_names_that_nearly_collide(classes):
    check(classes)


def test_many_equal_names_are_quick():
    assert len(set(check(["n" * 100 + str(number) for number in range(5000)]))) == 5000
