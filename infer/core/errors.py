"""The one error a user sees."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

_LISTED = 24
"""Choices that are listed whole; of more, the nearest are."""

_NEAREST = 10


class UserError(ValueError):
    """A mistake of the user in one line: the key, the value, and the choices or the cure."""


def choices(key: str, value: object, known: Iterable[str], given: str | None = None) -> UserError:
    """Return the error for a ``value`` of ``key`` that is not in ``known``; those nearest to it, or ``given``, lead.

    >>> print(choices("method", "infr", ["random", "infer"]))
    method=infr: unknown; did you mean infer? choose one of infer, random
    """
    known = sorted(set(known))
    word = given or str(value)
    near = get_close_matches(word, known, n=3, cutoff=0.7)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    listed = ", ".join(known)
    if len(known) > _LISTED:
        nearest = sorted(known, key=lambda name: -SequenceMatcher(None, word, name).ratio())[:_NEAREST]
        listed = f"{', '.join(nearest)}, ... ({len(known)} in all)"
    cure = f"choose one of {listed}" if known else "there is none to choose"
    return UserError(f"{key}={value}: unknown; {hint}{cure}")
