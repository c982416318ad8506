"""Every file, function, setting, variable and identifier that the documents name exists, spelled like that."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from config.settings import Settings
from tests.kit import documents, points
from tests.kit.alert_kinds import kinds
from tests.kit.documents import PAGES, ROOT, name_of

ROOMS = ("actors", "bus", "config", "store", "supervisor", "tests", "deploy", "docs", ".ci")
SOURCES = ("*.py", "*.toml", "*.sql", "*.yml", "*.json", "*.md", "*.txt", "*.html", "*.js", "*.css")
FILE = re.compile(r"^((?:[\w.-]+/)*[\w.*{}-]+\.(?:py|toml|sql|yml|json|jsonl|css|html|js))(?::([\w.]+))?$")
DOTTED = re.compile(r"^([a-z_]+(?:\.[A-Za-z_]\w*)+)(?: = .*|\(.*\))?$")
WORD = re.compile(r"^[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)+$|^[A-Z][a-z]+[A-Z]\w+$")
VARIABLE = re.compile(r"^(PILOT_[A-Z_]+)(=.*)?$")
POINTS = points.PAGE.read_text(encoding="utf-8").split(points.BEGIN)[1].split(points.END)[0]
HISTORY = {"CHANGELOG.md"}  # says what was
# Files that only run-time or a reader's machine has, and words of others: each with where it comes from.
NOT_OURS = {
    "times.py": "of the blueprint", "ledger.py": "of the blueprint", "openai.py": "of the blueprint",
    "logs/NAME.log": "written at run time", "qlib_data": "of the blueprint",
    "account.2.jsonl": "the second part of account.jsonl", "vol_z_n": "vol_z_250",
    "recordings/llm.N.jsonl": "one of each worker", "llm.N.000001.jsonl": "one of each worker, an older part",
    "NO_COLOR": "a custom of terminals", "room.age_s": "of the JSON of pilot status",
    "pilot_hosts_refused_total": "a counter's name with what Prometheus puts behind it", "llm.pub": "a file of keys",
    "TCP_USER_TIMEOUT": "of the kernel", "mmap_size": "of SQLite", "json.dumps": "of Python",
    "TimeoutStopSec": "of systemd", "WatchdogSec": "of systemd",
}  # fmt: skip


@functools.cache
def sources() -> dict[str, str]:
    """Return the text of every file of ours but the documents, by path."""
    found = {}
    for room in ROOMS:
        for pattern in SOURCES:
            for path in sorted((ROOT / room).rglob(pattern)):
                if path.suffix != ".md" or "roles" in path.parts:
                    found[name_of(path)] = path.read_text(encoding="utf-8", errors="replace")
    for name in ("Makefile", "Procfile", "Procfile.live", "pyproject.toml", "requirements.lock", ".env.example"):
        found[name] = (ROOT / name).read_text(encoding="utf-8")
    del found["tests/unit/test_docs_names.py"]
    return found


@functools.cache
def words() -> frozenset[str]:
    """Return every identifier in the source."""
    return frozenset(re.findall(r"[A-Za-z_]\w*", "\n".join(sources().values())))


@functools.cache
def modules() -> dict[str, list[str]]:
    """Return the paths of our modules by their last name; a package has its folder's."""
    found: dict[str, list[str]] = {}
    for path in sources():
        if path.endswith(".py"):
            found.setdefault(Path(path.removesuffix("/__init__.py")).stem, []).append(path)
    return found


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def defines(path: Path, dotted: str) -> bool:
    """Return whether a module defines a function, class, method or constant of this name."""
    body: list[ast.stmt] = tree(path).body
    for name in dotted.split("."):
        found = [one for one in body if name in _names(one)]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


def _names(one: ast.stmt) -> set[str]:
    if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {one.name}
    targets = one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


@functools.cache
def sections() -> dict[str, frozenset[str]]:
    """Return the keys of every section of the settings, and of every table of a rule set, by its name."""
    found = {"": frozenset(Settings.__struct_fields__)}
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found[field.name] = frozenset(field.type.__struct_fields__)
    for path in sorted((ROOT / "config" / "rules").glob("*.toml")):
        for head, body in re.findall(r"^\[(\w+)\]\n(.*?)(?=^\[|\Z)", path.read_text(), re.MULTILINE | re.DOTALL):
            found[head] = found.get(head, frozenset()) | frozenset(re.findall(r"^(\w+) = ", body, re.MULTILINE))
    return found


@functools.cache
def columns() -> dict[str, frozenset[str]]:
    """Return the columns of every table of the database, by its name."""
    text = (ROOT / "store" / "schema.sql").read_text(encoding="utf-8")
    tables = re.findall(r"^CREATE TABLE (\w+) \((.*?)^\)", text, re.MULTILINE | re.DOTALL)
    return {name: frozenset(re.findall(r"^    (?:, )?(\w+)", body, re.MULTILINE)) for name, body in tables}


def file_of(name: str) -> Path | None:
    """Return the one file that a document means: from the root, from actors/, or by its bare name."""
    pattern = re.sub(r"\{\w+\}", "*", name)
    for start in ("", "actors/"):
        if found := [path for path in sorted(ROOT.glob(start + pattern)) if path.is_file()]:
            return found[0]
    same = [ROOT / path for path in sources() if path.endswith(f"/{name}")] if "/" not in name else []
    return same[0] if same else None


def spans() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        if name_of(page) not in HISTORY:
            yield from ((name_of(page), span) for span in documents.spans(page))


def is_written_at_run_time(name: str) -> bool:
    """Return whether the product names this file of its data folder."""
    last = re.sub(r"^last_scan\.H\d\.", "last_scan.", Path(name).name)  # one for each timeframe
    return any(last in text for text in sources().values())


def test_every_file_exists_and_defines_what_is_said_of_it() -> None:
    wrong = []
    for page, span in spans():
        if (match := FILE.match(span)) and span not in NOT_OURS:
            name, inside = match.groups()
            path = file_of(name)
            if path is None:
                if ("/" in name and name.split("/")[0] in ROOMS) or not is_written_at_run_time(name):
                    wrong.append((page, span))
            elif inside and path.suffix == ".py" and not defines(path, inside):
                wrong.append((page, span))
    assert wrong == []


def test_every_dotted_name_is_a_setting_a_column_a_point_or_code() -> None:
    unknown = [(page, span) for page, span in spans() if (match := DOTTED.match(span)) and not is_known(match.group(1))]
    assert unknown == []


def is_known(dotted: str) -> bool:
    first, *rest = dotted.split(".")
    if dotted in NOT_OURS or FILE.match(dotted) or Path(ROOT / dotted).exists():
        return True
    known = sections().get(first, frozenset()) | columns().get(first, frozenset())
    if rest[0] in known:
        return all(part in words() for part in rest)
    if rest[-1].startswith(("before_", "after_")):
        return (
            f"`.{rest[-1]}`" in POINTS or f"`{dotted}`" in POINTS
        )  # a test of its own compares that list with the code
    is_key = first in columns() and rest[0] in words()  # a row of a table of keys: `meta.wall_clock`
    return is_key or is_code(dotted) or any(f'"{dotted}"' in text for text in sources().values())  # a socket's name


def is_code(dotted: str) -> bool:
    """Return whether this is a module of ours, whole or by its last name, with what it defines."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        stem = "/".join(parts[:cut])
        for path in modules().get(parts[cut - 1], []):
            is_named = path in (f"{stem}.py", f"{stem}/__init__.py") or path.endswith(f"/{stem}.py")
            if is_named and (cut == len(parts) or defines(ROOT / path, ".".join(parts[cut:]))):
                return True
    return False


def test_every_identifier_occurs_in_the_source() -> None:
    text = "\n".join(text for path, text in sources().items() if path.endswith("features.py"))
    made = {f"{stem}_n" for stem in re.findall(r"f?\"(\w+)_\{", text)}  # one column for each span
    unknown = sorted(
        {(page, span) for page, span in spans() if WORD.match(span) and span not in words() | made | kinds()}
    )
    assert [one for one in unknown if one[1] not in NOT_OURS] == []


def test_every_variable_of_the_environment_is_read_somewhere() -> None:
    read = {name for name in words() if name.startswith("PILOT_")}
    shown = {(page, match.group(1)) for page, span in spans() if (match := VARIABLE.match(span))}
    for page in PAGES:
        shown |= {
            (name_of(page), name) for block in documents.blocks(page) for name in re.findall(r"\bPILOT_\w+", block)
        }
    assert sorted(one for one in shown if one[1] not in read and one[1] != "PILOT_") == []


def test_every_key_in_a_block_of_settings_exists() -> None:
    wrong = []
    for page in PAGES:
        for block in documents.blocks(page):
            for head, body in re.findall(r"^\[(\w+)[\w.]*\]\n(.*?)(?=^\[|\Z)", block, re.MULTILINE | re.DOTALL):
                keys = set(re.findall(r"^(\w+) = ", body, re.MULTILINE))
                wrong += [(name_of(page), head, key) for key in keys if key not in words()]
                wrong += [(name_of(page), head, "no such section")] if head not in sections() else []
    assert wrong == []


def test_every_page_stands_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    named = set(re.findall(r": ([\w-]+\.md)$", text, re.MULTILINE))
    assert named == {page.name for page in PAGES}


def test_a_wrong_name_is_found() -> None:
    assert not is_known("executor.licence_minutes")
    assert not is_known("store.no_such_module")
    assert file_of("store/no_such.py") is None
    assert not defines(ROOT / "store" / "states.py", "no_such")
    assert defines(ROOT / "store" / "decisions.py", "DecisionStore.reserve_order")
    assert "no_such_column" not in {name for table in columns().values() for name in table}
