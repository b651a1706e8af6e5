"""Reads the runs that W&B keeps on disk for ``wandb sync``."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from wandb.proto import wandb_internal_pb2

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
"""The environment of a process that has no W&B account."""


def records(path: Path) -> Iterator[wandb_internal_pb2.Record]:
    """The records of a run for ``wandb sync``: W&B's messages, in blocks of 32 KiB as in LevelDB's logs."""
    content, at, held = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        size, kind = struct.unpack("<HB", content[at + 4 : at + 7]) if left >= 7 else (0, 0)
        if kind == 0:  # the rest of a block
            at += left
            continue
        held += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or its last part
            yield wandb_internal_pb2.Record.FromString(held)
            held = b""


def by_type(path: Path) -> dict[str, list]:
    """The records of a run by their type."""
    found: dict[str, list] = {}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        found.setdefault(kind, []).append(getattr(record, kind))
    return found
