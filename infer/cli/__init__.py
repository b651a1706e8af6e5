"""The two commands: infer-distill and infer-train, which distill.py and train.py call too."""

import sys

from infer.cli.stopping import stoppable
from infer.core.extras import missing_extra


def distill() -> None:
    """Distil a labelled image set; options are in conf/distill.yaml."""
    _run("distill")


def train() -> None:
    """Train one classifier; options are in conf/train.yaml."""
    _run("train")


def _run(name: str) -> None:
    with stoppable():
        try:
            from infer.cli.command import TASKS, command

            command(name, TASKS[name])
        except ModuleNotFoundError as error:
            line = missing_extra(error, f"infer-{name}")
            if line is None:
                raise
            print(f"error: {line}", file=sys.stderr)
            raise SystemExit(2) from error
