"""INFER: random natural images, and compensators that each serve one image of every class.

Source: Zhang, Du, Liu, Zhou, "Breaking Class Barriers: Efficient Dataset Distillation via Inter-Class Feature
Compensator", ICLR 2025, arXiv 2408.06927.

The naturals are drawn at random; :mod:`infer.core.ufc` optimises the compensators afterwards, on the naturals as the
file stores them. Where this version differs from the paper: a compensator is stored as int8 steps of two pixel levels,
and composed images are clipped to the range of a pixel.
"""

from __future__ import annotations

from infer.methods.random import select

__all__ = ["select"]
