"""The sets of a comparison: the distilled set, and the baselines it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from infer.core.progress import unnumbered
from infer.distilled import DistilledSet
from infer.pipeline.assemble import Assembler


@dataclass(frozen=True)
class ComparedSets:
    """The ``distilled`` set and its baselines by source, each created at its first use."""

    assembler: Assembler
    distilled: DistilledSet
    _created: dict[Callable[[ComparedSets], DistilledSet], DistilledSet] = field(default_factory=dict)

    def __getitem__(self, source: str) -> DistilledSet:
        create = SETS[source]
        if create not in self._created:  # a plain row shares the set of the row it is compared with
            with unnumbered():
                self._created[create] = create(self)
        return self._created[create]

    def itself(self) -> DistilledSet:
        """The distilled set."""
        return self.distilled

    def hard(self) -> DistilledSet:
        """The same images, labelled by their classes."""
        header = replace(
            self.distilled.header, labels="hard", space="probabilities", temperature=1.0, label_bytes=0, views=None
        )
        return replace(self.distilled, labels=None, choices=None, header=header)

    def equal_bytes(self) -> DistilledSet:
        """Random pictures with the same kind of labels, codec and bytes."""
        header = self.distilled.header
        foreign = header.label_bytes if header.labels == "dynamic" else 0  # the teachers are no bytes of the file
        return self._random(header.labels).within_bytes(self.distilled.payload - foreign)

    def equal_images(self) -> DistilledSet:
        """As many random pictures as the set stores images, compensators counted, with the same kind of labels."""
        images = len(self.distilled.naturals) + len(self.distilled.compensators)
        return self._random(self.distilled.header.labels).of_images(images)

    def static(self) -> DistilledSet:
        """Random pictures with one soft label each, and the same codec and bytes."""
        return self._random("static").within_bytes(self.distilled.payload)

    def random_hard(self) -> DistilledSet:
        """Random pictures with hard labels, and the same codec and bytes."""
        return self._random("hard").within_bytes(self.distilled.payload)

    def _random(self, labels: str) -> Assembler:
        return replace(self.assembler, options=self.assembler.options.baseline(labels))


SETS: dict[str, Callable[[ComparedSets], DistilledSet]] = {
    "distilled": ComparedSets.itself,
    "distilled_hard": ComparedSets.hard,
    "random": ComparedSets.equal_bytes,
    "random_images": ComparedSets.equal_images,
    "random_static": ComparedSets.static,
    "random_hard": ComparedSets.random_hard,
    "distilled_plain": ComparedSets.itself,
    "random_plain": ComparedSets.equal_bytes,
}
"""How the set of each source is created; the real set is none of them."""

REDUNDANT = {
    "distilled_hard": "hard",
    "random_static": "static",
    "random_hard": "hard",
    "distilled_plain": "views",
    "random_plain": "views",
}
"""Sources that repeat another row where the distilled set's labels are of this kind: mixed views, for example, are
neither augmented nor mixed again, so their plain rows are the ordinary ones."""
