"""`pilot`: the operator's command line. Reads the database itself, asks the store for every change.

Reading works while the pipeline is down. Never writes to a database that the store has open; only `doctor` asks the
broker, and reads. Each command is a file under actors/console, imported when it is asked for: see `console.lazy`.
Exit codes: `EXIT_CODES`.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from actors.console import asking
from actors.console.lazy import Commands
from bus.vocabulary import ExitCode
from config import load
from config.load import ConfigError
from store import queries

CLICK_USAGE = 2
EXIT_CODES = (
    "Exit codes: 0 done; 1 refused, not found or something is wrong; 3 no database yet; 64 the command line is wrong; "
    "69 the store, broker or language model did not answer; 75 a lock is held; 77 the broker refused the login; "
    "78 a setting, secret or file is wrong."
)
WITHOUT_ENV = ("doctor", "init")  # they say what is wrong with .env, or write it

app = typer.Typer(
    name="pilot",
    cls=Commands,
    help="Look at the pipeline and steer it. Reading works while it is down.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(is_asked: bool) -> None:
    """Print the versions of the program and of the schema that it works with, and end."""
    if is_asked:
        from importlib import metadata

        sys.stdout.write(f"pilot {metadata.version('prop-firm-pilot')}, schema {queries.schema_version()}\n")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    profile: Annotated[str | None, typer.Option(help="Settings to use. Default: PILOT_PROFILE, else paper.")] = None,
    version: Annotated[  # `_version` has ended the command if it is asked for
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print program and schema, and end.")
    ] = False,
) -> None:
    """Look at the pipeline and steer it. Reading works while it is down."""
    asking.profile["name"] = profile
    if ctx.invoked_subcommand in WITHOUT_ENV:
        return
    try:
        # As the supervisor and honcho do it; but no line that is not plain keeps a `pilot flatten` from its work.
        os.environ.update(load.env_file(lambda why: typer.echo(f"pilot: {why}", err=True)))
    except ConfigError as error:
        asking.fail(str(error), ExitCode.CONFIG)


def main() -> NoReturn:
    """Run one command and exit with its code."""
    os.umask(0o077)
    os.environ.setdefault("LOGURU_AUTOINIT", "0")  # the store and the bus log; here only the answer counts
    try:
        app()
    except SystemExit as end:
        sys.exit(ExitCode.USAGE if end.code == CLICK_USAGE else end.code)
    sys.exit(ExitCode.OK)


if __name__ == "__main__":
    main()
