"""Words of a command line: text is taken as it is typed, and what cannot mean anything is one line."""

import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from infer.cli import schema
from infer.cli.words import arranged, quoted
from infer.core.errors import UserError


def composed(command: str, *words: str):
    """The options that words give."""
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        return schema.typed(compose(command, arranged(command, [*words])))


def jobs(*words: str) -> list[str]:
    """The values of a sweep of one key."""
    (word,) = [word for word in arranged("distill", ["-m", *words]) if not word.startswith("--")]
    return [*OverridesParser.create().parse_override(word).sweep_string_iterator()]


TEXTS = [
    *("2024_01", "1e3", "0x10", "1_000", "007", "3.14", ".5", "true", "False", "null", "nan", "inf", "2024-01-31"),
    *("12:30", "a b", "写真", "a-b", "none", "部品(2)", "it's", "a=b", "[1]", "{a}", "a,b", "choice(1,2)", "%s", "#1"),
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_name_of_a_data_set_is_what_was_typed(text):
    assert arranged("distill", [f"dataset.name={text}"])
    tree = schema.composed("distill", arranged("distill", [f"dataset.name={text}"]))
    assert (tree.dataset.name, type(tree.dataset.name)) == (text, str)


@pytest.mark.parametrize(
    "path",
    [
        "a=b",
        "a(1)",
        "写真(2)",
        "C:\\pics\\new",
        "C:\\pics\\",
        "/a b/c, d",
        "/x${y",
        '/it\'s "x"',
        "\\\\host\\a",
        "/a#b",
        "1",
    ],
)
def test_a_path_is_what_was_typed(path):
    options = composed("distill", "dataset=image_folder", f"dataset.root={path}", f"output={path}/out")
    assert (options.dataset.root, options.output) == (path, f"{path}/out")
    assert composed("train", "source=distilled", f"source.path={path}").source.path == path


def test_quotes_of_the_users_own_are_taken_off():
    for word in ("dataset.root='a b'", 'dataset.root="a b"'):
        assert composed("distill", "dataset=image_folder", word).dataset.root == "a b"


@given(st.text(st.characters(exclude_characters="$"), min_size=1))
def test_any_text_in_quotes_is_that_text(text):
    value = OverridesParser.create().parse_override(f"dataset.root={quoted(text)}").value()
    own = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    assert value == text or own


def test_null_is_none_where_a_key_may_be_none():
    options = composed("distill", "report.language=null", "budget.codec=null", "dataset.root=null")
    assert (options.report.language, options.budget.codec, options.dataset.root) == (None, None, None)
    for word in ("experiment=null", "sweep=null", "tune=null", "logger=null"):
        assert arranged("distill", [word]) == []


def test_texts_of_a_list_are_what_was_typed():
    words = ["teachers.backbones=[2024_01,1e3, convnet]", "logger.wandb.project=2024_01", "logger=wandb"]
    tree = schema.composed("distill", arranged("distill", words))
    assert list(tree.teachers.backbones) == ["2024_01", "1e3", "convnet"]
    assert tree.logger.wandb.project == "2024_01"
    assert list(schema.composed("distill", arranged("distill", ["logger=[wandb,tensorboard]"])).logger) == [
        "wandb",
        "tensorboard",
    ]


def test_a_home_folder_is_opened_in_every_path(tmp_path):
    home = os.path.expanduser("~")
    words = ["dataset=image_folder", "dataset.root=~/x", "dataset.data_dir=~/data", "output=~"]
    options = composed("distill", *words)
    assert (options.dataset.root, options.dataset.data_dir, options.output) == (f"{home}/x", f"{home}/data", home)
    words = ["source=distilled", "source.path=~/a.safetensors", "+backbone.options.file=~/w.pth"]
    options = composed("train", *words)
    assert options.source.path == f"{home}/a.safetensors"
    assert options.backbone.options["file"] == f"{home}/w.pth"
    assert arranged("distill", ["--config-dir=~"]) == [f"--config-dir={home}"]


def test_a_sweep_divides_at_commas_outside_quotes_and_brackets():
    assert jobs("ipc=1,2") == ["1", "2"]
    assert jobs("ipc=range(1,4)") == ["1", "2", "3"]
    assert jobs("dataset.root=/a (1),'/b,2',写真") == ["'/a (1)'", "'/b,2'", "'写真'"]
    assert jobs("dataset.root=choice(a,b)") == ["a", "b"]
    assert jobs("dataset.name=2024_01,1e3") == ["'2024_01'", "'1e3'"]
    assert jobs("method=random,herding") == ["random", "herding"]
    assert jobs("students.sources=[real],[real,random]") == ["[real]", "[real,random]"]
    assert jobs("budget.codec=null,avif") == ["null", "avif"]


def test_flags_may_stand_anywhere():
    assert arranged("distill", ["ipc=1", "-m", "seed=0,1", "--cfg=job"][:3]) == ["ipc=1", "seed=0,1", "--multirun"]
    assert arranged("distill", ["-c", "job", "ipc=1", "--info"][:3]) == ["ipc=1", "--cfg=job"]
    assert arranged("distill", ["-sc", "install=bash"]) == ["install=bash", "--shell-completion"]
    assert arranged("distill", ["--info", "ipc=1"]) == ["ipc=1", "--info"]


def test_a_published_file_is_a_distilled_one():
    words = arranged("train", ["source=wandb:me/infer/digits:v0"])
    assert words == ["source=distilled", "source.path='wandb:me/infer/digits:v0'"]


def test_of_a_key_that_is_given_twice_the_last_value_counts(capsys):
    """As in Hydra; so a script can pass "$@" behind values of its own. Groups and sweeps have the same rule."""
    assert composed("distill", "ipc=1", "seed=3", "ipc=2").ipc == 2
    assert capsys.readouterr().err == "note: ipc=1 ipc=2: ipc is given more than once; ipc=2 counts\n"
    assert composed("distill", "labels=views", "labels=hard").labels.kind == "hard"
    assert composed("distill", "++ipc=1", "ipc=3", "++ipc=2").ipc == 2
    assert composed("distill", "tune=default", "tune=null").tune is None
    assert jobs("ipc=1,2", "ipc=3,4,5") == ["3", "4", "5"]
    capsys.readouterr()
    assert composed("distill", "ipc=2", "ipc=2").ipc == 2
    assert capsys.readouterr().err == ""


def test_help_may_have_a_topic():
    assert arranged("distill", ["--help", "recipe", "ipc=1"]) == ["ipc=1", "--help=recipe"]
    assert arranged("distill", ["ipc=1", "-h"]) == ["ipc=1", "--help"]
    assert arranged("distill", ["--help", "ipc=1"]) == ["ipc=1", "--help"]
    assert arranged("distill", ["--help=labels"]) == ["--help=labels"]


MISTAKES = [
    (["--ipc=10"], "--ipc=10: no such flag; options have no dashes, as in ipc=10"),
    (["--ipc", "10"], "--ipc: no such flag; options have no dashes, as in ipc=10"),
    (["-ipc=10"], "-ipc=10: no such flag; options have no dashes, as in ipc=10"),
    (["ipc", "10"], "ipc 10: write ipc=10"),
    (["ipc"], "ipc: has no value; give ipc=<value>"),
    (["ipc="], "ipc=: has no value; give ipc=<value>"),
    (["dataset.root="], "dataset.root=: has no value; give dataset.root=<value>, or null"),
    (["dataset="], "dataset=: has no value; give dataset=<value>"),
    (["=3"], "=3: has no key; give <key>=3"),
    (["~ipc"], "~ipc: an option always has a value; give ipc=<value>"),
    (["~dataset"], "~dataset: an option always has a value; give dataset=<value>"),
    (["dataset=null"], "dataset=null: unknown; choose one of cifar10, cifar100, digits"),
    (["recipe=null"], "recipe=null: unknown; choose one of cifar10, cifar100, common"),
    (["ipc=1,2"], "ipc=1,2: several values are a sweep; add -m"),
    (["ipc=choice(1,2)"], "ipc=choice(1,2): several values are a sweep; add -m"),
    (["method=random,rded"], "method=random,rded: several values are a sweep; add -m"),
    (["-m", "ipc=1,,2"], "ipc=1,,2: has an empty value beside a comma"),
    (["dataset.mean=[0.5"], "dataset.mean=[0.5: is a list; give dataset.mean=[0.5]"),
    (["students.backbones=5"], "students.backbones=5: is a list; give students.backbones=[5]"),
    (["students.backbones=resnet18"], "students.backbones=resnet18: is a list; give students.backbones=[resnet18]"),
    (["students.backbones.x=1"], "students.backbones.x: students.backbones is a list; give students.backbones=[...]"),
    (["trainer.max_time=3"], "trainer.max_time=3: unknown; choose one of trainer.accelerator"),
    (["+trainer.max_time=3"], "trainer.max_time=3: unknown; choose one of trainer.accelerator"),
    (["++recipe.student.step=5"], "recipe.student.step=5: unknown; did you mean recipe.student.steps"),
    (["+dataset.rot=x"], "dataset.rot=x: unknown; did you mean dataset.root"),
    (["experimnt=poc"], "experimnt=poc: unknown; did you mean experiment"),
    (["backbone=convnet"], "backbone=convnet: unknown; choose one of budget"),  # that of train.py
    (["--config-dir", "/nowhere"], "--config-dir=/nowhere: no such folder"),
    (["--config-dir"], "--config-dir: has no value; give --config-dir=<value>"),
    (["--cfg=jobs"], "--cfg=jobs: unknown; did you mean job? choose one of all, hydra, job"),
    (["--config-path=/tmp"], "--config-path=/tmp: not of this command, which reads conf/ and the folder of"),
    (["--experimental-rerun", "x.pickle"], "--experimental-rerun: not of this command"),
    (["-m", "--cfg", "job"], "--multirun --cfg=job: give one of them"),
    (["--multirun=3"], "--multirun=3: the flag --multirun has no value"),
]


@pytest.mark.parametrize(("words", "says"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_word_that_means_nothing_is_refused_with_what_is_meant(words, says):
    with pytest.raises(UserError) as caught:
        arranged("distill", words)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_paths_of_any_bytes_are_taken(tmp_path: Path):
    root = os.fsdecode(b"/tmp/\xff\xe9")
    assert composed("distill", "dataset=image_folder", f"dataset.root={root}").dataset.root == root
