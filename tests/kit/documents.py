"""The documents as tests read them: pages, fenced blocks, inline code, and the commands in both. Touches only files."""

from __future__ import annotations

import functools
import re
import shlex
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
PAGES = tuple(
    sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
)
PROGRAMS = ("pilot", "supervisor", "make", "honcho", "python", "python3", "pytest", ".venv/bin/python")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
PROMPT = "$ "


class Command(NamedTuple):
    """One command of a document. Prose that only names a command (`is_inline`) may leave out what it needs."""

    page: str
    text: str
    words: tuple[str, ...]
    is_inline: bool

    @property
    def program(self) -> str:
        return Path(self.words[0]).name


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@functools.cache
def blocks(page: Path) -> tuple[str, ...]:
    """Return the text of every fenced block."""
    return tuple(textwrap.dedent(found.group(2)) for found in FENCE.finditer(page.read_text(encoding="utf-8")))


@functools.cache
def spans(page: Path) -> tuple[str, ...]:
    """Return every piece of inline code outside of fenced blocks, its line breaks as blanks."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    found = (match.group(2) for paragraph in prose.split("\n\n") for match in INLINE.finditer(paragraph))
    return tuple(" ".join(one.replace("\\|", "|").split()) for one in found)


@functools.cache
def commands() -> tuple[Command, ...]:
    """Return every command of every page, once a page."""
    found: dict[tuple[str, str], Command] = {}
    for page in PAGES:
        lines = [(line, False) for block in blocks(page) for line in joined(block).splitlines()]
        for text, is_inline in [*lines, *((span, True) for span in spans(page))]:
            if words := _words(text, is_inline=is_inline):
                found.setdefault((name_of(page), shlex.join(words)), Command(name_of(page), text, words, is_inline))
    return tuple(found.values())


def joined(block: str) -> str:
    """Return a block with the lines made one that end in a backslash."""
    return re.sub(r"\\\n\s*", "", block)


def _words(text: str, *, is_inline: bool) -> tuple[str, ...]:
    """Return a command as its words, or nothing where a line is none. Two blanks or a ` # ` end it: prose follows."""
    text = text.removeprefix(PROMPT)
    if not re.match(rf"([A-Z_]+=\S+ )*({'|'.join(map(re.escape, PROGRAMS))})( |$)", text):
        return ()
    text = re.split(r"\s{2,}| # | > |\s*\|\s*(?=less|grep|head)", text)[0]
    text = re.sub(r"<([\w ]+)>", lambda found: found.group(1).replace(" ", "_").upper(), text)  # <intent>
    text = re.sub(r"\[|\](?=\s|$)", "", text) if " [" in text else text  # what may be left out
    if " | " in text:
        return ()  # no command: `supervisor | actors` are rooms
    words = [word for word in shlex.split(text) if word != "..." or not is_inline]
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        del words[0]
    if len(words) == 1 and is_inline and words[0] != "make":
        return ()  # the program's name, not a command
    return tuple(words)
