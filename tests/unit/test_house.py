"""The rules of the house as tests: who may import what, how long things may be, what never stands in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PRODUCT = ("actors", "bus", "config", "store", "supervisor")
MODULES = sorted(path for name in PRODUCT for path in (ROOT / name).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
PURE = {
    *(ROOT / "actors" / "compliance").glob("*.py"),
    ROOT / "actors" / "broker" / "reconcile.py",
    *(
        ROOT / "actors" / "broker" / "paper" / f"{name}.py"
        for name in ("book", "pending", "replay", "sessions", "values")
    ),
    ROOT / "store" / "states.py",
    ROOT / "store" / "figures.py",
    ROOT / "supervisor" / "plan.py",
    ROOT / "bus" / "vocabulary.py",
    ROOT / "bus" / "records.py",
    ROOT / "bus" / "messages.py",
    ROOT / "bus" / "frame.py",
    ROOT / "bus" / "steering.py",
    ROOT / "bus" / "tokens.py",
    ROOT / "bus" / "alerting.py",
    ROOT / "config" / "dollars.py",
}
IMPURE = {"zmq", "httpx", "apsw", "time", "random", "secrets", "os", "socket", "asyncio", "subprocess"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """Return the first part of every module that a file imports, in functions and under TYPE_CHECKING, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def importers(module: str) -> set[str]:
    return {name_of(path).split("/")[0] for path in MODULES if module in imported(path)}


# ── directions ──────────────────────────────────────────────────────────────


def test_only_the_bus_knows_sockets_and_only_the_store_knows_its_database() -> None:
    assert importers("zmq") == {"bus"}
    assert importers("apsw") == {"store"}
    assert importers("sqlite3") == set()


@pytest.mark.parametrize(
    ("package", "above"),
    [
        ("config", {"bus", "store", "actors", "supervisor"}),
        ("bus", {"store", "actors", "supervisor"}),
        ("store", {"actors", "supervisor"}),
        ("actors", {"supervisor"}),
        ("supervisor", {"actors"}),
    ],
)
def test_imports_point_one_way(package: str, above: set[str]) -> None:
    wrong = {
        name_of(path): found
        for path in MODULES
        if name_of(path).startswith(f"{package}/") and (found := imported(path) & above)
    }
    assert wrong == {}


def test_a_process_never_imports_another_process() -> None:
    processes = {path.stem for path in (ROOT / "actors").glob("*.py") if path.stem != "__init__"}
    wrong = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            wrong += [(name_of(path), name) for name in names if name in {f"actors.{process}" for process in processes}]
    assert wrong == []


def test_pure_modules_know_neither_sockets_nor_clocks_nor_chance_nor_environment() -> None:
    wrong = {name_of(path): found for path in PURE if (found := imported(path) & IMPURE)}
    assert wrong == {}
    for path in PURE:
        assert "now(" not in path.read_text().replace("now()`", ""), name_of(path)


def test_only_config_reads_the_environment_of_settings() -> None:
    readers = {
        name_of(path) for path in MODULES if re.search(r"environ\[?\(?.{0,8}PILOT_(DATA|RUN|PROFILE)", path.read_text())
    }
    assert {one for one in readers if not one.startswith("supervisor/")} == {"config/load.py"}


# ── what never stands in the code ───────────────────────────────────────────


def blind(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {kind.id if isinstance(kind, ast.Name) else None for kind in kinds if kind is not None}
            raises_again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if node.type is None or (names & {"Exception", "BaseException"} and not raises_again):
                yield node.lineno


def test_errors_are_caught_by_name() -> None:
    assert {name_of(path): lines for path in MODULES if (lines := list(blind(path)))} == {}


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX", "unittest.mock", "NotImplementedError", "type: ignore\n"])
def test_no_loose_ends_in_the_product(word: str) -> None:
    assert [name_of(path) for path in MODULES if word in path.read_text()] == []


def test_nothing_is_printed() -> None:
    wrong = [
        f"{name_of(path)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert wrong == []


# ── sizes ───────────────────────────────────────────────────────────────────


def test_every_module_begins_with_what_it_is() -> None:
    silent = [
        name_of(path)
        for path in (*MODULES, *TESTS)
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_files_are_short() -> None:
    long = {name_of(path): lines for path in MODULES if (lines := len(path.read_text().splitlines())) > FILE_LINES_MAX}
    assert long == {}


def test_functions_are_short() -> None:
    long = {
        f"{name_of(path)}:{node.name}": lines
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert long == {}


def test_every_command_is_documented() -> None:
    from bus import messages

    for kind in messages.Command.__args__:
        assert kind.__doc__, kind
