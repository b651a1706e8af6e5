"""The options of a distilled set."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

from infer.core.checks import Choice, Range
from infer.core.options import AugmentOptions, BudgetOptions, LabelOptions, MixingOptions, UFCOptions
from infer.methods.options import METHODS, method_options
from infer.training.options import StudentOptions


@dataclass(frozen=True)
class MethodOptions:
    """A method.

    Args:
        name: of :data:`infer.methods.options.METHODS`.
        compensators: whether the set stores compensators; None: as the method does.
        options: the method's own by name; those that are left out have its defaults.
    """

    name: Annotated[str, Choice(*METHODS)] = "infer"
    compensators: bool | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def check_together(self, at: str) -> None:
        """Raise :class:`UserError` for options that the method does not have."""
        method_options(self.name, self.options)

    @property
    def has_compensators(self) -> bool:
        """Whether the set stores compensators."""
        return METHODS[self.name].compensators if self.compensators is None else self.compensators


RANDOM = MethodOptions("random", False)
"""The method of every baseline."""


@dataclass(frozen=True)
class SetOptions:
    """Everything that decides a distilled set, given the data and the teachers.

    Args:
        ipc: images per class that may be stored.
        seed: of the pictures, of the compensators and of the mixed views.
        method: how natural images are selected or created.
        budget: how ipc is counted and spent.
        labels: which labels the set has.
        ufc: how compensators are optimised.
        student: the training of the proxy model, and the temperature of labels.
        mixing: of the proxy model's batches.
        augment: of the mixed views, and of the proxy model's batches.
        proxy_backbone: the network of the proxy model, which ``infer_plus`` trains for ``labels.proxy_steps`` steps.
    """

    ipc: Annotated[int, Range(1, 10**6)] = 10
    seed: Annotated[int, Range(0, 2**31)] = 0
    method: MethodOptions = field(default_factory=MethodOptions)
    budget: BudgetOptions = field(default_factory=BudgetOptions)
    labels: LabelOptions = field(default_factory=LabelOptions)
    ufc: UFCOptions = field(default_factory=UFCOptions)
    student: StudentOptions = field(default_factory=StudentOptions)
    mixing: MixingOptions = field(default_factory=MixingOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    proxy_backbone: str = "convnet_narrow"

    @classmethod
    def of_method(cls, name: str, **changed: Any) -> SetOptions:
        """Return the defaults of a method, as its file in conf/method/ has them, with ``changed`` fields.

        Example:
            >>> SetOptions.of_method("infer_plus", ipc=50).budget.codec
            'avif'
        """
        own = asdict(method_options(name, {}))
        method = METHODS[name]
        presets = cls(
            method=MethodOptions(name, method.compensators, own),
            budget=replace(BudgetOptions(), **method.budget),
            labels=replace(LabelOptions(), **method.labels),
        )
        return replace(presets, **changed)

    @property
    def uses_proxy(self) -> bool:
        """Whether a proxy model is needed: to select pictures, or the candidates of mixed views."""
        chosen = method_options(self.method.name, self.method.options)
        of_views = self.labels.kind == "views" and self.labels.candidates > 1
        return of_views or METHODS[self.method.name].uses_proxy(chosen)

    @property
    def size_key(self) -> str:
        """The key, with its value, that says how large the set is: ``ipc=10`` or ``budget.bytes=960000``."""
        return f"ipc={self.ipc}" if self.budget.bytes is None else f"budget.bytes={self.budget.bytes}"

    def file_bytes(self, classes: int, image_bytes: int) -> int:
        """Return the bytes of the file of a budget that counts them; ``image_bytes`` is the size of a raw image."""
        return self.budget.bytes or self.ipc * classes * image_bytes

    def baseline(self, labels: str) -> SetOptions:
        """Return the options of random pictures with labels of the kind ``labels``; mixed views are not chosen."""
        return replace(self, method=RANDOM, labels=replace(self.labels, kind=labels, candidates=1))
