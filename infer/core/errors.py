"""The one error a user sees, and how it shows a value."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

_LISTED = 24
"""Choices that are listed whole; of more, the nearest are."""

_NEAREST = 10

_LONGEST, _CUT = 200, 60
"""Characters of a value that is shown whole, and those that are left of a longer one."""


class UserError(ValueError):
    """A mistake of the user in one line: the key, the value, and the choices or the cure."""


def typed(value: object) -> str:
    """Return ``value`` as a user types it in a YAML file or on the command line: lists have no spaces.

    >>> typed(None), typed([True, 0.5, "a"]), typed({"lr": None})
    ('null', '[true,0.5,a]', '{lr: null}')
    """
    if isinstance(value, dict):
        return f"{{{', '.join(f'{typed(key)}: {typed(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(typed, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def shown(value: object) -> str:
    r"""Return ``value`` for a message: as it is typed, in one line, and cut where it is long.

    >>> shown([0.5, "a\nb"])
    '[0.5,a\\nb]'
    """
    plain = escaped(typed(value))
    return plain if len(plain) <= _LONGEST else f"{plain[:_CUT]}..."


def escaped(text: str) -> str:
    r"""Return ``text`` in one line that every terminal takes.

    >>> escaped("a\nb")
    'a\\nb'
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def message_in(traceback: str) -> str | None:
    r"""Return the message of the :class:`UserError` that ends a traceback; None where another error, or none, does.

    Workers of a loader and started processes pass their errors on as the text of a traceback.

    >>> message_in("Traceback (most recent call last):\n  ...\ninfer.core.errors.UserError: ipc=0: too small\n")
    'ipc=0: too small'
    >>> message_in("dataset.name=UserError: x/y: has / in it")
    """
    _, found, message = traceback.rpartition(f"\n{UserError.__module__}.{UserError.__qualname__}: ")
    message = message.strip()
    return message if found and len(message.splitlines()) == 1 else None


def choices(key: str, value: object, known: Iterable[str], given: str | None = None) -> UserError:
    """Return the error for a ``value`` of ``key`` that is not in ``known``; those nearest to it, or ``given``, lead.

    >>> print(choices("method", "infr", ["random", "infer"]))
    method=infr: unknown; did you mean infer? choose one of infer, random
    """
    known = sorted(set(known), key=_order)
    word = given or shown(value)
    group = word[: word.rfind(".") + 1]  # which the keys of a group share: alike are those whose rest is
    rests = {name.removeprefix(group): name for name in known}
    near = [rests[rest] for rest in get_close_matches(word.removeprefix(group), rests, n=3, cutoff=0.7)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    listed = ", ".join(known)
    if len(known) > _LISTED:
        nearest = sorted(known, key=lambda name: -SequenceMatcher(None, word, name).ratio())[:_NEAREST]
        listed = f"{', '.join(nearest)}, ... ({len(known)} in all)"
    cure = f"choose one of {listed}" if known else "there is none to choose"
    return UserError(f"{key}={shown(value)}: unknown; {hint}{cure}")


def _order(name: str) -> tuple[bool, int, str]:
    """Return what sorts whole numbers by their size, and before texts."""
    number = name.isdecimal()
    return not number, int(name) if number else 0, name
