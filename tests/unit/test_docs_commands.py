"""Every command in README, CONTRIBUTING, CHANGELOG and docs/ exists as it is written: program, options, values."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import typer

from actors import pilot
from actors.broker.paper import alone
from actors.console import lazy
from supervisor import cli, formation
from tests.kit import documents
from tests.kit.documents import ROOT, Command

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"\$\(([A-Z]+)\)", MAKEFILE))
GROUP: Any = typer.main.get_command(pilot.app)
USAGE_ERROR: Any = typer.BadParameter.__base__  # typer brings a click of its own and names only this child of it
LEFT_OUT = ("COMMAND", "--install-completion")  # any command; an option of the shell's that ends the process


def wrong(*programs: str, check: Callable[[Command], str | None]) -> list[str]:
    """Return what is wrong with each command of a program, by page. `check` says it, or returns nothing."""
    found = [(one, check(one)) for one in documents.commands() if one.program in programs]
    return [f"{one.page}: {one.text}: {said}" for one, said in found if said]


LACKS = ("expected one argument", "the following arguments are required")  # prose may leave out what is needed


def alternatives(words: Sequence[str]) -> list[list[str]]:
    """Return what `list|show|use` stands for: each of them."""
    found: list[list[str]] = [[]]
    for word in words:
        choices = word.split("|") if re.fullmatch(r"(--)?[a-z]+(\|(--)?[a-z]+)+", word) else [word]
        found = [[*before, choice] for before in found for choice in choices]
    return found


def of_argparse(parse: Callable[[list[str]], object], words: Sequence[str]) -> str | None:
    """Return what argparse says of a command line that it does not take."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        try:
            parse(list(words))
        except SystemExit as end:
            return said.getvalue() if end.code else None
    return None


def of_pilot(words: list[str], *, is_inline: bool) -> str | None:
    """Return what pilot says of a command line that it does not take. Prose may leave out what a command needs."""
    if words[0] in LEFT_OUT:
        return None
    try:
        ctx = GROUP.make_context("pilot", list(words))
        group, rest = GROUP, [*ctx._protected_args, *ctx.args]
        while rest and hasattr(group, "resolve_command"):
            name, group, rest = group.resolve_command(ctx, rest)
            ctx = group.make_context(name, list(rest), parent=ctx)
            rest = [*ctx._protected_args, *ctx.args]
    except typer.Exit:  # --help
        return None
    except USAGE_ERROR as error:
        lacks_only = re.search("^Missing|requires an argument", error.format_message())
        return None if is_inline and lacks_only else error.format_message()
    return f"left over: {rest}" if rest else None


def test_every_command_of_pilot_parses() -> None:
    def check(command: Command) -> str | None:
        for words in alternatives(command.words[1:]):
            if said := of_pilot(words, is_inline=command.is_inline):
                return said
        return None

    assert wrong("pilot", check=check) == []


def test_every_command_of_the_supervisor_parses() -> None:
    def parse(words: list[str]) -> None:
        given = cli.parser().parse_args(words)
        if given.command in (None, "scale"):
            formation.parse(given.scale or getattr(given, "changes", []))
        if given.command == "run" and given.name not in (*formation.ACTORS, "NAME"):
            cli.parser().error(f"no such name: {given.name}")

    def check(command: Command) -> str | None:
        for words in alternatives(command.words[1:]):
            said = of_argparse(parse, words)
            if said and not (command.is_inline and any(lack in said for lack in LACKS)):
                return said
        return None

    assert wrong("supervisor", check=check) == []


def test_every_target_of_make_exists() -> None:
    def check(command: Command) -> str | None:
        unknown = {word for word in command.words[1:] if "=" not in word} - TARGETS
        unknown |= {word.split("=")[0] for word in command.words[1:] if "=" in word} - VARIABLES
        return f"no such {unknown}" if unknown else None

    assert wrong("make", check=check) == []


def test_honcho_is_given_procfiles_and_names_that_exist() -> None:
    def check(command: Command) -> str | None:
        verb, *words = command.words[1:]
        if words and "--no-prefix" not in words:  # without any it is only spoken of
            return f"{words}: honcho prints a second time, which is local, and a second name"
        words = [word for word in words if word != "--no-prefix"]
        given = dict(zip(words[::2], words[1::2], strict=True))
        procfile = ROOT / given.get("-f", "Procfile")
        if verb != "start" or set(given) - {"-f", "-c"} or not procfile.is_file():
            return f"{verb} {given}"
        names = set(re.findall(r"^(\w+):", procfile.read_text(encoding="utf-8"), re.MULTILINE))
        asked = {pair.split("=")[0] for pair in given.get("-c", "").split(",") if pair}
        return f"no such names: {asked - names}" if asked - names else None

    assert wrong("honcho", check=check) == []
    assert "/honcho start --no-prefix;" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_module_that_python_runs_exists_and_takes_its_options() -> None:
    def check(command: Command) -> str | None:
        option, what, *rest = command.words[1:]
        if option == "-c":
            compile(what, command.text, "exec")
            return None
        if option != "-m" or importlib.util.find_spec(what) is None:
            return "no such module"
        return of_argparse(alone._parser().parse_args, rest) if what == "actors.paper" else None

    assert wrong("python", "python3", check=check) == []


def test_pytest_is_given_files_that_exist() -> None:
    def check(command: Command) -> str | None:
        missing = [word for word in command.words[1:] if "/" in word and not (ROOT / word.split("::")[0]).exists()]
        return f"no such {missing}" if missing else None

    assert wrong("pytest", check=check) == []


def test_every_command_of_pilot_stands_in_its_page_with_an_example() -> None:
    shown = {one.words[1] for one in documents.commands() if one.program == "pilot" and one.page == "docs/pilot.md"}
    assert set(lazy.COMMANDS) - shown == set()


def test_commands_are_found_at_all() -> None:
    counted = {
        name: sum(one.program == name for one in documents.commands()) for name in ("pilot", "supervisor", "make")
    }
    assert counted["pilot"] > 100
    assert counted["supervisor"] > 15
    assert counted["make"] > 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bogus"], "No such command"),
        (["pause"], "Missing option"),
        (["pause", "--reason", "x", "--forever"], "No such option"),
        (["intents", "--status", "bogus"], "bogus"),
        (["rules", "bogus"], "No such command"),
    ],
)
def test_a_wrong_command_is_found(words: list[str], said: str) -> None:
    assert said in str(of_pilot(words, is_inline=False))
