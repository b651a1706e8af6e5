"""The memory of this process."""

from __future__ import annotations

import sys


def peak_bytes() -> int | None:
    """Return the largest memory of this process so far in bytes; None where the system does not tell it."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return getattr(psutil.Process().memory_info(), "peak_wset", None)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
