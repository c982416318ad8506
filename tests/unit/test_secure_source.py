"""What the source never does: start a shell, make SQL of values, load pickles or YAML, turn TLS off."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from tests.unit.test_house import MODULES, ROOT, imported, name_of

SHELLS = {
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell",
}  # fmt: skip
LOADERS = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "yaml", "cloudpickle"}
EVALUATING = {"eval", "exec", "compile", "__import__"}
SQL = {"execute", "executemany"}


@functools.cache
def calls(path: Path) -> list[tuple[ast.Call, str]]:
    """Return every call in a file with what is called."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [(node, ast.unparse(node.func)) for node in found]


def test_no_shell_is_ever_started() -> None:
    wrong = [
        f"{name_of(path)}:{node.lineno}"
        for path in MODULES
        for node, called in calls(path)
        if called in SHELLS or any(word.arg == "shell" for word in node.keywords)
    ]
    assert wrong == []


def test_nothing_is_unpickled_parsed_as_yaml_or_evaluated() -> None:
    assert {name_of(path): found for path in MODULES if (found := imported(path) & LOADERS)} == {}
    wrong = [f"{name_of(p)}:{node.lineno}" for p in MODULES for node, called in calls(p) if called in EVALUATING]
    assert wrong == []


def test_statements_are_never_made_by_percent_or_format() -> None:
    wrong = [
        f"{name_of(path)}:{node.lineno}"
        for path in MODULES
        for node, called in calls(path)
        if called.rpartition(".")[2] in SQL and node.args
        and ((isinstance(node.args[0], ast.BinOp) and isinstance(node.args[0].op, ast.Mod))
             or (isinstance(node.args[0], ast.Call) and ast.unparse(node.args[0].func).endswith(".format")))
    ]  # fmt: skip
    assert wrong == []


def test_a_statement_with_a_name_in_it_stands_only_in_the_store() -> None:
    wrong = {
        name_of(path)
        for path in MODULES
        for node, called in calls(path)
        if called.rpartition(".")[2] in SQL and node.args and isinstance(node.args[0], ast.JoinedStr)
        and not name_of(path).startswith("store/")
    }  # fmt: skip
    assert wrong == set()


@pytest.mark.parametrize("setting", ["verify", "follow_redirects", "trust_env"])
def test_http_clients_say_what_they_do_about_certificates_redirects_and_proxies(setting: str) -> None:
    """`verify=False` only beside an address without TLS; redirects and proxies of the environment never."""
    wrong = []
    for path in MODULES:
        for node, called in calls(path):
            if called not in ("httpx.AsyncClient", "httpx.Client"):
                continue
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if setting != "verify" and given.get(setting) != "False" and not is_warm_up(given):
                wrong.append(f"{name_of(path)}:{node.lineno}: {setting}")
            if setting == "verify" and given.get("verify") == "False" and not is_warm_up(given):
                wrong.append(f"{name_of(path)}:{node.lineno}: verify")
    assert wrong == []


def is_warm_up(given: dict[str | None, str]) -> bool:
    """A client that is made and dropped: it connects to nothing."""
    return given == {"verify": "False", "trust_env": "False"}


def test_every_pinned_package_has_a_hash() -> None:
    for name in ("requirements.lock", "requirements-bench.lock"):
        blocks = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / name).read_text().strip())
        pins = [one for one in blocks if not one.startswith("#")]
        assert len(pins) > 20
        loose = [one.splitlines()[0] for one in pins if "==" not in one.splitlines()[0] or "--hash=sha256:" not in one]
        assert loose == []


def test_set_up_installs_nothing_without_a_hash() -> None:
    lines = [line for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line]
    assert lines and all("--require-hashes" in line or "--no-deps" in line for line in lines)
