"""Every named point of the product, found by reading its source, and the list of them in docs/testing.md.

`python -m tests.kit.points` rewrites that list. Of the product it imports only the table of who may send what.
"""

from __future__ import annotations

import ast
import functools
import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from bus import messages
from bus.vocabulary import Role

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("actors", "bus", "store", "supervisor")
PAGE = ROOT / "docs" / "testing.md"
BEGIN, END = "<!-- points: begin -->", "<!-- points: end -->"
# What the store sends besides answers and welcomes.
WORK: dict[Role, tuple[type[object], ...]] = {
    Role.LLM: (messages.Analyse, messages.Withdraw),
    Role.EXECUTOR: (messages.Execute, messages.Withdraw),
}


@dataclass(frozen=True)
class Call:
    """One `reach` in the source. A name with `{}` in it stands for many: `{role}.before_send_{step}`."""

    name: str
    path: str
    line: int
    comment: str  # empty where none stands behind the call
    is_dropping: bool  # whether the caller looks at what `reach` returns

    @property
    def is_generic(self) -> bool:
        return "{" in self.name


@functools.cache
def calls() -> tuple[Call, ...]:
    """Return every call of `reach` in the product, by file and line."""
    found: list[Call] = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if path.name != "failpoints.py":
                found.extend(_calls_in(path))
    return tuple(found)


def names() -> list[str]:
    """Return the name of every point that a process can pass, sorted: the generic ones spelled out."""
    found = {call.name for call in calls() if not call.is_generic}
    return sorted(found.union(*(_expanded(call.name) for call in calls() if call.is_generic)))


def droppable() -> set[str]:
    """Return the names of the points where `drop` loses a message."""
    return {name for call in calls() if call.is_dropping for name in (_expanded(call.name) or {call.name})}


def meaning(name: str, comments: dict[str, str]) -> str:
    """Return what a point stands for: its comment, or for the far side the one of the near side."""
    return comments.get(name) or comments.get(name.replace(".after_", ".before_"), "")


def table() -> str:
    """Return the list as it stands in docs/testing.md."""
    found = calls()
    places = _places(found)
    comments = {call.name: call.comment for call in found if call.comment}
    lines = [
        f"{len(names())} points: {len({call.name for call in found if not call.is_generic})} written out, the others "
        "once for each process and message.",
        "",
        "| point | where | what it stands for |",
        "|---|---|---|",
    ]
    for name, paths in places.items():
        after = name.replace(".before_", ".after_")
        if ".after_" in name and name.replace(".after_", ".before_") in places:
            continue
        both = f"`{name}`, `.{after.partition('.')[2]}`" if after != name and after in places else f"`{name}`"
        lines.append(f"| {both} | {', '.join(f'`{path}`' for path in paths)} | {meaning(name, comments)} |")
    spelled = ", ".join(f"`{name}`" for name in sorted(set(names()) - set(places)))
    return "\n".join([*lines, "", f"The generic ones spelled out: {spelled}.", ""])


def rewritten(page: str) -> str:
    """Return the page with the list renewed between its two markers. Raises ValueError when they are missing."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has no {BEGIN} ... {END}")
    return f"{head}{BEGIN}\n{table()}{END}{tail}"


def _places(found: tuple[Call, ...]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for call in sorted(found, key=lambda one: (one.name.replace(".after_", ".before_"), one.name)):
        places.setdefault(call.name, [])
        if call.path not in places[call.name]:
            places[call.name].append(call.path)
    return places


def _calls_in(path: Path) -> Iterator[Call]:
    source = path.read_text(encoding="utf-8")
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    tree = ast.parse(source)
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and is_reach(node):
            where, comment = str(path.relative_to(ROOT)), comments.get(node.lineno, "")
            yield Call(name_of(node), where, node.lineno, comment, id(node) not in bare)


def is_reach(node: ast.Call) -> bool:
    """Return whether a call is one of `failpoints.reach`."""
    called = node.func
    return (isinstance(called, ast.Name) and called.id == "reach") or (
        isinstance(called, ast.Attribute) and called.attr == "reach"
    )


def name_of(node: ast.Call) -> str:
    """Return the point's name; what is only known while it runs as `{role}` and `{step}`."""
    (given,) = node.args
    if isinstance(given, ast.Constant):
        return str(given.value)
    if not isinstance(given, ast.JoinedStr):
        raise TypeError(f"a point's name must stand in the source: {ast.unparse(node)}")
    return "".join(_part(part) for part in given.values)


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    return f"{{{ast.unparse(part)[1:-1].rpartition('.')[2]}}}" if isinstance(part, ast.FormattedValue) else "?"


def _expanded(pattern: str) -> set[str]:
    """Return the points that a generic name stands for: only messages that the process may send or is sent."""
    point = pattern.partition(".")[2]
    kinds: tuple[type[object], ...]
    if pattern.startswith("store."):
        kinds = get_args(messages.FromStore)
        return {pattern.replace("{step}", step_of(kind)) for kind in kinds if "{step}" in pattern}
    found = set()
    for role in linked():
        sent = messages.MAY_SEND[role]
        beats = (messages.Beat,) if messages.Beat in sent else ()
        if "send" in point:
            kinds = sent
        elif "after_ack" in point:
            kinds = tuple(kind for kind in sent if kind is not messages.Beat)
        elif "take" in point:
            kinds = (messages.Ack, *((messages.Welcome,) if beats else ()), *WORK.get(role, ()))
        else:
            kinds = beats  # no `{step}` in it
        found |= {pattern.replace("{role}", role).replace("{step}", step_of(kind)) for kind in kinds}
    return found


def linked() -> list[Role]:
    """Return the roles whose processes talk to the store through `bus.link`."""
    return [role for role in messages.MAY_SEND if (ROOT / "actors" / f"{role}.py").exists()]


def step_of(kind: type[object]) -> str:
    """Return a kind of message as it stands in a point's name. Compared with `bus.failpoints.step_of` by a test."""
    return "".join(f"_{sign.lower()}" if sign.isupper() else sign for sign in kind.__name__).lstrip("_")


def main() -> None:
    """Rewrite the list in docs/testing.md."""
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}: {len(names())} points\n")


if __name__ == "__main__":
    main()
