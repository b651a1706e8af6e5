"""The configuration: the Hydra tree of our option objects, and the networks that conf/ or the user names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf, ValueNode, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from infer.cli import user_files
from infer.cli.keys import CONF, OPTIONS
from infer.cli.words import quoted
from infer.core.checks import check
from infer.core.errors import UserError, choices
from infer.data.options import no_such_folder
from infer.models.options import BackboneOptions, require_known
from infer.pipeline.options import BaseOptions, TrainOptions


def register() -> None:
    """Register the trees of both commands, which give Hydra the keys and their types, and the checks of files."""
    user_files.install()
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
    return composed_with_choices(name, words)[0]


def composed_with_choices(name: str, words: list[str]) -> tuple[DictConfig, dict[str, Any]]:
    """Compose the configuration of a command line; return it and the option that it chose of each group.

    Of a sweep, it is that of the first job.
    """
    register()
    given = [*_of_first_job([word for word in words if not word.startswith("-")])]
    for word in words:
        if word.startswith("--config-dir="):
            folder = Path(word.partition("=")[2]).absolute()
            given.append(f"hydra.searchpath=[{quoted(f'file://{folder}')}]")
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(name, given, return_hydra_config=True)
    chosen = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    return config, chosen


def _of_first_job(words: Sequence[str]) -> Iterator[str]:
    """Yield overrides, those that sweep with their first value. Values that only Hydra finds (glob) are left out."""
    for word in OverridesParser.create().parse_overrides(list(words)):
        if not word.is_sweep_override():
            yield str(word.input_line)
            continue
        with contextlib.suppress(HydraException):
            yield f"{str(word.input_line).partition('=')[0]}={next(word.sweep_string_iterator())}"


def typed(config: DictConfig) -> Any:
    """Return the option objects of a composed configuration, checked.

    Raises:
        UserError: for a value out of range.
        OmegaConfBaseException: for a value that is missing or of another type.
    """
    _require_known(config, "")
    _open_home(config)
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


def require_places(options: BaseOptions) -> None:
    """Raise :class:`UserError` where a folder or file to read is missing, before the seconds of importing torch."""
    root = options.dataset.root
    if root is not None and not Path(root).is_dir():
        raise no_such_folder("dataset.root", root)
    if isinstance(options, TrainOptions) and options.source.kind == "distilled":
        path = str(options.source.path)
        if not path.startswith("wandb:") and not Path(path).is_file():
            raise UserError(f"source.path={path}: no such file; give one that distill.py wrote")


def _open_home(node: DictConfig) -> None:
    """Replace the ``~`` at the beginning of texts by the folder it stands for."""
    for key in node:
        below = node._get_node(key)
        if isinstance(below, DictConfig) and not below._is_none() and not below._is_missing():
            _open_home(below)
        elif isinstance(below, ValueNode) and isinstance(value := below._value(), str) and value[:1] == "~":
            node[key] = os.path.expanduser(value)


def backbones(options: BaseOptions) -> dict[str, BackboneOptions]:
    """Return the networks of ``options`` that a file backbone/<name>.yaml describes, in conf/ or in --config-dir.

    Raises:
        UserError: for a network that neither a file describes nor timm has.
    """
    named = [(f"{group}.backbones", name) for group in ("teachers", "students") for name in _names(options, group)]
    study = getattr(options, "tune", None)
    for key, space in (study.dimensions if study else {}).items():
        if key.endswith(".backbones") and isinstance(space, list):
            named += [(f"tune.space.{key}", name) for value in space for name in value]
    known = {name: found for _, name in named if (found := _backbone(name))}
    models = {known[name].model if name in known else name: key for key, name in named}
    if isinstance(options, TrainOptions):
        models[options.backbone.model] = "backbone.model"
    for model, key in models.items():
        require_known(key, model)  # before data are read
    return known


def _names(options: BaseOptions, group: str) -> list[str]:
    return getattr(options, group).backbones


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
