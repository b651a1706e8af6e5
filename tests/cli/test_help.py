"""--help: it fits on a screen, answers at once, names every key, and its commands work."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from infer.cli import help as pages
from infer.cli import reference
from infer.cli.words import arranged
from infer.core.errors import UserError, typed

COMMANDS = ["distill", "train"]


def shown(name: str, *words: str) -> str:
    """What a command prints in a process of its own, at 100 columns; the page imports no torch."""
    code = f"""
import runpy, sys
sys.argv = ["{name}.py", *{[*words]}]
runpy.run_path("{name}.py", run_name="__main__")
slow = {{"torch", "timm", "pydantic", "pytorch_lightning"}} & {{*sys.modules}}
assert not slow, slow
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_short_page_fits_on_a_screen(name):
    lines = shown(name, "--help").splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert f"Usage: python {name}.py [group=option] [key=value] ..." in text
    for key in ("ipc=10", "seed=0", "dataset.image_size=8"):
        assert re.search(rf"^  {key} +\w", text, re.MULTILINE)
    listed = re.findall(r"^  (\w+) +\S.*", text.partition("Groups,")[2].partition("\n\n")[0], re.MULTILINE)
    assert {*listed} == {group for group in reference.meanings(name) if group in reference.groups()}
    assert all(
        word in text for word in ("cifar10, cifar100, digits", "--help <group>", "--help all", "--help backbone")
    )


def commands() -> list[tuple[str, str]]:
    """The commands in the pages."""
    examples = [(name, words) for name in COMMANDS for words in pages.PAGES[name].examples]
    of_hydra = [("distill", words) for words in pages.HYDRA if not words.startswith(("HYDRA", "--"))]
    return [*examples, *of_hydra, ("distill", "--config-dir=<folder> recipe=<mine>"), ("distill", "--cfg job")]


@pytest.mark.parametrize(("name", "line"), commands())
def test_every_command_of_the_pages_composes(name, line, tmp_path):
    """The first job of a sweep does."""
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text("defaults: [digits, _self_]\nstudent: {steps: 7}")
    line = line.replace("<folder>", str(tmp_path)).replace("<file>", str(tmp_path)).replace("<mine>", "mine")
    words = arranged(name, [word.replace("'", "") for word in line.split()])
    if "--multirun" in words:
        words = [word.partition(",")[0].replace("range(5", "5") for word in words if word != "--multirun"]
    config = reference.schema.composed(name, [word for word in words if not word.startswith("sweep=")])
    if "recipe=mine" in words:
        assert config.recipe.student.steps == 7
    if "backbone=timm" not in words:
        reference.schema.typed(config)


def test_every_group_and_key_has_a_meaning():
    for name in COMMANDS:
        rows = reference.rows(name)
        assert not [row.key for row in rows if not row.meaning]
        assert {row.group for row in rows} <= {*reference.meanings(name)}
        assert all(reference.meanings(name).values())
    assert not [option for group in reference.groups() for option in reference.options(group) if not option.meaning]


def leaves(node, at=""):
    for key in node:
        below = node._get_node(key)
        if hasattr(below, "keys") and below._content and not below._is_none():
            yield from leaves(below, f"{at}{key}.")
        else:
            yield f"{at}{key}"


LOGGERS = "logger=[wandb,tensorboard]"
CHOSEN = [("train", []), ("train", [LOGGERS])]
CHOSEN += [("distill", words) for words in ([], ["method=rded"], ["tune=default"], [LOGGERS])]


@pytest.mark.parametrize(("name", "words"), CHOSEN, ids=[" ".join([name, *words]) for name, words in CHOSEN])
def test_every_key_is_listed_with_the_value_that_it_has(name, words):
    config = reference.schema.composed(name, arranged(name, words))
    rows = {row.key: row for row in reference.rows(name, arranged(name, words))}
    groups = {"logger", "tune", "experiment", "sweep"}  # of which nothing may be chosen
    for key in leaves(config):
        at = next((each for each in rows if f"{key}.".startswith(f"{each}.")), None)
        assert at or key in groups or key == "method.options", key
        if at == key and (not rows[key].needs or rows[key].needs in words):
            value = reference.OmegaConf.select(config, key)
            value = reference.OmegaConf.to_container(value) if reference.OmegaConf.is_config(value) else value
            assert rows[key].default == typed(reference._plain(value))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_default_can_be_typed(name):
    """Keys of mappings aside, which are given one by one."""
    for needs in {row.needs for row in reference.rows(name)}:
        rows = [row for row in reference.rows(name) if row.needs == needs and not row.type.startswith("mapping")]
        words = arranged(name, [*filter(None, [needs]), *(f"{row.key}={row.default}" for row in rows)])
        found = {row.key: row.default for row in reference.rows(name, words)}
        assert {row.key: row.default for row in rows}.items() <= found.items()


def test_types_choices_and_ranges_are_those_of_the_option_classes():
    rows = {row.key: row for row in [*reference.rows("train"), *reference.rows("distill")]}
    facts = {key: (row.type, row.choices, row.default) for key, row in rows.items()}
    assert facts["ipc"] == ("whole number", "1 to 1000000", "10")
    assert facts["budget.codec"] == ("text or null", "avif | webp | jpeg", "null")
    assert facts["dataset.mean"] == ("list of numbers or null", "0 to 1 each", "null")
    assert facts["method.options.crops"] == ("whole number", "1 to 10000", "5")
    assert rows["method.options.crops"].needs == "method=rded"
    assert facts["students.backbones"] == ("list of texts", "", "[convnet_narrow]")
    assert facts["recipe.teacher.weight_decay"] == ("number", "0 to 1", "0.0005")


def test_a_meaning_is_that_of_the_chosen_option():
    def meaning(key: str, *words: str) -> str:
        return next(row.meaning for row in reference.rows("distill", [*words]) if row.key == key)

    assert meaning("budget.fill").startswith("true: the unused rest of a budget of images")
    assert meaning("budget.fill", "method=infer_plus") == "has no effect where ipc counts bytes"
    assert meaning("mixing.alpha", "mixing=none") == "has no effect without mixing"
    assert meaning("labels.share").endswith("No more views are stored than a student sees in all its steps.")


def test_the_page_of_a_group_has_its_options_and_its_keys():
    page = shown("distill", "dataset=image_folder", "--help", "dataset")
    assert "cifar10        CIFAR-10: 10 classes of 5,000 pictures" in page
    assert "dataset.root=???  (text or null)\n      folder with train/<class>/* and test/<class>/*" in page
    assert "dataset.image_size=64  (whole number or text, 4 to 1024)" in page
    page = shown("distill", "--help", "report")
    assert "report.language=null" in page
    assert "Options" not in page
    assert "dry_run=false" in shown("distill", "--help=general")


def test_the_networks_have_a_page_in_both_commands():
    for name in COMMANDS:
        page = shown(name, "--help", "backbone")
        assert "resnet18_pretrained            ResNet-18 with timm's ImageNet-1k weights." in page
        assert "timm model" in page
    assert "backbone.model=convnet" in shown("train", "--help", "backbone")


def test_a_key_and_the_keys_below_one_have_a_page():
    assert shown("distill", "--help", "recipe.student.lr").splitlines() == [
        "  recipe.student.lr=0.01  (number, 1e-09 to 100)",
        "      initial learning rate; the highest one of one_cycle",
    ]
    assert shown("distill", "-h", "recipe.ufc").count("recipe.ufc.") == 6


def test_the_page_of_everything_has_every_key():
    for name in COMMANDS:
        page = shown(name, "--help", "all")
        assert not [row.key for row in reference.rows(name) if f"  {row.key}={row.default}" not in page]
        assert max(map(len, page.splitlines())) < 500


def test_the_page_of_hydra_has_its_words():
    page = shown("train", "--help", "hydra")
    assert "-m seed=0,1,2" in page
    assert "--cfg job" in page


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "seed=7,8"],
        ["-m", "seed=range(7,25,5)"],
        ["-m", "method=infer_plus,random", "seed=7", "+published.x=1,2", "dataset.name='a,b',c"],
        ["-m", "seed=7", "students=glob(*)"],
        ["sweep=seeds", "seed=7"],
    ],
)
def test_help_beside_a_sweep_has_the_values_of_its_first_job(words):
    rows = {row.key: row.default for row in reference.rows("distill", arranged("distill", [*words, "--help"]))}
    assert rows["seed"] == "7"
    assert rows["budget.codec"] == ("avif" if "method=infer_plus,random" in words else "null")


def test_an_unknown_topic_is_one_line(command):
    done = command("distill.py", "--help", "recip")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --help=recip: unknown; did you mean recipe")
    assert done.stderr.count("\n") == 1
    with pytest.raises(UserError, match="--help=source: unknown"):
        pages.show_help("distill", ["--help=source"])
