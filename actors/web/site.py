"""Templates and assets, read once at start: pages are filled in here, and every text from outside is escaped.

Library of the dashboard. Knows neither database nor store.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from actors.console import checks, text
from actors.web import words
from bus import clock
from config import dollars

HERE = Path(__file__).parent
KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
CELL_CHARS_MAX = 2_000
REPORT_CHARS_MAX = 40_000
LONG_TIME = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.\d+(?=[+-]|\Z)")


class Asset(NamedTuple):
    """One file of the page."""

    content: bytes
    kind: str


class Site:
    """Everything that is needed to fill in a page."""

    def __init__(self) -> None:
        self.assets = {
            path.name: Asset(path.read_bytes(), KINDS[path.suffix])
            for path in sorted((HERE / "assets").iterdir())
            if path.suffix in KINDS
        }
        self._env = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True, auto_reload=False,
        )  # fmt: skip
        self.version = self._digest()
        self._env.globals.update(version=self.version, words=words, signs=words.SIGNS)
        self._env.filters.update(
            ago=ago, money=words.money, signed=words.signed, line=line, figure=figure, checked=checked, report=report,
            tone=words.tone_of, dollars=dollars.text, clock=clock_time, day=day,
        )  # fmt: skip
        for template in self._env.list_templates():
            self._env.get_template(template)  # compiled before the first page is asked for

    def fill(self, template: str, **context: Any) -> str:
        """Return a template filled in."""
        return self._env.get_template(template).render(**context)

    def _digest(self) -> str:
        """Return what changes with any byte of the assets and templates."""
        found = hashlib.sha256(b"".join(asset.content for asset in self.assets.values()))
        for template in sorted(self._env.list_templates()):
            found.update((HERE / "templates" / template).read_bytes())
        return found.hexdigest()[:12]


# ── filters ─────────────────────────────────────────────────────────────────


def ago(at: str | None, now: datetime | None) -> Markup:
    """Return how long ago an ISO time was. Without `now` the text is left to the page, which counts on by itself."""
    if not at:
        return Markup("–")
    said = text.age(at, now) if now is not None else ""
    return Markup('<time class="age" datetime="{0}" title="{0}">{1}</time>').format(at, said)


def clock_time(at: str | None) -> Markup:
    """Return the time of day of an ISO time, in UTC."""
    return _time(at, "%H:%M:%S")


def day(at: str | None) -> Markup:
    """Return date and time of an ISO time, in UTC."""
    return _time(at, "%d %b %H:%M:%S")


def line(value: object) -> str:
    """Return text from outside as one clean line."""
    return text.line(str(value), CELL_CHARS_MAX)


def figure(value: object) -> str:
    """Return a record's value as one clean line, a number with at most five decimals, a time to the second."""
    return LONG_TIME.sub(r"\1", text.rounded(line(value)))


def checked(value: str, check: str) -> str:
    """Return a limit or a finding of the guard's check of that name as people read it."""
    return checks.figure(check, value)


def report(value: object) -> str:
    """Return text from outside as clean lines."""
    return text.clean(str(value), REPORT_CHARS_MAX)


def _time(at: str | None, form: str) -> Markup:
    try:
        said = clock.parse(at or "").strftime(form)
    except ValueError:
        return Markup("–")
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(at, said)
