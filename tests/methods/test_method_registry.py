"""The registry of methods: its options and presets are those of conf/, and its checks name what is wrong."""

from dataclasses import asdict

import pytest
import yaml
from conftest import ROOT

from infer.core.errors import UserError
from infer.methods.options import METHODS, method_options

CONF = ROOT / "conf"


def composed(group: str, name: str) -> dict:
    """conf/<group>/<name>.yaml with the files of its group that its defaults list names."""
    values: dict = {}
    content = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    parents = content.pop("defaults", ["_self_"])
    for parent in parents:
        values |= content if parent == "_self_" else composed(group, parent)
    return values


def written(name: str) -> tuple[dict, dict]:
    """The content of conf/method/<name>.yaml, and the part of it that describes the method."""
    content = yaml.safe_load((CONF / "method" / f"{name}.yaml").read_text())
    return content, content.get("method", content)


def preset(content: dict, group: str) -> dict:
    """A group as the file of a method composes it."""
    chosen = [
        default[f"override /{group}"] for default in content.get("defaults", []) if f"override /{group}" in default
    ]
    return composed(group, chosen[0]) | content[group]


def test_every_method_has_a_file_in_conf():
    assert set(METHODS) == {path.stem for path in (CONF / "method").glob("*.yaml")}


@pytest.mark.parametrize("name", METHODS)
def test_options_are_those_of_conf(name):
    _, method = written(name)
    assert method["name"] == name
    assert method["compensators"] == METHODS[name].compensators
    defaults = asdict(METHODS[name].options())
    assert list(method["options"].items()) == list(defaults.items())
    assert [type(value) for value in method["options"].values()] == [type(value) for value in defaults.values()]
    assert method_options(name, method["options"]) == METHODS[name].options()


@pytest.mark.parametrize("name", METHODS)
def test_presets_are_those_of_conf(name):
    """A preset names the values that differ from the defaults, which are budget=infer and labels=static."""
    content, _ = written(name)
    for group, default in (("budget", "infer"), ("labels", "static")):
        own = getattr(METHODS[name], group)
        if group not in content:
            assert own == {}
            continue
        base, wanted = composed(group, default), preset(content, group)
        assert own == {key: value for key, value in wanted.items() if value != base[key]}


def test_only_infer_plus_uses_a_proxy_model_and_only_to_leave_images_out():
    using = {name for name, method in METHODS.items() if method.uses_proxy(method.options())}
    assert using == {"infer_plus"}
    assert not METHODS["infer_plus"].uses_proxy(method_options("infer_plus", {"easiest": 0}))


def test_a_whole_number_is_taken_for_a_fraction():
    options = method_options("sre2l", {"lr": 1})
    assert (options.lr, type(options.lr)) == (1.0, float)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("rdedd", {}, "method=rdedd: unknown; did you mean rded?"),
        ("rded", {"x": 1}, "method.options.x=1: no option of method=rded; it has candidates, crops, least, factor"),
        ("random", {"easiest": 0.5}, "method.options.easiest=0.5: no option of method=random; it has none"),
        ("rded", {"least": "half"}, "method.options.least=half: must be a number"),
        ("rded", {"crops": [5]}, "method.options.crops=[5]: must be a whole number"),
        (5, {}, "method=5: unknown; "),
        (["rded"], {}, "method=[rded]: unknown; "),
        ("rded", {1: 2}, "method.options.1=2: no option of method=rded; "),
        ("rded", [1], "method.options=[1]: must be options by name"),
        ("rded", None, "method.options=null: must be options by name"),
        ("rded", {"least": None}, "method.options.least=null: must be a number"),
        ("rded", {"crops": True}, "method.options.crops=true: must be a whole number"),
        ("rded", {"factor": 0}, "method.options.factor=0: must lie between 1 and 16"),
        ("rded", {"factor": 17}, "method.options.factor=17: must lie between 1 and 16"),
        ("rded", {"factor": 1.5}, "method.options.factor=1.5: must be a whole number"),
        ("rded", {"crops": -3}, "method.options.crops=-3: must lie between 1 and"),
        ("rded", {"candidates": 0}, "method.options.candidates=0: must lie between 1 and"),
        ("rded", {"least": 1.01}, "method.options.least=1.01: must lie between 0.01 and 1"),
        ("sre2l", {"lr": float("nan")}, "method.options.lr=nan: must be a number"),
        ("sre2l", {"lr": 0.0}, "method.options.lr=0.0: must lie between 1e-09 and 100"),
        ("sre2l", {"steps": 0}, "method.options.steps=0: must lie between 1 and"),
        ("sre2l", {"batch": 0}, "method.options.batch=0: must lie between 1 and"),
        ("sre2l", {"jitter": 1025}, "method.options.jitter=1025: must lie between 0 and 1024"),
        ("infer_plus", {"easiest": 1.5}, "method.options.easiest=1.5: must lie between 0 and 1"),
    ],
)
def test_wrong_options_are_one_line(name, values, message):
    with pytest.raises(UserError) as caught:
        method_options(name, values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


WRONG = ["1", "", None, True, [], [1], {}, float("nan"), float("inf"), -float("inf"), -1, 1e308, 10**400, -(10**400)]
"""Values that no option of any method takes."""


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name in METHODS for option in asdict(METHODS[name].options())]
)
@pytest.mark.parametrize("value", WRONG, ids=lambda value: f"{type(value).__name__} {str(value)[:6]}")
def test_every_option_of_every_method_has_a_type_and_a_range(name, option, value):
    with pytest.raises(UserError) as caught:
        method_options(name, {option: value})
    assert str(caught.value).startswith(f"method.options.{option}=")
    assert "\n" not in str(caught.value)


def test_crops_need_a_pixel_each():
    method_options("rded", {"factor": 8}).check_images(8)
    with pytest.raises(UserError, match=r"^method.options.factor=9: images of 8 x 8 .*; choose 8 or less$"):
        method_options("rded", {"factor": 9}).check_images(8)


def test_the_methods_that_create_images_are_told_from_those_that_select_them():
    assert {name for name, method in METHODS.items() if method.creates} == {"sre2l", "rded"}
