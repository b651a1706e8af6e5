"""Whole files, exclusive locks between processes, and the folder that a run reserves."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infer.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("infer")

Same = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]

SETTINGS = "settings.json"
"""The file that holds the settings of the run to which its folder belongs."""

_DIGITS = 16
"""Hexadecimal digits of a digest: 64 bits."""

_OLD = 24 * 3600
"""Seconds after which a temporary file is no longer being written, on whatever machine it was begun."""

_STARTED = time.time()
"""When this process started, or its parent if it was forked."""

_FREE, _ALLOW = "free space, ", "ask for the right to write there, "

REFUSALS = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EFBIG: "allow larger files (ulimit -f), ",
    errno.EACCES: _ALLOW,
    errno.EPERM: _ALLOW,
    errno.EROFS: "",
}
"""The errors by which a disk refuses to be written, and what helps besides another path."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``path`` whole or not at all, through a temporary file that is renamed.

    The earlier content survives a full disk, a kill, or a power cut. The temporary file of a killed process stays until
    :func:`sweep_temporaries`.

    Raises:
        UserError: where the file cannot be written.
    """
    temporary = temporary_path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder, not a file; give the path of a file, in that folder or elsewhere")
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise refused(path, error) from error


def refused(path: Path, error: OSError, what: str = "written") -> UserError:
    """Return the error for a path that the system refuses, with the cure for its reason.

    >>> print(refused(Path("a"), OSError(errno.ENOSPC, "No space left on device")))
    a: cannot be written (No space left on device); free space, give another path or choose another output=
    """
    cure = REFUSALS.get(error.errno or 0, "")
    return UserError(
        f"{path}: cannot be {what} ({error.strerror or error}); {cure}give another path or choose another output="
    )


def unreadable(path: Path, reason: object) -> UserError:
    """Return the error for a file of a run that is damaged, or that the system does not give.

    >>> print(unreadable(Path("a"), "Permission denied"))
    a: cannot be read (Permission denied); remove it or choose another output=
    """
    return UserError(f"{path}: cannot be read ({reason}); remove it or choose another output=")


def temporary_path(path: Path) -> Path:
    """Return the path beside ``path`` of what this process writes before it is renamed to ``path``."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")


def is_abandoned(temporary: Path) -> bool:
    """Return whether ``temporary`` is a :func:`temporary_path` of a process that is gone.

    A process of another machine is not seen from here: it is taken to be gone when the file or folder is a day old.

    Raises:
        OSError: where it does not exist.
    """
    from psutil import pid_exists

    above, _, process = temporary.stem.rpartition(".")
    if temporary.suffix != ".tmp" or not process.isdecimal():
        return False  # not one of ours
    changed = temporary.lstat().st_mtime
    if time.time() - changed > _OLD:
        return True
    if not above.endswith(f".{platform.node()}"):
        return False
    if int(process) == os.getpid():
        return changed < _STARTED  # of an earlier process: in a container, each may have the same number
    return not pid_exists(int(process))


def sweep_temporaries(folder: Path) -> None:
    """Delete the temporary files of :func:`write_bytes` in ``folder``, and below it, whose processes are gone.

    ``folder`` is that of one run, whose subfolders are few. Lock files stay: a process that waits for a lock has its
    file open, and a new file of that name would be another lock.
    """
    for path in folder.rglob(".*.tmp"):
        with contextlib.suppress(OSError):  # another process may delete it too
            if is_abandoned(path):
                path.unlink()


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=2, sort_keys=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file; None where it does not exist. Raise :class:`UserError` where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file; raise :class:`UserError` where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove it, and it is created again") from error


def digest(content: bytes | Mapping[str, Any]) -> str:
    """Return sixteen hexadecimal digits that identify ``content``."""
    if not isinstance(content, bytes):
        content = json.dumps(content, sort_keys=True, default=str).encode()
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def file_digest(path: Path) -> str | None:
    """Return the :func:`digest` of a file's content; None where there is no file, or one that cannot be read."""
    if not path.is_file():  # a device has no end
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
    except OSError:
        return None


@contextlib.contextmanager
def exclusive_lock(path: Path, title: str) -> Iterator[None]:
    """Hold an exclusive lock between concurrent jobs; the others wait, and then find the result.

    The system frees the lock when its process ends.

    Args:
        path: of the lock file.
        title: of the locked work, for the log.

    Raises:
        UserError: where the file cannot be locked.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            log.info("%s: another process is working on it; waiting", title)
            held = lock.acquire()
    except OSError as error:
        raise refused(path, error, "locked") from error
    with held:
        yield


def reserve_folder(folder: Path, settings: Mapping[str, Any], same: Same | None = None) -> Path:
    """Reserve the folder of the run with these ``settings`` and return it.

    It is ``folder``, or ``folder``-<digest> where another run holds that one. The same settings find the same folder
    again, and no run writes into another's. Temporary files that killed processes left in it are deleted.

    Args:
        folder: of the run, if no other holds it.
        settings: of the run.
        same: whether a folder with the former settings is that of a run with the latter; None: where they are equal.
    """
    with exclusive_lock(folder.with_name(f".{folder.name}.lock"), str(folder)):
        place, reserved = find_folder(folder, settings, same)
        if not reserved:
            if place != folder:
                log.info("%s holds a run with other settings; this one writes to %s", folder, place)
            write_json(place / SETTINGS, settings)
    sweep_temporaries(place)
    return place


def find_folder(folder: Path, settings: Mapping[str, Any], same: Same | None = None) -> tuple[Path, bool]:
    """Return the folder that :func:`reserve_folder` would return, and whether the run holds it already."""
    wanted, name = json.loads(json.dumps(settings)), digest(settings)
    places = [folder.with_name(f"{folder.name}-{name[:digits]}") for digits in (8, _DIGITS)]
    if _settings(places[0]) == wanted:  # by the shorter digest of earlier versions
        return places[0], True
    if same and (found := _found(folder, wanted, same)):
        return found, True
    for candidate in (folder, places[1]):
        known = _settings(candidate)
        if known is None:
            return candidate, False
        if known == wanted:
            return candidate, True
    raise UserError(f"{candidate}: holds other settings of the same digest; choose another output=")


def _found(folder: Path, wanted: Mapping[str, Any], same: Same) -> Path | None:
    """Return the folder of that name, or with a digest behind it, of the same run; first the one of equal settings."""
    places = [folder, *sorted(folder.parent.glob(f"{glob.escape(folder.name)}-*"))]
    found = {}
    for place in places:
        with contextlib.suppress(UserError):  # a damaged file: not of this run, or an error later on
            if (known := _settings(place)) and same(known, wanted):
                found[place] = known
    return next((place for place, known in found.items() if known == wanted), next(iter(found), None))


def _settings(folder: Path) -> dict[str, Any] | None:
    """Return the settings of the run that holds ``folder``; None where none does."""
    path = folder / SETTINGS
    known = read_json(path)
    if path.exists() and (not isinstance(known, dict) or not known):
        raise UserError(f"{path}: holds no settings of a run; remove it or choose another output=")
    return known
