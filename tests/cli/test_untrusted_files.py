"""YAML files of a user's folder set options of INFER: they run nothing, read nothing and write nowhere else."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from infer.cli import schema
from infer.core.errors import UserError


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def written(folder: Path, name: str, content: str) -> Path:
    file = folder / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")
    return file


EVERYWHERE = "# @package _global_\n"


PROCESSES = [
    ("recipe", []),
    ("recipe", ["-m", "seed=0,1"]),
    ("recipe", ["--help"]),
    ("recipe", ["--cfg", "job"]),
    ("recipe", ["--info"]),
    ("experiment", []),
    ("sweep", []),
]


@pytest.mark.parametrize(("group", "words"), PROCESSES, ids=[" ".join([group, *words]) for group, words in PROCESSES])
def test_a_file_of_the_users_folder_runs_nothing(command, tmp_path, group, words):
    array, witness, copy = tmp_path / "p.npy", tmp_path / "unpickled", tmp_path / "copied"
    array.write_bytes(pickle.dumps(Payload(witness)))
    np.load(array, allow_pickle=True)
    assert witness.exists()
    witness.unlink()
    load = f"{{_target_: numpy.load, file: '{array}', allow_pickle: true}}"
    copying = f"{{_target_: shutil.copyfile, src: '{array}', dst: '{copy}'}}"
    content = EVERYWHERE + f"hydra: {{callbacks: {{x: {copying}, y: {load}}}}}"
    file = written(tmp_path, f"{group}/best", content)
    done = command("distill.py", *words, f"--config-dir={tmp_path}", f"{group}=best", f"output={tmp_path / 'out'}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {file}: hydra.callbacks.x")
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"p.npy", group}


def composed(folder: Path, command: str, *words: str):
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        return compose(command, [f"hydra.searchpath=[file://{folder}]", *words])


def refusal(folder: Path, name: str, content: str) -> str:
    """What is said of a file when it is chosen."""
    file = written(folder, name, content)
    group, _, option = name.rpartition("/")
    command = "train" if group in ("backbone", "source") else "distill"
    with pytest.raises(UserError) as caught:
        composed(folder, command, f"{group}={option}")
    said = str(caught.value)
    assert said.startswith(f"{file}: ")
    assert "\n" not in said
    return said.removeprefix(f"{file}: ")


OUTSIDE = [
    ("recipe/r", "hydra: {run: {dir: /tmp}}", "recipe.hydra.run.dir=/tmp: unknown"),
    ("recipe/r", EVERYWHERE + "output: /elsewhere", "output=/elsewhere: a file of recipe= sets recipe, teachers, "),
    ("recipe/r", EVERYWHERE + "dataset: {root: /etc}", "dataset.root=/etc: a file of recipe= sets recipe"),
    ("recipe/r", EVERYWHERE + "logger: {wandb: {mode: online}}", "logger.wandb.mode=online: a file of recipe= sets"),
    ("recipe/r", EVERYWHERE + "method: {name: sre2l}", "method.name=sre2l: a file of recipe= sets"),
    ("recipe/r", "# @package hydra.callbacks\nx: {_target_: os.system}", "hydra.callbacks.x._target_: a file sets"),
    ("recipe/r", "# @package hydra.job_logging\nlevel: 5", "hydra.job_logging.level=5: a file of recipe= sets"),
    ("recipe/r", "#@package _global_.hydra\nverbose: true", "hydra.verbose=true: a file of recipe= sets"),
    ("recipe/r", "teacher: {_target_: os.system}", "recipe.teacher._target_: a file sets options"),
    ("recipe/r", "teacher: {epochs: {_target_: os.getpid}}", "recipe.teacher.epochs._target_: a file sets options"),
    ("backbone/b", "name: b\nmodel: convnet\noptions: {norm: {_target_: os.getpid}}", "backbone.options.norm._target_"),
    ("backbone/b", "name: b\nmodel: convnet\noptions: {act: [{_args_: [1]}]}", "backbone.options.act._args_"),
    ("recipe/r", "teacher: {epochs: '${oc.env:HOME}'}", "recipe.teacher.epochs=${oc.env:HOME}: a file refers to"),
    ("recipe/r", "teacher: {epochs: '${oc.decode:${oc.env:A}}'}", "recipe.teacher.epochs=${oc.decode:"),
    ("recipe/r", "teacher: {optimizer: '${oc.create:x}'}", "recipe.teacher.optimizer=${oc.create:x}: a file refers"),
    (
        "recipe/r",
        "teacher: {optimizer: 'a${oc.${x}:HOME}'}",
        "recipe.teacher.optimizer=a${oc.${x}:HOME}: a file refers",
    ),
    ("recipe/r", "teacher: {optimizer: '${hydra:runtime.cwd}'}", "recipe.teacher.optimizer=${hydra:runtime.cwd}"),
    ("recipe/r", "teacher: {optimizer: '${hydra.runtime.cwd}'}", "recipe.teacher.optimizer=${hydra.runtime.cwd}"),
    ("dataset/d", "data_dir: '${oc.env:AWS_SECRET}'", "dataset.data_dir=${oc.env:AWS_SECRET}: a file refers"),
    ("logger/l", "wandb: {entity: '${oc.env:HOME}'}", "logger.wandb.entity=${oc.env:HOME}: a file refers"),
    ("tune/t", "space: {recipe: {ufc: {lr: ['${oc.env:HOME}']}}}", "tune.space.recipe.ufc.lr=${oc.env:HOME}: a file"),
    ("recipe/r", "'${oc.env:HOME}': 3", "recipe.${oc.env:HOME}: a file sets options"),
    ("recipe/r", "defaults: [cpu, override /hydra/job_logging: disabled]", "defaults: {'override /hydra/job_logging'"),
    ("recipe/r", "defaults: [{override /hydra/launcher: joblib}]", "defaults: {'override /hydra/launcher': 'joblib'}"),
    ("recipe/r", "defaults: [/hydra/env/default]", "defaults: /hydra/env/default: names more than files of "),
    ("recipe/r", "defaults: [cpu@hydra.callbacks]", "defaults: cpu@hydra.callbacks: names more than files of "),
    ("recipe/r", "defaults: [{/teachers@hydra.callbacks: small}]", "defaults: {'/teachers@hydra.callbacks'"),
    ("recipe/r", "defaults: [../../../etc/x]", "defaults: ../../../etc/x: names more than files of "),
    ("recipe/r", "defaults: [{/logger@_global_.logger: wandb}]", "defaults: {'/logger@_global_.logger': 'wandb'}"),
    ("recipe/r", "defaults: ['${oc.env:HOME}']", "defaults: ${oc.env:HOME}: names more than files of "),
    ("recipe/r", "defaults: 5", "defaults: 5: names more than files of "),
    ("experiment/e", EVERYWHERE + "hydra: {launcher: {_target_: x}}", "hydra.launcher._target_: a file sets options"),
    ("experiment/e", EVERYWHERE + "hydra: {sweep: {dir: /etc}}", "hydra.sweep.dir=/etc: a file sets options of INFER"),
    ("experiment/e", EVERYWHERE + "hydra: {job: {env_set: {A: b}}}", "hydra.job.env_set.A=b: a file sets options"),
    ("experiment/e", EVERYWHERE + "hydra: {searchpath: [/tmp]}", "hydra.searchpath=[/tmp]: a file sets options"),
    ("experiment/e", EVERYWHERE + "defaults: [{override /hydra/launcher: joblib}]", "defaults: {'override /hydra/laun"),
    ("experiment/e", EVERYWHERE + "nothing: 3", "nothing=3: unknown; choose one of "),
    ("experiment/e", "ipc: 3", "sets options of every group; begin the file"),
    ("sweep/s", EVERYWHERE + "hydra: {sweeper: {params: {hydra.verbose: '1,2'}}}", "hydra.verbose=1,2: unknown"),
    ("sweep/s", EVERYWHERE + "hydra: {sweeper: {params: {+hydra.x: '1'}}}", "+hydra.x=1: unknown"),
    ("sweep/s", EVERYWHERE + "hydra: {sweeper: {params: {ipc: '${oc.env:A}'}}}", "ipc=${oc.env:A}: a file refers to"),
    ("sweep/s", EVERYWHERE + "hydra: {sweeper: {_target_: os.system}}", "hydra.sweeper._target_: a file sets options"),
    ("sweep/s", EVERYWHERE + "hydra: {sweeper: {params: {ipc: [1, 2]}}}", "hydra.sweeper.params.ipc=[1,2]: give the"),
    ("trainer/t", EVERYWHERE + "ipc: 3", "ipc=3: a file of trainer= sets trainer; give ipc in the command"),
]


@pytest.mark.parametrize(("name", "content", "says"), OUTSIDE, ids=[f"{name}: {text}" for name, text, _ in OUTSIDE])
def test_what_is_no_option_is_refused(tmp_path, name, content, says):
    assert refusal(tmp_path, name, content).startswith(says)


MISTAKEN = [
    ("recipe/r", "teacher: {epochs: ten}", "recipe.teacher.epochs=ten: must be a whole number between 0 and 100000"),
    ("recipe/r", "teacher: {epochs: 1e3}", "recipe.teacher.epochs=1000.0: must be a whole number between 0 and 100000"),
    ("recipe/r", "teacher: {epochs: null}", "recipe.teacher.epochs=null: must be a whole number"),
    ("recipe/r", "teacher: 5", "recipe.teacher=5: must be a value of TeacherOptions"),
    ("recipe/r", "teacher: {epochs: {a: 1}}", "recipe.teacher.epochs.a=1: unknown"),
    ("recipe/r", "student: {stpes: 4}", "recipe.student.stpes=4: unknown; did you mean recipe.student.steps"),
    ("dataset/d", "name: 2024_01", "dataset.name=202401: must be text; quote it"),
    ("students/s", "backbones: resnet18", "students.backbones=resnet18: must be a list of texts, such as [a,b]"),
    ("recipe/r", "- a\n- b", "must hold keys with values"),
    ("recipe/r", "teacher: [", "while parsing a flow node"),
    ("recipe/r", "teacher: {epochs: 1}\nteacher: {epochs: 2}", "while constructing a mapping"),
    ("recipe/r", "x: !!python/object/apply:os.system [id]", "could not determine a constructor for the tag"),
    ("recipe/r", "a: &a [1]\nteacher: *a", "*a: anchors are not followed"),
    ("recipe/r", "teacher: " + "[" * 5000, "has more than 30 levels"),
    ("recipe/r", "# " + "x" * 200_000, "takes more than 100,000 bytes"),
]


@pytest.mark.parametrize(("name", "content", "says"), MISTAKEN, ids=[text[:30] for _, text, _ in MISTAKEN])
def test_a_mistake_in_a_file_is_one_line_with_the_file(tmp_path, name, content, says):
    assert refusal(tmp_path, name, content).startswith(says)


def test_a_file_that_is_no_text_is_one_line(tmp_path):
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "r.yaml").write_bytes(b"\xff\xfe\x00teacher")
    with pytest.raises(UserError, match=r"r\.yaml: 'utf-8' codec can't decode byte 0xff"):
        composed(tmp_path, "distill", "recipe=r")


def test_a_file_beside_conf_is_untrusted_by_whatever_path_it_is_named(tmp_path):
    file = written(tmp_path, "x", "hydra: {callbacks: {x: {_target_: os.getpid}}}")
    up = "/".join([".."] * len(schema.CONF.parts))
    with pytest.raises(UserError, match=r"x\.yaml: group=.*: unknown"):
        composed(tmp_path, "distill", f"recipe={up}{file.with_suffix('')}")


def test_files_of_conf_may_be_copied_to_a_folder_of_ones_own(tmp_path):
    """But for the commands' own, every file of conf/ holds to the rules."""
    for file in sorted(schema.CONF.glob("*/*.yaml")):
        mine = f"{file.parent.name}/mine_{file.stem}"
        written(tmp_path, mine, file.read_text(encoding="utf-8"))
        group = file.parent.name
        command = "train" if group in ("backbone", "source") else "distill"
        if group == "dataset":
            written(tmp_path, f"recipe/mine_{file.stem}", "defaults: [cpu]\n")  # which it chooses
        words = [] if group not in ("teachers", "students") else ["recipe=own"]
        written(tmp_path, "recipe/own", f"defaults: [common, {{/{group}@_global_.{group}: mine_{file.stem}}}]\n")
        config = composed(tmp_path, command, *(words or [f"{group}=mine_{file.stem}"]))
        assert OmegaConf.select(config, "ipc") is not None


def test_a_recipe_sets_what_it_is_about(tmp_path):
    written(tmp_path, "recipe/mine", "defaults: [cpu, _self_]\nstudent: {lr: 0.5, steps: 7}\nufc: {steps: '${ipc}'}\n")
    recipe = schema.typed(composed(tmp_path, "distill", "recipe=mine", "ipc=4")).recipe
    assert (recipe.student.lr, recipe.student.steps, recipe.ufc.steps, recipe.teacher.epochs) == (0.5, 7, 4, 10)


def test_a_sweep_and_an_experiment_of_ones_own_are_taken(tmp_path):
    sweep = "hydra: {mode: MULTIRUN, sweeper: {params: {ipc: '1,2', recipe.student.lr: '0.1,0.2', method: random}}}"
    written(tmp_path, "sweep/mine", EVERYWHERE + sweep)
    written(tmp_path, "experiment/mine", EVERYWHERE + "defaults: [{override /method: rded}]\nipc: 7\noutput: ~/runs\n")
    config = composed(tmp_path, "distill", "sweep=mine", "experiment=mine")
    options = schema.typed(config)
    assert (options.ipc, options.method.name, options.output) == (7, "rded", str(Path.home() / "runs"))
