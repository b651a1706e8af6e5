"""Signals that end a command: a line, an exit status, and a state from which the same command goes on."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = ("SIGTERM", "SIGHUP")
"""Signals that end a process without a word; Windows has no SIGHUP."""

_PATIENCE = 20
"""Seconds that a process has to clean up after a signal. Then it is killed, which leaves no file half-written."""

_received: list[int] = []
"""The signal that stops this process, if one has come."""

_dropped: list[int] = []
"""The same signal, while its interruption is to be raised again."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Interrupt the block on SIGTERM or SIGHUP, as Ctrl-C does; print one line and exit with the status of the signal.

    The status is 128 and the number of the signal, as a shell has it: 130, 143 or 129. A second signal ends the process
    at once. A signal that is ignored, as by nohup, stays so.
    """
    process = os.getpid()
    _received.clear()
    _dropped.clear()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked one, which inherits the handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif _dropped:
            _dropped.clear()
            raise KeyboardInterrupt
        elif _received:
            end_now()
        else:
            _received.append(number)
            patience = threading.Timer(_PATIENCE, end_now)  # a library may drop the exception, or wait for ever
            patience.daemon = True
            patience.start()
            raise KeyboardInterrupt  # which libraries, Lightning among them, clean up after

    def end_now() -> None:
        _end(_reason(_received[0]))
        os._exit(128 + _received[0])

    kinds = [kind for kind in (getattr(signal, name, None) for name in _SIGNALS) if kind is not None]
    replaced = {kind: signal.signal(kind, stop) for kind in kinds if signal.getsignal(kind) is signal.SIG_DFL}
    try:
        with _none_dropped():
            yield
    except BaseException as error:
        if _received:  # whatever a library made of the interruption
            _end(_reason(_received[0]))
            raise SystemExit(128 + _received[0]) from None
        if isinstance(error, KeyboardInterrupt):
            _end("interrupted")
            raise SystemExit(130) from None
        raise
    finally:
        for kind, handler in replaced.items():
            signal.signal(kind, handler)


@contextlib.contextmanager
def _none_dropped() -> Iterator[None]:
    """Raise an interruption again that came in a callback, of which an import has many: Python shows it and goes on."""

    def unraised(told: sys.UnraisableHookArgs) -> None:
        if isinstance(told.exc_value, KeyboardInterrupt):
            _dropped[:] = _received
            threading.Timer(0.1, _thread.interrupt_main, _received or [signal.SIGINT]).start()
        elif not _received:
            show(told)

    show, sys.unraisablehook = sys.unraisablehook, unraised
    try:
        yield
    finally:
        sys.unraisablehook = show


def is_interruption(error: BaseException | None) -> bool:
    """Return whether ``error`` follows an interruption: a signal has come, or one was handled while it was raised."""
    if _received:
        return True
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _reason(number: int) -> str:
    return f"stopped by {signal.Signals(number).name}"


def _end(reason: str) -> None:
    """Print the line, and end processes that this one started."""
    for child in multiprocessing.active_children():
        child.kill()
    atexit.register(logging.disable)  # a library whose import was interrupted would log, and show, what it has cached
    with contextlib.suppress(OSError):  # a closed terminal
        print(f"error: {reason}; the same command goes on where this one stopped", file=sys.stderr, flush=True)
