"""The pages as the tests read them: their code blocks, their headings, their links.

What is to be done with a block stands behind its language:

    sh              run, one after the other, in one shell a page
    sh server       run in a terminal of its own, until the next one or the page's end
    sh real         as the two above, with a real agent server: `pytest -m real tests/docs`
    sh elsewhere    needs an index, a cluster or an image builder: read by the shell, not run
    python          run where it stands, by the same shell
    yaml            settings: read by `deferred-init-proxy check`
    text            behind a block that is run: what that prints; `…` stands for anything
    mermaid         shown
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.harness import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS: Final[dict[str, set[frozenset[str]]]] = {
    "sh": {
        frozenset(),
        frozenset({"server"}),
        frozenset({"real"}),
        frozenset({"server", "real"}),
        frozenset({"elsewhere"}),
    },
    "python": {frozenset()},
    "yaml": {frozenset()},
    "text": {frozenset()},
    "mermaid": {frozenset()},
}
_FENCE: Final = re.compile(r"^( *)```(\w*)(.*?)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_HEADING: Final = re.compile(r"^#{1,6} +(.*?) *$", re.MULTILINE)
_LINK: Final = re.compile(r"!?\[[^\]\[]*(?:\[[^\]]*\][^\]\[]*)*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block; `printed` is the text that follows it at once, if any does."""

    page: Path
    line: int
    language: str
    words: frozenset[str]
    text: str
    printed: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every Markdown file of the repository."""
    found = [*ROOT.glob("*.md")]
    for directory in ("docs", "deploy", "benchmarks"):
        found += (ROOT / directory).rglob("*.md")
    return sorted(found)


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found: list[Block] = []
    end = 0
    for match in _FENCE.finditer(text):
        indent, language, words, body = match.groups()
        body = "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))
        line = text.count("\n", 0, match.start()) + 1
        if language == "text" and found and not text[end : match.start()].strip():
            before = found.pop()
            found.append(
                Block(before.page, before.line, before.language, before.words, before.text, body)
            )
        else:
            found.append(Block(page, line, language, frozenset(words.split()), body))
        end = match.end()
    return found


def every(language: str) -> list[Block]:
    return [block for page in pages() for block in blocks(page) if block.language == language]


def anchors(page: Path) -> set[str]:
    """What `#…` may be in a link to the page, as GitHub makes it of headings."""
    found: dict[str, int] = {}
    for heading in _HEADING.findall(_FENCE.sub("", page.read_text())):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {slug + (f"-{n}" if n else "") for slug, last in found.items() for n in range(last + 1)}


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text()))
    yield from _LINK.findall(text)
