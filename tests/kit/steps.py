"""Every durable step and every external call in the product's source, and which named points stand around it.

A step has its points when its own function passes `X.before_S` above it and `X.after_S` below it. Where a function is
only a hand for others (WRAPPERS), each of its calls is a step of the caller instead.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kit import points

CALLS = {
    "os.fsync", "os.fdatasync", "os.write", "os.pwrite", "os.truncate", "os.ftruncate", "os.rename", "os.replace",
    "os.link", "os.kill", "os.killpg", "signal.pidfd_send_signal", "subprocess.Popen", "subprocess.run",
    "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell", "shutil.move", "shutil.copy",
}  # fmt: skip
METHODS = {
    "rename", "write_text", "write_bytes", "truncate", "wal_checkpoint", "backup", "send", "sendto", "stream", "kill",
    "terminate", "send_signal", "symlink_to", "hardlink_to",
}  # fmt: skip
AT_THE_BROKER = {"open_position", "edit_position", "close_position"}  # called on a client; reads are Transport.read
HTTPX = {"get", "post", "put", "patch", "delete", "request", "stream"}
WRAPPERS = {  # the call as it is written: where it is defined
    "durable.write": "actors/market/durable.py",
    "durable.write_in_place": "actors/market/durable.py",
    "durable.sync_folder": "actors/market/durable.py",
    "last_scan.write": "actors/market/last_scan.py",
    "choice.write": "actors/market/choice.py",
    "connection.sync_folder": "store/connection.py",
    "sync_folder": "store/connection.py",
    "_sync_folder": "actors/broker/paper/journal.py",
    "self._sender.send": "actors/desk/sending.py",
    "self._exchange": "actors/broker/transport.py",
    "self._kill_group": "supervisor/process.py",
    "_popen": "supervisor/process.py",
    "process.spawn": "supervisor/process.py",
    "process.spawn_spare": "supervisor/process.py",
    "self._spawn": "supervisor/tree.py",
    "spare.hand_over": "supervisor/process.py",
}


@dataclass(frozen=True)
class Step:
    """One place in the source that changes what is outside this process."""

    path: str
    function: str  # empty at module level
    line: int
    text: str  # the call, or `with db`
    is_guarded: bool

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.function}: {self.text[:80]}"


@functools.cache
def steps() -> tuple[Step, ...]:
    """Return every step in the product."""
    found: list[Step] = []
    for room in points.ROOMS:
        for path in sorted((points.ROOT / room).rglob("*.py")):
            if path.name != "failpoints.py":
                found.extend(steps_in(path.read_text(encoding="utf-8"), str(path.relative_to(points.ROOT))))
    return tuple(found)


def steps_in(source: str, path: str) -> Iterator[Step]:
    """Yield the steps of one file."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        text = _step(node)
        if text is None:
            continue
        function = _function_of(node, parents)
        name = function.name if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) else ""
        guarded = _is_guarded(node, function, parents) if function is not None else False
        yield Step(path, name, node.lineno, text, guarded)  # type: ignore[attr-defined]


def _step(node: ast.AST) -> str | None:
    """Return the text of a step, or None when the node is none."""
    if isinstance(node, (ast.With, ast.AsyncWith)):
        held = [ast.unparse(item.context_expr) for item in node.items]
        return next((f"with {one}" for one in held if one.rpartition(".")[2].lstrip("_") == "db"), None)
    if not isinstance(node, ast.Call):
        return None
    called = ast.unparse(node.func)
    room, _, last = called.rpartition(".")
    is_step = (
        called in CALLS
        or called in WRAPPERS
        or (bool(room) and last in METHODS)
        or (room == "httpx" and last in HTTPX)
        or (room.endswith("client") and last in AT_THE_BROKER)
        or (called == "runtime.notify" and _text(node.args[0]) == "READY=1")
        or (last == "replace" and len(node.args) == 1 and not node.keywords)  # a path's; a string's has two
        or (last == "execute" and bool(node.args) and _text(node.args[0]).startswith("COMMIT"))
        or (last in ("open", "fdopen") and called != "os.open" and _writes(node))
    )
    return ast.unparse(node) if is_step else None


def _writes(node: ast.Call) -> bool:
    given = [*node.args, *(word.value for word in node.keywords if word.arg == "mode")]
    return any(set(text) & set("wax+") and len(text) <= 3 for text in map(_text, given) if text)


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _function_of(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> ast.AST | None:
    while (parent := parents.get(node)) is not None:
        if isinstance(parent, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return parent
        node = parent
    return None


def _is_guarded(step: ast.AST, function: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    first = step.lineno  # type: ignore[attr-defined]
    last = first if isinstance(step, ast.With) else step.end_lineno  # type: ignore[attr-defined]
    above, below = set(), set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and points.is_reach(node) and _function_of(node, parents) is function:
            name = points.name_of(node)
            if node.lineno < first and ".before_" in name:
                above.add(name.replace(".before_", "."))
            elif node.lineno > last and ".after_" in name:
                below.add(name.replace(".after_", "."))
    return bool(above & below)


def is_inside_a_wrapper(step: Step) -> bool:
    """Return whether the step belongs to whoever calls its function."""
    return any(
        path == step.path and called.rpartition(".")[2] == step.function for called, path in WRAPPERS.items()
    )  # fmt: skip


def source_of(path: str) -> str:
    """Return the text of a file of the product."""
    return (points.ROOT / Path(path)).read_text(encoding="utf-8")
