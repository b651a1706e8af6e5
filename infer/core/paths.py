"""Paths that a caller of the library gives."""

from __future__ import annotations

import os
from pathlib import Path

from infer.core.errors import UserError, shown


def user_path(path: str | Path) -> Path:
    """Return a path that a caller gives, in which a leading ``~`` is the home folder.

    Each public function calls this once, where the path enters: :class:`Path` drops the ``./`` of ``./~/x``, which is a
    folder called ``~``, so a second call would take it for the home folder.

    Args:
        path: the path as it was given.

    Returns:
        The path. It is unchanged where it begins with no ``~``, or with the ``~name`` of a user that the system does
        not know.

    Raises:
        UserError: for what is no path.

    Example:
        >>> user_path("~/x") == Path.home() / "x", user_path("a/~").as_posix(), user_path("./~/x").as_posix()
        (True, 'a/~', '~/x')
    """
    if not isinstance(path, str | os.PathLike) or "\0" in str(path):
        raise UserError(f"path={shown(path)}: must be a path, as text or as a pathlib.Path")
    return Path(os.path.expanduser(path))
