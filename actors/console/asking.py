"""What every command of `pilot` needs: the database read-only, the store's answer, the operator's name and consent.

Used by pilot. Ends the command with a clear message and an exit code where it cannot go on.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import msgspec
import typer

from actors.console import tables, text
from bus import messages
from bus.errors import LockHeld, NoAnswer
from bus.vocabulary import ExitCode, Outcome, Role
from config import load
from config.load import ConfigError
from config.settings import Settings
from store import owner
from store.queries import UNREADABLE, DatabaseRefused, NoDatabase, Reader

REFUSED = 1
NO_DATABASE = 3
NO_ANSWER = 69
ANSWER_S = 5.0

profile: dict[str, str | None] = {"name": None}  # `pilot --profile`


def settings() -> Settings:
    """Return the settings, or end with what is wrong with them."""
    try:
        return load.settings(profile["name"])
    except ConfigError as error:
        fail(str(error), ExitCode.CONFIG)


@contextmanager
def database() -> Iterator[tuple[Settings, Reader]]:
    """Open the database read-only, or end with a clear message."""
    found = settings()
    try:
        reader = Reader(load.db_path(found))
    except NoDatabase as error:
        fail(str(error), NO_DATABASE)
    except (ConfigError, DatabaseRefused) as error:
        fail(str(error), ExitCode.CONFIG)
    try:
        _warn_of_another(reader, found)
        yield found, reader
    finally:
        reader.close()


def _warn_of_another(reader: Reader, found: Settings) -> None:
    """Say on the terminal's error side that what is shown is of another account than that of the settings."""
    try:
        why = reader.foreign_to(owner.of_settings(found.broker))
    except UNREADABLE:
        return  # damaged: told by whatever is read
    if why:
        tables.console(sys.stderr).print(f"pilot: {text.line(why, 1_000)}", soft_wrap=True)


def ask(command: messages.Command) -> messages.Ack:
    """Return the store's answer to one command, or end with a clear message."""
    from bus import link  # sockets: reading needs none, and starts sooner without

    try:
        return link.ask_once(command, role=Role.PILOT, deadline_s=ANSWER_S)
    except NoAnswer:
        fail(
            f"no answer from the store within {ANSWER_S:g} s; is the pipeline running? "
            "Look before you try again: it may have been done all the same",
            NO_ANSWER,
        )
    except LockHeld as error:
        fail(str(error), ExitCode.LOCKED)
    except ConfigError as error:
        fail(str(error), ExitCode.CONFIG)


def tell(ack: messages.Ack, what: str, then: str = "") -> None:
    """Say what the store answered about `what`, and `then` what comes of it when this order changed something.

    A refusal ends the command with its reason and what was allowed.
    """
    if ack.outcome in (Outcome.STALE, Outcome.REFUSED):
        allowed = f"; allowed now: {', '.join(ack.allowed)}" if ack.allowed else ""
        fail(f"{ack.outcome}: {ack.reason}{allowed}", REFUSED)
    reason = f": {text.line(ack.reason, 1_000)}" if ack.reason else ""
    after = f"; {then}" if then and ack.outcome is Outcome.APPLIED else ""
    sys.stdout.write(f"{ack.outcome}: {what}{reason}{after}\n")


def operator() -> str:
    """Return who asks, by the system's own account and not by a variable that anybody may set."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name[:64]
    except KeyError:
        return f"uid {os.getuid()}"


def need(text_given: str, option: str) -> str:
    """Return what was given without the blanks around it, or end: it stands in the record for good."""
    if not text_given.strip():
        fail(f"{option} must not be empty", ExitCode.USAGE)
    return text_given.strip()


def consent(question: str, *, yes: bool, otherwise: str) -> None:
    """Return when the operator agrees, or end with `otherwise`. With `yes` nobody is asked."""
    if yes:
        return
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        fail(otherwise, REFUSED)


def print_json(found: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")


def fail(message: str, code: int) -> NoReturn:
    """End the command with a message on the terminal's error side."""
    tables.console(sys.stderr).print(f"pilot: {text.line(message, 1_000)}", soft_wrap=True)
    raise typer.Exit(code)
