"""--help: the groups with their options, and the keys with their values."""

from __future__ import annotations

from omegaconf import OmegaConf

from infer.cli import schema
from infer.cli.keys import groups
from infer.pipeline.invocation import program


def show_help(name: str, words: list[str]) -> None:
    """Print the groups with their options, and the configuration that ``words`` compose.

    Hydra's own help copies its whole configuration store for each group, and takes seconds.
    """
    config = schema.composed(name, words)
    print(f"{program()} [key=value ...]    one run")
    print(f"{program()} -m key=a,b ...     a run for every combination\n")
    print("Text is taken as it is typed: dataset.root=~/pictures(2). In a sweep, quote a comma: \"dataset.root='a,b'\"")
    print("A file <folder>/recipe/mine.yaml, or of another group, is chosen by --config-dir=<folder> recipe=mine.\n")
    print("Groups, chosen by group=option:")
    for group, options in groups().items():
        if group in config or (name == "distill" and group in ("experiment", "sweep", "tune")):
            print(f"  {group}: {', '.join(options)}")
    print(f"\nKeys, set by key=value; these are the values of this command:\n{OmegaConf.to_yaml(config)}")
    print("See also: --cfg job (only the configuration), --hydra-help, --info.")
