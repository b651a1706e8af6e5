"""Labelled pictures: where they come from, how they reach a device, and how a batch is augmented there."""

from infer.data.pictures import Pictures, Splits

__all__ = ["Pictures", "Splits"]
