"""Markup of pages and docstrings: equations become MathML, which browsers draw by themselves.

Examples of docstrings become code blocks, and their roles, such as ``:func:``, become links.
"""

import re

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority

_BLOCKS = (
    re.compile(r"^```math\n(.+?)\n```$", re.M | re.S),
    re.compile(r"^\.\. math::[ ]*((?:.*\n?)(?:[ ]{4}.*(?:\n|\Z))*)", re.M),
)
_INLINE = re.compile(r":math:`([^`]+)`")
_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.M)
_ROLE = re.compile(r":(?:func|class|meth|attr|mod|data):`~?([^`]+)`")


class Blocks(Preprocessor):
    """Replace equations in LaTeX by MathML and fence examples, before code blocks are read."""

    def run(self, lines: list[str]) -> list[str]:
        """Return the lines with placeholders for the equations."""
        text = _EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", "\n".join(lines))
        for pattern in _BLOCKS:
            text = pattern.sub(lambda found: f"\n\n{self._stored(found[1], 'block')}\n\n", text)
        return _INLINE.sub(lambda found: self._stored(found[1], "inline"), text).split("\n")

    def _stored(self, latex: str, display: str) -> str:
        return self.md.htmlStash.store(convert(" ".join(latex.split()), display=display))


class Roles(Preprocessor):
    """Replace the roles of docstrings by code, with a link where the Python API has the name."""

    def run(self, lines: list[str]) -> list[str]:
        """Return the lines with links."""
        return _ROLE.sub(lambda found: _link(found[1]), "\n".join(lines)).split("\n")


def _link(name: str) -> str:
    """Return a link to a public name; mkdocs-autorefs leaves the text where a page does not have the name."""
    target = f"infer.{name.removeprefix('infer.')}"
    return f'<autoref identifier="{target}" optional><code>{name}</code></autoref>'


class Markup(Extension):
    """The replacements as an extension of Markdown."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 -- the name that Markdown calls
        """Register before and after the preprocessor of code blocks, which has the priority 25."""
        md.preprocessors.register(Blocks(md), "equations_and_examples", 28)
        md.preprocessors.register(Roles(md), "roles", 24)


@event_priority(100)
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the extension for pages and, because plugins read the list later, for docstrings."""
    config.markdown_extensions.append(Markup())
    return config
