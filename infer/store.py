"""Files that are whole or absent, and the folder a run claims."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infer.errors import UserError


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside ``path``, then rename: what was there before survives a full disk, a kill, or a power cut.

    Raises :class:`UserError` naming the path where it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another output="
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=2, sort_keys=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The content of ``path``, None where it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def digest(content: bytes | Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name ``content``."""
    if not isinstance(content, bytes):
        content = json.dumps(content, sort_keys=True, default=str).encode()
    return hashlib.sha256(content).hexdigest()[:8]


def claim(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The folder of the run with these ``settings``: ``folder``, or ``folder``-<digest> where others hold it.

    So the same command finds its own folder again, and no command writes into another's.
    """
    for candidate in (folder, folder.with_name(f"{folder.name}-{digest(settings)}")):
        held = candidate / "settings.json"
        try:
            known = read_json(held)
        except (OSError, ValueError) as error:
            raise UserError(f"{held}: cannot be read ({error}); remove it or choose another output=") from error
        if known is None:
            write_json(held, settings)
            return candidate
        if known == json.loads(json.dumps(settings)):
            return candidate
    raise UserError(f"{candidate}: holds other settings of the same digest; choose another output=")
