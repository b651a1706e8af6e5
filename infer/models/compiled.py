"""Functions under torch.compile, which are called as they are where compilation fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

import torch

log = logging.getLogger("infer")

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Compiled(Generic[Arguments, Result]):
    """A compiled function. Where the compiler fails, a warning is logged, and the function runs uncompiled.

    Args:
        function: to be compiled at its first call.
        mode: of torch.compile.
        key: of the setting, for the message.
    """

    def __init__(self, function: Callable[Arguments, Result], mode: str, key: str) -> None:
        self.function, self.setting = function, f"{key}={mode}"
        self.compiled: Callable[Arguments, Result] | None = torch.compile(function, mode=mode)

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Call the compiled function."""
        if self.compiled is not None:
            try:
                torch.compiler.cudagraph_mark_step_begin()
                return self.compiled(*args, **kwargs)
            except Exception as error:  # a compiler raises errors of many types: no g++, an unknown operator, a driver
                reason = (str(error).splitlines() or [""])[0]
                log.warning("%s fails (%s: %s); going on without it", self.setting, type(error).__name__, reason)
                self.compiled = None
        return self.function(*args, **kwargs)
