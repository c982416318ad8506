"""Runbook, glossary and exit codes say what the code says: every alert, halt, status and check is there."""

from __future__ import annotations

import functools
import re

import pytest

from actors import pilot
from actors.compliance.guard import CHECKS
from actors.console import asking, findings
from bus.vocabulary import ExitCode, OrderStatus, Outcome, Role, State, Status
from config.settings import Settings
from store import states
from supervisor import cli, client
from tests.kit.alert_kinds import kinds
from tests.kit.documents import ROOT

PAGE = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ENTRIES = {
    part.split("\n")[0]: part for part in re.split(r"^### ", PAGE.split("\n## What a halt")[0], flags=re.MULTILINE)[1:]
}
PARTS = ("- **Says**: ", "- **Run**: `", "- **See**: ", "- **Do**: ", "- **Never** ")
ENTRIES_MIN = 40
NO_LONGER = {"stale_data"}  # a title for alerts of older databases


@functools.cache
def source() -> str:
    """Return the product's text with the parts of split strings put together."""
    rooms = ("actors", "bus", "config", "store", "supervisor")
    text = "\n".join(path.read_text(encoding="utf-8") for room in rooms for path in sorted((ROOT / room).rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?"', "", text)


def says(entry: str) -> str:
    return entry.split("- **Says**: ")[1].split("\n")[0]


def test_every_entry_says_what_to_run_what_one_sees_what_to_do_and_what_never() -> None:
    assert len(ENTRIES) >= ENTRIES_MIN
    wrong = {title for title, entry in ENTRIES.items() if [entry.count(part) for part in PARTS] != [1] * len(PARTS)}
    assert wrong == set()


def test_every_alert_has_an_entry() -> None:
    told = {word for entry in ENTRIES.values() for word in re.findall(r"`([a-z_0-9]+)`", says(entry))}
    assert kinds() - told - NO_LONGER == set()


def test_every_text_that_is_quoted_stands_in_the_source() -> None:
    quoted = [
        (title, text)
        for title, entry in ENTRIES.items()
        for text in re.findall(r"`([^`]+)`", says(entry))
        if " " in text and "=" not in text
    ]
    assert len(quoted) > 20
    unknown = [one for one in quoted if one[1].strip() not in source() and not is_command(one[1])]
    assert unknown == []


def is_command(text: str) -> bool:
    return text.startswith(("pilot ", "make "))


def test_every_check_that_the_page_names_is_the_guards() -> None:
    names = {check.__name__ for check in CHECKS}
    named = {
        name
        for listed in re.findall(r"checks? ((?:`\w+`(?: and |, )?)+)", PAGE)
        for name in re.findall(r"`(\w+)`", listed)
    }
    assert len(named) > 5
    assert named - names == set()


def test_every_halt_is_explained() -> None:
    table = PAGE.split("## What a halt's first word means")[1]
    raised = set(re.findall(r'Order\(\s*key=f?"([a-z_]+)', source())) | set(
        re.findall(r'halt(?:ed)?\(?=?f?"([a-z_]+):', source())
    )
    assert {"account", "flat_by", "best_day", "rules", "belied_order", "order_key"} <= raised
    assert {one for one in raised if f"`{one}" not in table} == set()


def words_of_glossary() -> str:
    return "\n".join(line.split("|")[1] for line in GLOSSARY.splitlines() if line.startswith("| "))


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("status", {*Status}),
        ("event", {event for event, _, _ in states.ARROWS}),
        ("order", {*OrderStatus}),
        ("outcome", {*Outcome}),
        ("state", {*State}),
        ("role", {*Role}),
        ("section", {name for name in Settings.__struct_fields__ if name not in ("profile", "symbols")}),
        ("check", {check.__name__ for check in CHECKS}),
    ],
)
def test_every_word_of_the_product_stands_in_the_glossary(what: str, names: set[str]) -> None:
    known = set(re.findall(r"`(\w+)`", words_of_glossary()))
    assert {str(name) for name in names} - known == set(), what


# ── exit codes ──────────────────────────────────────────────────────────────


def codes_of(page: str, heading: str) -> set[int]:
    """Return the first column of the first table under a heading."""
    section = (ROOT / "docs" / page).read_text(encoding="utf-8").split(heading, 1)[1].split("\n\n", 1)[0]
    return {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)}


def test_every_exit_code_is_explained_and_no_other() -> None:
    common = {code for name, code in vars(ExitCode).items() if name.isupper()}
    of_pilot = {0, *(int(code) for code in re.findall(r"(?<=[ ;])(\d+) (?=\w)", pilot.EXIT_CODES))}
    assert codes_of("operations.md", "## Exit codes\n") == common | of_pilot | {client.NOT_RUNNING}
    assert codes_of("pilot.md", "| exit code | meaning |\n") == of_pilot
    assert {findings.UNREACHABLE, findings.LOGIN_REFUSED, asking.REFUSED, asking.NO_DATABASE} <= of_pilot
    named = {int(code) for code in re.findall(r"(?<=[ ,])(\d+) (?=\w)", cli.EXAMPLES.split("exit codes:")[1])}
    assert named <= common | {client.NOT_RUNNING}
