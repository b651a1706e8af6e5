"""The defaults of the option classes, which Python callers get, are those of conf/, which the commands get."""

from dataclasses import fields
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from infer.cli import schema
from infer.core.options import BudgetOptions, LabelOptions, MixingOptions, UFCOptions
from infer.data import DatasetOptions
from infer.models.options import NETWORKS, BackboneOptions, backbone
from infer.pipeline.options import (
    BaseOptions,
    DistillOptions,
    SearchOptions,
    SourceOptions,
    StudentsOptions,
    TeachersOptions,
    TrainOptions,
)
from infer.pipeline.set_options import MethodOptions
from infer.pipeline.tune_options import TuneOptions
from infer.report.options import ReportOptions
from infer.training.options import MicroBatchOptions, StudentOptions, TeacherOptions, TrainerOptions

CONF = schema.CONF


def content(file: str) -> dict[str, Any]:
    """What a file of conf/ says, without its defaults list and with interpolations as they are written."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / file))
    assert isinstance(values, dict)
    values.pop("defaults", None)
    return values


def composed(command: str, *overrides: str) -> dict[str, Any]:
    """The tree that Hydra composes out of the files, without resolved interpolations."""
    schema.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose(command, list(overrides)))


def same(options: type, values: dict[str, Any], *aside: str) -> None:
    """Every field but those ``aside`` has its default in ``values``, of the same type, and nothing else is there."""
    names = {field.name for field in fields(options)}
    assert set(values) - set(aside) == names - set(aside)
    given = {key: value for key, value in values.items() if key not in aside}
    filled = OmegaConf.to_object(OmegaConf.merge(schema.tree(options), given))
    for name in names - set(aside):
        found, default = getattr(filled, name), getattr(options(), name)
        assert (name, found, type(found)) == (name, default, type(default))


@pytest.mark.parametrize(
    ("key", "options"), [("teacher", TeacherOptions), ("ufc", UFCOptions), ("student", StudentOptions)]
)
def test_trainings_have_the_defaults_of_the_common_recipe(key, options):
    recipe = content("recipe/common.yaml")
    assert set(recipe) == {"teacher", "ufc", "student"}
    same(options, recipe[key])


@pytest.mark.parametrize(
    ("options", "file", "aside"),
    [
        (BudgetOptions, "budget/infer.yaml", ["choices"]),
        (MixingOptions, "mixing/mixup.yaml", []),
        (TrainerOptions, "trainer/auto.yaml", ["nodes"]),  # the file leaves it to the class; see below
        (DatasetOptions, "dataset/image_folder.yaml", ["root", "data_dir"]),  # a folder to give, the environment's
        (TuneOptions, "tune/default.yaml", ["space"]),
        (StudentsOptions, "students/small.yaml", []),
        (TeachersOptions, "teachers/small.yaml", []),
        (SourceOptions, "source/real.yaml", ["path"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_have_the_defaults_of_the_default_file_of_their_group(options, file, aside):
    same(options, content(file), *aside)


def test_keys_that_a_default_file_leaves_out_have_the_default_of_the_class():
    tree = composed("distill")
    assert tree["trainer"]["nodes"] == TrainerOptions().nodes == 1
    assert composed("train")["source"]["path"] is SourceOptions().path is None


def test_labels_have_the_defaults_of_static_labels():
    same(LabelOptions, composed("distill", "labels=static")["labels"])


@pytest.mark.parametrize(
    ("key", "options"), [("report", ReportOptions), ("distill", MicroBatchOptions), ("search", SearchOptions)]
)
def test_groups_of_distill_have_the_defaults_of_its_file(key, options):
    same(options, content("distill.yaml")[key])


def test_plain_keys_of_the_commands_have_the_defaults_of_their_files():
    plain = ("ipc", "seed", "output")
    base, of_distill, distill = content("base.yaml"), content("distill.yaml"), DistillOptions()
    assert [base[key] for key in plain] == [getattr(BaseOptions(), key) for key in plain]
    assert [of_distill[key] for key in ("dry_run", "published")] == [distill.dry_run, distill.published]
    assert of_distill["time"] is distill.time is None
    assert of_distill["update"] is distill.update is None
    assert set(of_distill) == {"time", "update", "dry_run", "published", "search", "report", "distill"}
    assert composed("distill")["tune"] is distill.tune is None
    assert set(composed("distill")) == {field.name for field in fields(DistillOptions)}
    assert set(composed("train")) == {field.name for field in fields(TrainOptions)}


def test_the_method_has_the_defaults_of_infer():
    method = composed("distill", "method=infer")["method"]
    same(MethodOptions, method, "compensators")  # None in the class: what METHODS says of the method
    assert MethodOptions().has_compensators == method["compensators"]


def test_the_default_groups_of_the_commands_are_those_of_the_classes():
    """The files that a command composes unasked: budget=infer, mixing=mixup, labels=static, trainer=auto."""
    tree = composed("distill")
    for name in ("budget", "mixing", "labels", "trainer", "report", "distill", "search"):
        given = {name: tree[name], "dataset": tree["dataset"]}  # the class leaves dataset.root to conf/
        found = OmegaConf.to_object(OmegaConf.merge(schema.tree(DistillOptions), given))
        assert getattr(found, name) == getattr(DistillOptions(), name)


NAMED = sorted(path.stem for path in (CONF / "backbone").glob("*.yaml") if path.stem != "timm")


def test_the_networks_known_by_name_are_those_of_conf():
    assert sorted(NETWORKS) == NAMED


@pytest.mark.parametrize("name", NAMED)
def test_a_network_known_by_name_is_that_of_conf(name):
    values = content(f"backbone/{name}.yaml")
    assert BackboneOptions(**values) == NETWORKS[name] == backbone(name)
    assert values["name"] == name
    assert set(values) == {field.name for field in fields(BackboneOptions)}
