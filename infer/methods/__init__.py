"""The method and its rivals under one interface: ``naturals(given, **options)`` picks or makes what a set stores.

What comes after is the same for all: the budget, the coding, compensators where the method has such, the labels.
"""

from infer.methods import herding, infer_plus, k_center, random, rded, sre2l
from infer.methods.selection import Given, Method, Naturals, check

METHODS: dict[str, Method] = {
    "infer": random.naturals,
    "infer_plus": infer_plus.naturals,
    "random": random.naturals,
    "herding": herding.naturals,
    "k_center": k_center.naturals,
    "sre2l": sre2l.naturals,
    "rded": rded.naturals,
}

__all__ = ["METHODS", "Given", "Method", "Naturals", "check"]
