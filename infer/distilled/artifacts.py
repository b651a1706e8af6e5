"""Distilled files that are published as Weights & Biases artifacts."""

from __future__ import annotations

from pathlib import Path

from infer.core.errors import UserError
from infer.core.extras import needed_by

SCHEME = "wandb:"


def fetch(name: str) -> Path:
    """Download a published distilled file.

    Args:
        name: ``wandb:<entity>/<project>/<artifact>:<version>``.

    Returns:
        The local file, in the folder that wandb keeps for artifacts (``WANDB_ARTIFACT_DIR``).

    Raises:
        UserError: if wandb is not installed, or the artifact cannot be downloaded or is no distilled file.
    """
    with needed_by(name):
        import wandb
    try:
        folder = Path(wandb.Api().artifact(name.removeprefix(SCHEME), type="distilled").download())
    except (wandb.Error, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{name}: cannot be fetched ({reason}); log in with `wandb login`, or give a file") from error
    file = folder / "distilled.safetensors"
    if not file.is_file():
        raise UserError(f"{name}: holds no distilled.safetensors; name an artifact that logger=wandb created")
    return file
