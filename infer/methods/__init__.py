"""The method and its rivals under one interface; each fills a :class:`Stored` from the same picks.

A method is ``distil(data, split, picks, compensate) -> Stored``: ``picks`` are the train pictures of each class in the
order of the run's seed, ``compensate(naturals uint8 [K, C, ch, H, W], targets int64 [K, C])`` optimises the
compensators of K rounds against every teacher: float32 [K, M, ch, H, W], normalised units.
"""

from infer.methods import infer, random
from infer.methods.stored import Compensate, Method, Stored

METHODS: dict[str, Method] = {"infer": infer.distil, "random": random.distil}

__all__ = ["METHODS", "Compensate", "Method", "Stored"]
