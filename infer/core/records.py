"""Records: JSON files that say what was measured, with digests of the files that it was measured on."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping
from os.path import normpath, relpath
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from infer.core.files import file_digest, unreadable

log = logging.getLogger("infer")


def read_record(path: Path, kind: type[BaseModel], consequence: str) -> dict[str, Any] | None:
    """Read a JSON object and check its keys and types.

    Args:
        path: of the file.
        kind: its keys and their types; further keys are kept.
        consequence: what the caller does without the record, as in ``it is measured again``.

    Returns:
        The object. None where the file does not exist, and, with a warning, where it is no ``kind`` or has a number
        that is NaN or infinite.

    Raises:
        UserError: where the file exists and the system does not give its content.
    """
    try:
        content = path.read_bytes()
        kind.model_validate_json(content, strict=True)
        return json.loads(content, parse_float=_finite, parse_constant=_finite)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error.strerror) from error
    except _NotFiniteError as error:
        log.warning("%s: has the number %s, which is not finite; %s", path, error, consequence)
        return None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        log.warning("%s: %s: %s; %s", path, field, first["msg"].lower(), consequence)
        return None


def without_nan(content: Any) -> Any:
    """Return ``content`` with None in place of nan, which JSON lacks.

    >>> without_nan({"recall": [0.5, float("nan")]})
    {'recall': [0.5, None]}
    """
    if isinstance(content, Mapping):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


class _NotFiniteError(Exception):
    """A number of a JSON file that no computer calculates with."""


def _finite(number: str) -> float:
    """Parse a number with a fraction or an exponent, or one of the constants that Python adds to JSON."""
    if not math.isfinite(float(number)):
        raise _NotFiniteError(number)
    return float(number)


def digests(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return the digests of ``files`` by their paths from ``folder``, for a record in it; without those missing."""
    found = {Path(relpath(file, folder)).as_posix(): file_digest(file) for file in files}
    return {name: known for name, known in found.items() if known}


def changed_file(folder: Path, known: Mapping[str, str], missing: bool = True) -> Path | None:
    """Return the first file that is not the one that was recorded; None where all are.

    Args:
        folder: of the record.
        known: the digests by the paths from ``folder``.
        missing: whether a file that is not there counts as changed.
    """
    for name, recorded in known.items():
        file = Path(normpath(folder / name))  # as relpath made it, whatever links there are
        present = file_digest(file)
        if present != recorded and (missing or present is not None):
            return file
    return None
