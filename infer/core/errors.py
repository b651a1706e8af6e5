"""The one error a user sees."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake of the user in one line: the key, the value, and the choices or the cure."""


def choices(key: str, value: object, known: Iterable[str], given: str | None = None) -> UserError:
    """Return the error for a ``value`` of ``key`` that is not in ``known``; those nearest to it, or ``given``, lead."""
    known = sorted(known)
    near = get_close_matches(given or str(value), known, n=3, cutoff=0.7)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    listed = ", ".join(known[:30]) + (f", ... ({len(known)} in all)" if len(known) > 30 else "")
    cure = f"choose one of {listed}" if known else "there is none to choose"
    return UserError(f"{key}={value}: unknown; {hint}{cure}")
