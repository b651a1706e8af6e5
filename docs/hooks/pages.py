"""Pages that the build of the site creates: the configuration, from conf/ and the option classes; pages of the root."""

import html
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from infer.cli import reference
from infer.cli.keys import groups

_INTRODUCTION = """# Configuration

This page is made from `conf/` and the option classes. A group takes the name of one of its options (`recipe=cpu`), a
key takes a value (`recipe.student.lr=0.01`). Defaults are those of the plain command, which distils the digits. A value
`???` must be given. `--help` shows the same, with the defaults of the words that you give it.

- Several values, such as `seed=0,1,2`, need `-m`: [Sweeps and studies](sweeps.md).
- Options of your own in YAML files: [Commands](commands.md#your-own-settings).
"""

_OF_THE_ROOT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the created pages."""
    files.append(File.generated(config, "configuration.md", content=configuration()))
    root = Path(config.config_file_path).parent
    for name, page in _OF_THE_ROOT.items():
        files.append(File.generated(config, page, content=of_the_site((root / name).read_text(encoding="utf-8"))))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Turn the links of a page to files of the repository's root into links to their pages."""
    for name, page in _OF_THE_ROOT.items():
        markdown = markdown.replace(f"](../{name}", f"]({page}")
    return markdown


def of_the_site(text: str) -> str:
    """Return a page of the repository's root: links to pages stay, those to its other files become text."""
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#|docs/)[^)]+\)", r"\1", text).replace("](docs/", "](")


def configuration() -> str:
    """Return the page of all groups and keys, as Markdown."""
    commands = {name: reference.rows(name) for name in ("distill", "train")}
    keys = {name: {row.key for row in rows} for name, rows in commands.items()}
    shared = keys["distill"] & keys["train"]
    sections = {
        "Both commands": [row for row in commands["distill"] if row.key in shared],
        "distill.py alone": [row for row in commands["distill"] if row.key not in shared],
        "train.py alone": [row for row in commands["train"] if row.key not in shared],
    }
    chosen = {"distill.py alone": ("experiment", "sweep")}  # groups that set keys of other groups
    meanings = {**reference.meanings("train"), **reference.meanings("distill")}
    text = [_INTRODUCTION]
    for title, rows in sections.items():
        text.append(f"\n## {title}\n")
        for group in dict.fromkeys([*(row.group for row in rows), *chosen.get(title, ())]):
            text.append(f"\n### {group}\n\n{_sentence(meanings.get(group, ''))}\n")
            text += _options(group, rows)
            text += _keys([row for row in rows if row.group == group])
    return "\n".join(text)


def _options(group: str, rows: list[reference.Row]) -> Iterator[str]:
    """Yield the table of the options of a group, with what each changes against the defaults."""
    if group not in groups():
        return
    defaults = {row.key: row.default for row in rows}
    yield f"| `{group}=` | meaning | sets |\n|---|---|---|"
    for option in reference.options(group):
        changed = [
            f"`{_code(key.removeprefix(f'{group}.') + '=' + value)}`"
            for key, value in option.values.items()
            if value != defaults.get(key) and "${" not in value
        ]
        yield f"| `{option.name}` | {_cell(option.meaning)} | {' '.join(changed)} |"
    yield ""


def _keys(rows: list[reference.Row]) -> Iterator[str]:
    """Yield the table of keys."""
    if not rows:
        return
    yield "| key | type | choices | default | meaning |\n|---|---|---|---|---|"
    for row in rows:
        needs = f" (with `{row.needs}`)" if row.needs else ""
        default = f"`{_code(row.default)}`" if row.default else ""
        choices = _cell(row.choices.replace(" | ", ", "))
        yield f"| `{row.key}` | {_cell(row.type)} | {choices} | {default} | {_cell(row.meaning)}{needs} |"
    yield ""


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{_cell(text[1:]).removesuffix('.')}." if text else ""


def _code(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")


def _cell(text: str) -> str:
    """Escape what Markdown and HTML would take for markup."""
    return re.sub(r"[|*_`\[\]\\]", lambda found: f"&#{ord(found[0])};", html.escape(text, quote=False))
