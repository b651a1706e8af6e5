"""--help: the groups with their options, and the keys with their values."""

from __future__ import annotations

from omegaconf import OmegaConf

from infer.cli import schema
from infer.pipeline.invocation import program


def show_help(name: str, overrides: list[str]) -> None:
    """Print the groups with their options, and the configuration that ``overrides`` compose.

    Hydra's own help copies its whole configuration store for each group, and takes seconds.
    """
    schema.register()
    groups = sorted(path for path in schema.CONF.iterdir() if path.is_dir())
    config = schema.composed(name, overrides)
    print(f"{program()} [key=value ...]    one run")
    print(f"{program()} -m key=a,b ...     a run for every combination\n")
    print("Groups, chosen by group=option:")
    for group in groups:
        chosen = group.name in config or group.name == "recipe"
        if chosen or (name == "distill" and group.name in ("experiment", "sweep", "tune")):
            print(f"  {group.name}: {', '.join(sorted(option.stem for option in group.glob('*.yaml')))}")
    print(f"\nKeys, set by key=value; these are the values of this command:\n{OmegaConf.to_yaml(config)}")
    print("See also: --cfg job (only the configuration), --hydra-help, --info.")
