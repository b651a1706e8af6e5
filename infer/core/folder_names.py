"""Names of folders that are valid and distinct on every file system: made from any text, or required of an option."""

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter
from collections.abc import Sequence

from infer.core.errors import UserError, shown

_MOST_BYTES = 100
"""Longest name in UTF-8: leaves room for suffixes below the limits of file systems (143 to 255 bytes)."""
_MOST_GIVEN = 200
"""Longest name in UTF-8 that an option may give."""
_FORBIDDEN = '/\\:*?"<>|'
"""What separates paths, or what a file system refuses."""
_PUNCTUATION = " -._"
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789¹²³")}
"""Devices of Windows; with any extension, too."""


def folder_names(classes: Sequence[str]) -> list[str]:
    """Return a folder name for each class.

    The names are distinct under case folding and Unicode normalisation. They consist of letters, marks, numbers,
    spaces and ``-._``, start and end with neither a dot nor a space, are no device of Windows, and take at most 100
    bytes of UTF-8. Every other character becomes ``_``, and a lone surrogate its code as in ``udc80``. A name that two
    classes would share gets the class number as a suffix. The same classes always get the same names.

    Args:
        classes: distinct class names of any content.

    Returns:
        The names, in the order of ``classes``.

    Example:
        >>> folder_names(["cat", "T-shirt/top", "Dog", "dog", "../up", "nul.txt"])
        ['cat', 'T-shirt_top', 'Dog-2', 'dog-3', '_up', '_nul.txt']
    """
    names = [_portable(name) for name in classes]
    counts = Counter(map(_folded, names))
    taken = {key for key, count in counts.items() if count == 1}
    distinct = []
    for number, name in enumerate(names):
        if counts[_folded(name)] > 1:
            numbered = (_cut(name, ending) for ending in _endings(number))
            name = next(each for each in numbered if _folded(each) not in taken)
            taken.add(_folded(name))
        distinct.append(name)
    return distinct


def _endings(number: int) -> itertools.chain[str]:
    return itertools.chain([f"-{number}"], (f"-{number}-{again}" for again in itertools.count(1)))


def _portable(name: str) -> str:
    """Return a valid name, which other classes may share."""
    name = "".join(map(_replaced, unicodedata.normalize("NFC", name))).lstrip(". ")
    if name.startswith("-"):  # an option of commands and a formula of spreadsheets
        name = f"_{name[1:]}"
    if name.partition(".")[0].rstrip(" ").upper() in _RESERVED:
        name = f"_{name}"
    return _cut(name) or "_"


def _replaced(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cs":
        return f"u{ord(character):04x}"
    return character if category[0] in "LMN" or character in _PUNCTUATION else "_"


def _cut(name: str, ending: str = "") -> str:
    """Shorten ``name`` so that it fits with ``ending``, and add that."""
    start = name.encode()[: _MOST_BYTES - len(ending)].decode(errors="ignore")
    return (start + ending).rstrip(". ")


def _folded(name: str) -> str:
    """Return what is equal for names that some file system takes for one."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).upper().casefold())


def folder_name(key: str, name: str) -> str:
    """Return ``name``, from which a folder below the output is named.

    Args:
        key: of the option that the name comes from, for the message.
        name: of a data set, a backbone or a method.

    Raises:
        UserError: where the name would leave its folder, or is not the name of a folder on every file system.

    Example:
        >>> folder_name("backbone.name", "写真(2)")
        '写真(2)'
        >>> folder_name("backbone.name", "../x")
        Traceback (most recent call last):
        ...
        infer.core.errors.UserError: backbone.name=../x: has / in it, and names a folder below output=; choose another
    """
    problem = _problem(name)
    if problem:
        raise UserError(f"{key}={shown(name)}: {problem}, and names a folder below output=; choose another")
    return name


def _problem(name: str) -> str | None:
    """Return what is wrong with ``name`` as that of a folder; None where nothing is."""
    if not name.strip(" ."):
        return "is empty" if not name else "is dots and spaces"
    for letter in name:
        if letter in _FORBIDDEN:
            return f"has {letter} in it"
        if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp"):  # control, half a pair, ends of lines
            return f"has the character U+{ord(letter):04X} in it"
    if name[0] in ". " or name[-1] in ". ":
        return "begins or ends with a dot or a space"
    if name.partition(".")[0].rstrip().upper() in _RESERVED:
        return "is a device on Windows"
    if len(name.encode()) > _MOST_GIVEN:
        return f"takes {len(name.encode())} bytes, more than {_MOST_GIVEN}"
    return None
