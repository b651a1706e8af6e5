"""A user's mistake is one line, and leaves no file behind."""

import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import infer


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["dataset=foo"], "dataset=foo: unknown; choose one of cifar10, cifar100, digits"),
        (["labels=foo"], "labels=foo: unknown; choose one of dynamic, hard, static"),
        (["typo=3"], "typo=3: unknown; choose one of budget, dataset, distill, dry_run, experiment, ipc"),
        (["recipe.student.stpes=4"], "recipe.student.stpes=4: unknown; did you mean recipe.student.steps? "),
        (["method=infer_plus", "method.options.easiest=2"], "method.options.easiest=2: must lie between 0 and 1"),
        (["method=rded", "method.options.crops=few"], "method.options.crops=few: must be a whole number"),
        (["method=rded", "method.options.crop=3"], "method.options.crop=3: unknown; did you mean method.options.crops"),
        (
            ["method=infer_plus", "method.options.easiest.x=1"],
            "method.options.easiest.x=1: unknown; did you mean easiest? choose one of easiest",
        ),
        (
            ["recipe={ufc.steps: 1}"],
            "recipe={ufc.steps: 1}: a key in braces has no dots (ufc.steps); give recipe.ufc.st",
        ),
        (
            ["tune=default", "tune.space={recipe.ufc.steps: [0]}"],
            "tune.space={recipe.ufc.steps: [0]}: a key in braces has no dots (recipe.ufc.steps)",
        ),
        (["students.backbones.x=1"], "students.backbones.x: students.backbones is a list; give"),
        (["tune.trials=5"], "tune.trials=5: no study is asked for; add tune=default"),
        (["method.options.easiest=0.2"], "method.options.easiest=0.2: unknown; there is none to choose"),
        (
            ["method=random", "+method.options.easiest=0.2"],
            "method.options.easiest=0.2: no option of method=random; it has none",
        ),
        (
            ["students.sources=[random_static]"],
            "students.sources=[random_static]: no row of its own with labels=static",
        ),
        (["budget.choices.budget.quality=[400]"], "budget.quality=400: must lie between 0 and 100"),
        (
            ["labels=views", "budget.choices.mixing.alpha=[0.2,0.8]"],
            "budget.choices.mixing.alpha=[0.2,0.8]: changes nothing with labels=views",
        ),
        (["budget.choices.labels.share=[]"], "budget.choices.labels.share=[]: give one value or more"),
        (
            ["budget.choices.budget.by=[images]"],
            "budget.choices.budget.by=[images]: unknown; choose one of budget.choices.budget.codec",
        ),
        (["ipc=ten"], "ipc=ten: must be a whole number between 1 and 1000000"),
        (["seed=10**30"], "seed=10**30: must be a whole number between 0 and 2147483648"),
        (["seed=1000000000000000000000000000000"], "seed=1000000000000000000000000000000: must lie between 0 and"),
        (["seed=-1"], "seed=-1: must lie between 0 and"),
        (["ipc==3"], "ipc==3: must be a whole number"),
        (["budget.fill=maybe"], "budget.fill=maybe: must be true or false"),
        (["dataset.mean=0.5"], "dataset.mean=0.5: is a list; give dataset.mean=[0.5]"),
        (["dataset.mean=[a]"], "dataset.mean=[a]: must be a list of numbers between 0 and 1, such as [0.1,0.2]"),
        (["recipe.student=5"], "recipe.student=5: has keys of its own; give recipe.student.batch=<value>"),
        (["labels={knd: hard}"], "labels.knd=hard: unknown; did you mean labels.kind"),
        (["dataset=5"], "dataset=5: unknown; choose one of cifar10"),
        (["~ipc"], "~ipc: an option always has a value"),
        (["--ipc=10"], "--ipc=10: no such flag"),
        (["ipc", "10"], "ipc 10: write ipc=10"),
        (["dataset=image_folder", "dataset.root=/nowhere(1)"], "dataset.root=/nowhere(1): no such folder"),
        (["dataset=image_folder", "dataset.root=~/nowhere"], f"dataset.root={Path.home()}/nowhere: no such folder"),
        (["hydra.foo=3"], "hydra.foo: Hydra has no such key"),
        (["--config-name=nope"], "--config-name=nope: no such file in conf/"),
        (["ipc=${nope}"], "Interpolation key 'nope' not found"),
        (["ipc=0"], "ipc=0: must lie between 1 and"),
        (["+foo=1"], "foo=1: unknown; choose one of budget"),
        (["+recipe.student.step=5"], "recipe.student.step=5: unknown; did you mean recipe.student.steps"),
        (["dataset=image_folder"], "dataset.root: has no value; give dataset.root=<value>"),
        (["mixing.kind=mixip"], "mixing.kind=mixip: unknown; did you mean mixup? choose"),
        (["recipe.student.steps=5", "recipe.student.epochs=5"], "give one of them"),
        (["ipc=["], "ipc=[: must be a whole number"),
        (["teachers.backbones=[]"], "give one or more backbones"),
        (["dataset.name=a/b"], "dataset.name=a/b: "),
        (["dataset.name='UserError: x/y'"], "dataset.name=UserError: x/y: has : in it"),
        (["published.x=5"], "published.x=5: published has no such entry yet; add it with +published.x=5"),
        (["experiment=cifar10-ipc10", "published.x=5"], "add it with +published.x=5"),
        (["--config-dir=~nobody.here/x"], "--config-dir=~nobody.here/x: no such folder"),
        (["+published.x=nan"], "published.x=nan: must be a number between 0 and 100"),
        (["+published.x=101"], "published.x=101.0: must lie between 0 and 100"),
        (["students.backbones=[]"], "students.backbones=[]: give one or more"),
        (["recipe.ufc.lr=-1"], "recipe.ufc.lr=-1.0: must lie between"),
        (["dataset=image_folder", "dataset.root=null"], "dataset.root=null: give the folder"),
        (["logger=[wandb,typo]"], "logger=typo: unknown; choose one of csv, tensorboard, wandb"),
        (["trainer.strategy=fsdp"], "trainer.strategy=fsdp: unknown; choose one of auto, ddp, ddp_spawn"),
    ],
)
def test_a_mistake_in_the_command_is_one_line_and_creates_nothing(command, tmp_path, overrides, says):
    done = command("distill.py", f"output={tmp_path / 'out'}", *overrides)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert not (tmp_path / "out").exists()


def test_a_streamed_picture_that_cannot_be_read_is_one_line(command, pictures, tmp_path):
    """A worker reads it in the middle of a teacher's training."""
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    victim = root / "train" / "flat" / "0.png"
    victim.write_bytes(victim.read_bytes()[:50])
    words = [f"dataset.root={root}", "dataset=image_folder", "dataset.image_size=16", "dataset.stream=true"]
    words += ["dataset.mean=[0.5,0.5,0.5]", "dataset.std=[0.2,0.2,0.2]", "trainer=cpu", f"output={tmp_path / 'out'}"]
    done = command("train.py", *words)
    assert done.returncode == 2
    assert done.stderr == f"error: {victim}: cannot be read as a picture (truncated); mend it or take it away\n"


def test_a_mistake_found_later_is_one_line_too(command, tmp_path):
    done = command("train.py", f"output={tmp_path / 'out'}", "backbone=timm", "backbone.model=resnet81")
    assert done.returncode == 2
    assert done.stderr.startswith("error: backbone.model=resnet81: unknown; did you mean resnet18 or ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["ipc=1"], r"ipc=1: too small to split between 10 classes and 1 teachers; .* works is ipc=2"),
        (["teachers.backbones=[resnet81]"], "teachers.backbones=resnet81: unknown; did you mean resnet18 or"),
        (["students.backbones=[resnet81]"], r"students.backbones=resnet81: unknown; .* \(1\d\d\d in all\)"),
        (["teachers.backbones=[resnet50_gn]"], "has no BatchNorm"),
        (["students.backbones=[vit_tiny_patch16_224]"], "backbone=vit_tiny_patch16_224: does not take images of 1 x 8"),
        (["trainer.devices=2"], "trainer.devices=2: needs trainer.strategy=ddp_spawn"),
        (["trainer=gpu"], "trainer.accelerator=gpu: no GPU"),
        (["trainer=cluster"], "trainer.strategy=ddp: needs 2 processes .* there are none; on one machine trainer=ddp"),
        (["trainer=ddp", "trainer.nodes=2"], "trainer.nodes=2: needs trainer=cluster, started by torchrun"),
        (["dataset.channels=3"], "dataset.channels=3: the pictures of digits have 1"),
        (["output=/dev/null/out"], r"/dev/null/out.* cannot be (written|read|locked)"),
        (["dataset=image_folder", "dataset.root=/nowhere"], "dataset.root=/nowhere: no such folder"),
        (["ipc=200"], "ipc=200: asks for .* but there are 1,438 train pictures"),
    ],
)
def test_a_mistake_that_needs_the_data_or_the_machine_to_be_seen_is_one_line(run, tmp_path, overrides, says):
    if overrides == ["trainer=gpu"] and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(infer.UserError, match=says) as error:
        run("distill", *overrides)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_teacher_near_chance_is_refused(run):
    with pytest.raises(infer.UserError, match=r"teachers.backbones=convnet_narrow: its test accuracy .* near chance"):
        run("distill", "recipe.teacher.epochs=1", "recipe.teacher.lr=0.00001")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["backbone=timm"], "backbone.model: has no value; give backbone.model=<value>"),
        (["source=distilled"], "source.path: has no value; give source.path=<value>"),
        (["source.kind=distilled"], "source.path: has no value; give source.path=<a file of distill.py>"),
        (["source=distilled", "source.path=/nowhere"], "source.path=/nowhere: no such file; give one that distill.py"),
        (["backbone.name=../../../x"], "backbone.name=../../../x: has / in it"),
        (["backbone=resnet81"], "backbone=resnet81: unknown; did you mean resnet18? choose one of convnet, "),
        (["method=rded"], "method=rded: unknown"),
    ],
)
def test_a_mistake_in_the_command_that_trains_is_one_line(command, tmp_path, words, says):
    done = command("train.py", f"output={tmp_path / 'out'}", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {says}")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_data_are_not_read_for_an_unknown_network(command, pictures, tmp_path):
    """Ten names at most, the nearest first."""
    words = ["dataset=image_folder", f"dataset.root={pictures}", f"output={tmp_path}", "students.backbones=[resnet81]"]
    done = command("distill.py", *words)
    listed = done.stderr.partition("choose one of ")[2].split(", ")
    assert listed[:2] == ["resnet18", "resnet101"]
    assert len(listed) == 11  # with how many there are
    assert not done.stdout


def test_values_may_be_in_any_script(command, tmp_path):
    own = ["dataset=image_folder", f"output={tmp_path}"]
    done = command("distill.py", *own, f"dataset.root={tmp_path}/写真", "dataset.name=部品", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert f"root: {tmp_path}/写真" in done.stdout
    assert "name: 部品" in done.stdout
    done = command("distill.py", *own, f"dataset.root='{tmp_path}/写真 (é)'", "--cfg", "job")  # quoted by hand
    assert OmegaConf.create(done.stdout).dataset.root == f"{tmp_path}/写真 (é)"  # YAML folds a long line at its space
    done = command("distill.py", "-m", *own, f"dataset.root={tmp_path}/甲,{tmp_path}/乙")
    assert f"dataset.root={tmp_path}/乙: no such folder" in done.stderr
