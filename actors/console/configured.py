"""`pilot config show`: every setting with its value and where that comes from. Part of the operator's command line.

Reads files and the environment, no database. Never shows a secret, `--redacted` or not: those are variables, and of a
variable that may hold one only its name is shown.
Exit codes: 0 done, 64 usage, 78 configuration.
"""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer
from msgspec import Struct

from actors.console import asking, redacting, tables
from actors.console.options import AsJson
from bus.vocabulary import ExitCode
from config import load
from config.load import ConfigError
from config.settings import Settings

DEFAULT = "default"

app = typer.Typer(
    name="config", help="Look at the settings. Changes nothing.", no_args_is_help=True, rich_markup_mode=None
)


class Setting(Struct, frozen=True, kw_only=True):
    """One setting. `origin` is default, the profile's file, environment or .env."""

    name: str
    value: object
    origin: str


@app.callback()
def options() -> None:
    """Look at the settings. Changes nothing."""


@app.command(epilog="Examples: pilot config show; pilot config show --only broker; pilot config show --redacted --json")
def show(
    redacted: Annotated[
        bool, typer.Option("--redacted", help="Without whose account it is: to be shown around.")
    ] = False,
    only: Annotated[str, typer.Option(metavar="BEGINNING", help="Only names that begin so, such as llm.")] = "",
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not the default.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the effective settings, each with where it comes from: default, the profile's file, environment or .env."""
    try:
        found = effective(asking.profile["name"], redacted=redacted)
    except ConfigError as error:
        asking.fail(str(error), ExitCode.CONFIG)
    wanted = [one for one in found if one.name.startswith(only) and not (changed and one.origin == DEFAULT)]
    if as_json:
        asking.print_json(wanted)
        return
    out = tables.console(sys.stdout)
    for one in wanted:
        value = one.value if isinstance(one.value, str) and one.value else msgspec.json.encode(one.value).decode()
        out.print(tables.cell(f"{one.name} = {value}  ({one.origin})", "dim" if one.origin == DEFAULT else ""))
    if not wanted:
        out.print("no such setting")


def effective(profile: str | None, *, redacted: bool) -> list[Setting]:
    """Return every setting and every variable of ours that is set. Raises ConfigError."""
    path = load.profile_file(profile)
    raw = load.read_toml(path)
    given = redacting.flat(raw)
    settings: Settings = load.checked(raw, path)
    found = [
        Setting(
            name=name,
            value=redacting.shown(name, value, redacted=redacted),
            origin=path.name if _is_given(name, given) else DEFAULT,
        )
        for name, value in redacting.flat(settings).items()
    ]
    return found + [Setting(name=one.name, value=one.value, origin=one.origin) for one in load.variables()]


def _is_given(name: str, given: dict[str, object]) -> bool:
    """Return whether the profile's file says this setting, or a table that holds it."""
    return name in given or any(name.startswith(f"{one}.") for one in given)
