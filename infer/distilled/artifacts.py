"""Distilled files that somebody published on Weights & Biases."""

from __future__ import annotations

from pathlib import Path

from infer.core.errors import UserError

SCHEME = "wandb:"


def fetch(name: str) -> Path:
    """The distilled file of the artifact ``name``, as wandb:<entity>/<project>/<artifact>:<version>, downloaded.

    wandb keeps it in a folder of its own (WANDB_ARTIFACT_DIR). Raises :class:`UserError` where it cannot be had.
    """
    import wandb

    try:
        folder = Path(wandb.Api().artifact(name.removeprefix(SCHEME), type="distilled").download())
    except (wandb.Error, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{name}: cannot be fetched ({reason}); log in with `wandb login`, or give a file") from error
    file = folder / "distilled.safetensors"
    if not file.is_file():
        raise UserError(f"{name}: holds no distilled.safetensors; name an artifact that distill.py logger=wandb made")
    return file
