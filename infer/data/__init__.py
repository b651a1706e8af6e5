"""Labelled pictures: where they come from, how they reach a device, and how a batch is augmented there."""

from infer.data.pictures import Pictures, Splits, Streamed

__all__ = ["Pictures", "Splits", "Streamed"]
