"""The commands' frame: Hydra's composition, our checks, and one line for a user's mistake."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from infer import schema
from infer.errors import UserError, choices


def command(name: str, task: Callable[[Any], Any]) -> None:
    """Run ``task`` on the checked configuration ``conf/<name>.yaml`` with the command line's overrides.

    A user's mistake prints one line and exits with 2; HYDRA_FULL_ERROR=1 shows the traceback in its place.
    """
    full = os.environ.get("HYDRA_FULL_ERROR", "") not in ("", "0")
    schema.register()

    @hydra.main(version_base="1.3", config_path=str(schema.CONF), config_name=name)
    def run(config: DictConfig) -> None:
        try:
            task(schema.checked(config))
        except (UserError, OmegaConfBaseException) as error:
            if full:
                raise
            _fail(one_line(error, config))

    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra hands its errors over and does not print them
    try:
        run()
    except (HydraException, OmegaConfBaseException) as error:
        if full:
            raise
        _fail(one_line(error, None))
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on where this one stopped", code=130)


def _fail(line: str, code: int = 2) -> None:
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(code)


def one_line(error: BaseException, config: DictConfig | None) -> str:
    """What is wrong, where, and the cure, in one line."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}: has no value; give {error.full_key}=<value>"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, value = error.missing_cfg_file.rpartition("/")
        return str(choices(group, value, error.options))
    if found := re.search(r"Could not override '([^']+)'", text):
        return str(_unknown_key(found[1]))
    if found := re.search(r"Error merging override (.*)", text):
        return f"{found[1]}: {str(error.__cause__).splitlines()[0]}"
    return " ".join(line.strip() for line in text.splitlines() if line.strip() and "object_type=" not in line)


def _unknown_key(key: str) -> UserError:
    value = next((given.partition("=")[2] for given in sys.argv if given.startswith(f"{key}=")), "")
    node = OmegaConf.structured(schema.TrainConfig if "train" in Path(sys.argv[0]).name else schema.DistillConfig)
    above, _, _ = key.rpartition(".")
    for part in filter(None, above.split(".")):
        if part not in node:
            return choices(part, "", node)
        node = node[part]
    return choices(key, value, (f"{above}.{known}" if above else known for known in node))
