"""Put the figures of a bench into docs/performance.md, between markers, and its pictures beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from tests.bench import standings
from tests.bench.machine import Machine
from tests.bench.standings import Standings


def write(docs: Path, machine: Machine, found: dict[str, Any]) -> None:
    """Renew what was measured; what was not measured this time stays as it is."""
    page = docs / "performance.md"
    text = page.read_text()
    for name, table in tables(found).items():
        text = between(text, name, f"{machine.said()}.\n\n{table}")
    page.write_text(text)


def tables(found: dict[str, Any]) -> dict[str, str]:
    """Return the text of each part that has one."""
    made = {}
    if "standings" in found:
        made["standings"] = standings.markdown(msgspec.convert(found["standings"], Standings))
    return made


def between(text: str, name: str, new: str) -> str:
    """Return `text` with what stands between the markers of `name` replaced.

    Raises:
        ValueError: the page has no such markers.
    """
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"docs/performance.md has no markers {begin} ... {end}")
    return pattern.sub(lambda _: f"{begin}\n{new}\n{end}", text, count=1)
