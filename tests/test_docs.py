"""The documentation: its commands and programs work, its pages are short, and its site is whole without a network."""

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from conftest import ROOT

import infer
from infer.cli import predict, schema
from infer.cli.keys import OPTIONS
from infer.cli.reference import rows
from infer.cli.words import arranged

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LONGEST = 250
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.M | re.S)
OFFLINE = """
import socket, sys
def refused(*_):
    raise AssertionError("the build of the site needs a network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refused
from mkdocs.__main__ import cli
cli(sys.argv[1:])
"""


def name_of(page: Path) -> str:
    return str(page.relative_to(DOCS))


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a language; those in folds are indented."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [re.sub(rf"^{indent}", "", text, flags=re.M) for indent, kind, text in found if kind == language]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_is_short(page):
    assert len(page.read_text(encoding="utf-8").splitlines()) <= LONGEST


def commands() -> list[str]:
    """Every command: the lines of shell blocks, and code in a sentence that begins as one of our commands does."""
    found = [line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()]
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        found += [" ".join(code.split()) for code in re.findall(r"`((?:python|make) [^`]+)`", text)]
    return sorted({line.strip() for line in found if line.strip()})


def values(word: str) -> list[str]:
    """The words of a sweep over one key; commas in brackets belong to a value."""
    key, _, text = word.partition("=")
    return [f"{key}={value}" for value in re.split(r",(?![^\[]*\])", text)]


def with_own_recipe(words: list[str]) -> None:
    """Write the recipe that --config-dir brings: the user's, or a study's."""
    if "--config-dir" in words:
        folder = Path(words[words.index("--config-dir") + 1]) / "recipe"
        chosen = next(word.partition("=")[2] for word in words if word.startswith("recipe="))
        folder.mkdir(parents=True)
        (folder / f"{chosen}.yaml").write_text("defaults: [cpu, _self_]\nstudent: {lr: 2.0e-3}\n")


def composed(script: str, words: list[str]) -> None:
    """Compose and check a command as it would run; a sweep in its first and its last job."""
    name = script.removesuffix(".py")
    with_own_recipe(words)
    told = arranged(name, words)
    flags, given = ([word for word in told if word.startswith("-") == flag] for flag in (True, False))
    own = [flag for flag in flags if flag.startswith("--config-dir=")]
    if "--help" in flags:
        return
    swept = "-m" in flags or any(flag.startswith("--multirun") for flag in flags)
    jobs = list(itertools.product(*map(values, given))) if swept else [given]
    for job in {tuple(jobs[0]), tuple(jobs[-1])}:
        options = schema.typed(schema.composed(name, [*own, *job]))
        assert isinstance(options, OPTIONS[name])
        assert not own or options.recipe.student.lr == 2.0e-3


def has_script(script: str, words: list[str]) -> None:
    """A script of the repository is there, and it or what it shares with its neighbours has the flags."""
    assert (ROOT / script).is_file()
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / script).parent.glob("*.py"))
    for word in words:
        assert not word.startswith("--") or f'"{word}"' in text or word == "--help", f"{script} has no {word}"


def has_extras(words: list[str]) -> None:
    """What pip installs is declared."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        assert set(extra.split(",")) <= set(project["optional-dependencies"])
    for flag, value in itertools.pairwise(words):
        assert flag != "--constraint" or (ROOT / value).is_file()


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_documentation_works(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line, comments=True)
    assert "<" not in "".join(words), "a placeholder in angle brackets is a redirection to a shell"
    if words[0] == "torchrun":
        words = ["python", *words[next(index for index, word in enumerate(words) if word.endswith(".py")) :]]
    program, *rest = words
    if program.endswith("python") and rest[0] in ("distill.py", "train.py"):
        composed(rest[0], rest[1:])
    elif program.endswith("python") and rest[0].endswith(".py"):
        has_script(rest[0], rest[1:])
    elif program == "pip" or rest[:2] == ["-m", "pip"]:
        has_extras(rest)
    elif rest[0] == "-m":
        assert find_spec(rest[1]), f"no module {rest[1]}"
    elif program == "infer-predict":
        predict._parser().parse_args(rest)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert next(word for word in rest if "=" not in word) in targets
    else:
        assert line.startswith(("source .venv/", "wandb sync ", "tensorboard --logdir "))


QUICK = {
    '"resnet18"': '"convnet_narrow"',
    '"mobilenetv2_100"': '"convnet_deep"',
    "steps=2000": "steps=2",
    "epochs=20": "epochs=1",
    "image_size=64": "image_size=16",
    "ipc=10": "ipc=4",
    '"infer_plus"': '"random"',
}
"""Words of a program that a test replaces, so that it takes seconds."""


@pytest.fixture(scope="module")
def prepared(pictures, tmp_path_factory):
    """A folder with what the programs of the pages read: pictures and a distilled file of them."""
    folder = tmp_path_factory.mktemp("programs")
    shutil.copytree(pictures, folder / "parts")
    data = infer.read_folder(folder / "parts", image_size=16)
    teachers = infer.train_teachers(data, ["convnet_narrow"], epochs=1)
    infer.distill(data, teachers, ipc=4, method="random").save(folder / "small.safetensors")
    return folder


PROGRAMS = [
    pytest.param(text, id=f"{name_of(page)}-{number}")
    for page in PAGES
    for number, text in enumerate(blocks(page, "python"), 1)
]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("text", PROGRAMS)
def test_a_program_of_the_documentation_runs(text, prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for word, quick in QUICK.items():
        text = text.replace(word, quick)
    exec(compile(text, "page", "exec"), {"__name__": "__main__"})


class Page(HTMLParser):
    """The ids of a page of the site, what it links to, and what it loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        content = {key: value or "" for key, value in attrs}
        self.tags.add(tag)
        self.ids |= {content[key] for key in ("id", "name") if key in content}
        if tag == "a" and "href" in content:
            self.links.append(content["href"])
        elif tag in ("script", "img", "iframe", "source", "video") and "src" in content:
            self.loads.append(content["src"])
        elif tag == "link" and "href" in content and content.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(content["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site as `make docs` builds it, by a process that cannot open a connection."""
    pytest.importorskip("mkdocs", reason="the extra [docs] is not installed")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-c", OFFLINE, "build", "--strict", "--site-dir", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=quiet)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def built(site) -> dict[Path, Page]:
    return {file: Page(file) for file in sorted(site.rglob("*.html"))}


def test_every_page_is_built(site):
    names = {name_of(page).replace("README", "index").removesuffix(".md") for page in PAGES}
    for name in names | {"configuration", "contributing", "changes"}:
        assert (site / f"{name}.html").is_file(), name


def test_no_link_within_the_site_is_dead(built):
    dead = []
    for file, page in built.items():
        for address in [*page.links, *page.loads]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or file.name == "404.html":
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in built and anchor not in built[target].ids):
                dead.append(f"{file.name}: {address}")
    assert not dead, dead


def test_a_page_loads_nothing_from_elsewhere(built, site):
    outside = [f"{file.name}: {each}" for file, page in built.items() for each in page.loads if urlsplit(each).netloc]
    assert not outside, outside
    for style in site.rglob("*.css"):
        addresses = re.findall(r"url\(([^)]*)\)|@import ([^;]*);", style.read_text(encoding="utf-8"))
        assert not [each for pair in addresses for each in pair if "//" in each.partition("data:")[0]], style


def test_no_text_in_angle_brackets_became_a_tag(built):
    tags = {name: page.tags & {"class", "name", "group", "dataset", "folder"} for name, page in built.items()}
    assert not any(tags.values()), tags


def test_the_configuration_has_every_key(site):
    text = (site / "configuration.html").read_text(encoding="utf-8")
    keys = {row.key for name in OPTIONS for row in rows(name)}
    assert {"recipe.student.lr", "dataset.root", "source.path"} <= keys
    assert not [key for key in sorted(keys) if f"<code>{key}</code>" not in text]


def test_the_python_api_has_every_public_name(built, site):
    ids = built[site / "api.html"].ids
    assert not [name for name in infer.__all__ if f"infer.{name}" not in ids and name != "__version__"]


def test_equations_and_roles_are_drawn(site):
    equations = blocks(DOCS / "method.md", "math")
    assert equations
    assert (site / "method.html").read_text(encoding="utf-8").count("<math") == len(equations)
    for page in ("method", "api"):
        text = re.sub(r"<code.*?</code>", "", (site / f"{page}.html").read_text(encoding="utf-8"), flags=re.S)
        assert not re.search(r":(?:math|func|class|meth|attr):|\.\. math|\\frac|\\mathrm", text)


def test_the_code_map_names_every_room():
    rooms = {path.parent.name for path in (ROOT / "infer").glob("*/__init__.py")} - {"conf"}
    assert set(re.findall(r"^\| `(\w+)/` \|", (DOCS / "code-map.md").read_text().split("rooms of")[1], re.M)) == rooms
