"""The configuration: the Hydra tree of our option objects, and the networks that conf/ or the user names."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from infer.core.checks import check
from infer.core.errors import UserError, choices
from infer.models.options import BackboneOptions
from infer.pipeline.options import BaseOptions, DistillOptions, TrainOptions

_ROOT = Path(__file__).parents[1]
CONF = next(path for path in (_ROOT / "conf", _ROOT.parent / "conf") if (path / "base.yaml").is_file())
"""conf/: inside the package of an installed copy, beside it in a checkout."""

OPTIONS: dict[str, type[BaseOptions]] = {"distill": DistillOptions, "train": TrainOptions}
"""The options of each command."""


def register() -> None:
    """Register the trees of both commands, which give Hydra the keys and their types."""
    for name, options in OPTIONS.items():
        ConfigStore.instance().store(name=f"{name}_schema", node=tree(options))


_REQUIRED = ("dataset.root", "source.path", "backbone.name", "backbone.model")
"""Keys whose Python default must not stand in for a ??? of conf/."""


def tree(options: type) -> DictConfig:
    """Return the tree of an option class. Frozen classes make read-only nodes, which nothing could be merged into."""
    node = _writable(cast(DictConfig, OmegaConf.structured(options)))
    for key in _REQUIRED:
        if OmegaConf.select(node, key, default=node) is not node:
            OmegaConf.update(node, key, MISSING)
    return node


def _writable(node: DictConfig) -> DictConfig:
    node._set_flag("readonly", None)
    for key in node:
        below = node._get_node(key)
        if isinstance(below, DictConfig) and not below._is_none() and not below._is_missing():
            _writable(below)
    return node


def composed(name: str, words: list[str]) -> DictConfig:
    """Compose the configuration of a command line; --config-dir is looked into, other flags are ignored."""
    given = [word for word in words if not word.startswith("-") and ("=" in word or word.startswith("~"))]
    for flag, value in pairwise([*words, ""]):
        if flag in ("--config-dir", "-cd"):
            given.append(f"hydra.searchpath=[file://{Path(value).absolute()}]")
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(name, given)


def typed(config: DictConfig) -> Any:
    """Return the option objects of a composed configuration, checked.

    Raises:
        UserError: for a value out of range.
        OmegaConfBaseException: for a value that is missing or of another type.
    """
    _require_known(config, "")
    options = OmegaConf.to_object(config)
    check(options)
    return options


def _require_known(node: DictConfig, at: str) -> None:
    """Raise :class:`UserError` for a key that its option class does not have: + lets OmegaConf add any."""
    kind = OmegaConf.get_type(node)
    known = [f"{at}{field.name}" for field in fields(kind)] if is_dataclass(kind) else None
    for key in node:
        name = f"{at}{key!s}"
        below = node._get_node(key)
        if known is not None and name not in known:
            raise choices(name, node[key], known, given=name)
        if isinstance(below, DictConfig) and not below._is_none() and not below._is_missing():
            _require_known(below, f"{name}.")


def backbones(options: BaseOptions) -> dict[str, BackboneOptions]:
    """Return the networks of ``options`` that a file backbone/<name>.yaml describes, in conf/ or in --config-dir."""
    names = [*options.teachers.backbones, *options.students.backbones]
    study = getattr(options, "tune", None)
    for key, space in (study.dimensions if study else {}).items():
        if key.endswith(".backbones") and isinstance(space, list):
            names += [name for value in space for name in value]
    return {name: found for name in names if (found := _backbone(name))}


def _backbone(name: str) -> BackboneOptions | None:
    try:
        return _read_backbone(name)
    except (YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"backbone/{name}.yaml: {reason}") from error


def _read_backbone(name: str) -> BackboneOptions | None:
    running = GlobalHydra.instance()
    if running.is_initialized():
        found = running.config_loader().repository.load_config(f"backbone/{name}")  # type: ignore[attr-defined]
        content = found.config if found else None
    else:
        file = CONF / "backbone" / f"{name}.yaml"
        content = OmegaConf.load(file) if file.is_file() else None
    if content is None:
        return None
    return cast(BackboneOptions, typed(cast(DictConfig, OmegaConf.merge(tree(BackboneOptions), content))))
