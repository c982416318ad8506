"""Every kind of alert that the product tells people of, found by reading its source. Imports only tables of it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from actors.outbox.wording import LEVELS, TITLES
from store.alerts import TOLD
from store.daily import EVENT as DAILY

ROOT = Path(__file__).parent.parent.parent
TELLERS = {"report", "once", "_once", "_tell", "_report", "alert", "Report", "_say", "write"}
NOT_KINDS = {"info", "warning", "error"}
OTHER_WRITES = {"actors/console/models.py", "actors/market/model.py"}  # files, no alerts
KIND = re.compile(r"[a-z]+(_[a-z0-9]+)*")


@functools.cache
def kinds() -> frozenset[str]:
    """Return the event of every alert: those written at a call, those of arrows, levels and titles, the daily one."""
    levels = {f"{kind}_{level}" for kind in ("daily", "maximum") for level in LEVELS}
    named = {event for room in ("actors", "store", "supervisor") for event in _in_room(ROOT / room)}
    return frozenset({event for _, event in TOLD.values()} | set(TITLES) | levels | named | {DAILY})


def _in_room(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        if str(path.relative_to(ROOT)) not in OTHER_WRITES:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            constants = {
                target.id: node.value.value
                for node in tree.body
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and _name(node.func) in TELLERS:
                    yield from _events(node, constants)


def _name(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def _events(call: ast.Call, constants: dict[str, object]) -> Iterator[str]:
    given = [*call.args, *(word.value for word in call.keywords if word.arg == "event")]
    if _name(call.func) == "once":
        given = given[1:]  # what it is known by comes first
    for argument in given:
        for part in ast.walk(argument):
            value = constants.get(part.id) if isinstance(part, ast.Name) else getattr(part, "value", None)
            if isinstance(value, str) and KIND.fullmatch(value) and value not in NOT_KINDS:
                yield value
