"""The methods by name: their options, and the settings that belong to them. Importing them does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from infer.core.checks import Range, check, replaced
from infer.core.errors import UserError, choices, shown

if TYPE_CHECKING:
    from infer.methods.selection import Naturals, SelectionInputs


@dataclass(frozen=True)
class NoOptions:
    """Options of a method that has none."""


@dataclass(frozen=True)
class InferPlusOptions:
    """Options of INFER+.

    Args:
        easiest: share of each class, in 0 to 1, that is left out: the images with the lowest reducible loss. At 0 the
            selection is random and needs no proxy model.
    """

    easiest: Annotated[float, Range(0, 1)] = 0.35


@dataclass(frozen=True)
class RDEDOptions:
    """Options of RDED.

    Args:
        candidates: train images of each class that are cropped; more where more are needed.
        crops: random crops of each, of which the best one is kept.
        least: least share of the area of a crop.
        factor: crops along each side of an image; an image shows ``factor**2`` of them.
    """

    candidates: Annotated[int, Range(1, 10**7)] = 300
    crops: Annotated[int, Range(1, 10**4)] = 5
    least: Annotated[float, Range(0.01, 1)] = 0.5
    factor: Annotated[int, Range(1, 16)] = 1

    def check_images(self, side: int) -> None:
        """Raise :class:`UserError` where a crop of an image of ``side`` pixels would have none left."""
        if self.factor > side:
            raise UserError(
                f"method.options.factor={self.factor}: images of {side} x {side} pixels hold at most {side} crops "
                f"along a side; choose {side} or less"
            )


@dataclass(frozen=True)
class SRe2LOptions:
    """Options of SRe2L.

    Args:
        steps: optimisation steps of each batch.
        lr: initial learning rate of Adam, in normalised units.
        batch: images that are optimised together, whose statistics are matched.
        bn_weight: weight of the BatchNorm distance against the cross-entropy.
        first_weight: weight of the first BatchNorm layer against the others.
        jitter: pixels by which a step rolls the images, 0 to this, down and right.
    """

    steps: Annotated[int, Range(1, 10**7)] = 1000
    lr: Annotated[float, Range(1e-9, 100)] = 0.25
    batch: Annotated[int, Range(1, 10**6)] = 100
    bn_weight: Annotated[float, Range(0, 1e6)] = 0.01
    first_weight: Annotated[float, Range(0, 1e6)] = 10.0
    jitter: Annotated[int, Range(0, 1024)] = 4


def _never(options: Any) -> bool:
    return False


@dataclass(frozen=True)
class Method:
    """A distillation method: how it selects or creates natural images, and the settings that belong to it.

    Args:
        name: of the method, and of its module in ``infer/methods``, whose function ``select`` it calls.
        options: frozen dataclass of the method's options and their defaults.
        compensators: whether the set also stores Universal Feature Compensators (:mod:`infer.core.ufc`).
        budget: budget options that this method changes, by field name.
        labels: label options that this method changes, by field name.
        uses_proxy: function of the options that returns whether ``select`` reads ``SelectionInputs.proxy``.
        needs_batch_norm: whether ``select`` matches the teachers' BatchNorm statistics.
        creates: whether ``select`` creates images, where other methods select train pictures.
    """

    name: str
    options: type = NoOptions
    compensators: bool = False
    budget: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    uses_proxy: Callable[[Any], bool] = _never
    needs_batch_norm: bool = False
    creates: bool = False

    def select(self, inputs: SelectionInputs, options: Any) -> Naturals:
        """Select or create natural images; the same inputs give the same images."""
        return import_module(f"infer.methods.{self.name}").select(inputs, options)


_INFER_PLUS = Method(
    "infer_plus",
    InferPlusOptions,
    budget={"by": "bytes", "fill": True, "codec": "avif", "quality": 40},
    labels={"kind": "views", "share": 0.25, "candidates": 4},
    uses_proxy=lambda options: options.easiest > 0,
)
_ALL = (
    Method("infer", compensators=True),
    _INFER_PLUS,
    Method("random"),
    Method("herding"),
    Method("k_center"),
    Method("sre2l", SRe2LOptions, needs_batch_norm=True, creates=True),
    Method("rded", RDEDOptions, creates=True),
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}
"""All methods by name."""


def method_options(name: str, values: Mapping[str, Any]) -> Any:
    """Build and check the options of a method.

    Args:
        name: name of the method, a key of :data:`METHODS`.
        values: options that differ from the defaults, by field name.

    Returns:
        The option object: an instance of ``METHODS[name].options``.

    Raises:
        UserError: if the method or an option is unknown, or a value has the wrong type or is out of range.

    Example:
        >>> method_options("rded", {"factor": 2})
        RDEDOptions(candidates=300, crops=5, least=0.5, factor=2)
    """
    if not isinstance(name, str) or name not in METHODS:
        raise choices("method", name, METHODS)
    if not isinstance(values, Mapping):
        raise UserError(f"method.options={shown(values)}: must be options by name")
    options = METHODS[name].options
    known = [each.name for each in fields(options)]
    for key in values:
        if key not in known:
            raise UserError(
                f"method.options.{key}={shown(values[key])}: no option of method={name}; it has "
                f"{', '.join(known) or 'none'}"
            )
    check(options(**values), "method.options.")
    return replaced(options(), values)  # whole numbers become fractions where an option is one
