"""`pilot status|top`: the pipeline at a glance, once or until Ctrl-C. Part of the operator's command line.

Reads the database only, so that both work with the pipeline down. Exit codes: those of pilot.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from actors.console import asking, overview, tables
from actors.console.options import AsJson
from bus.clock import SystemClock
from bus.vocabulary import ExitCode
from store.queries import DatabaseRefused

EVERY_S_MAX = 3_600.0

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Examples: pilot status; pilot status --json | jq .room.narrowest")
def status(as_json: AsJson = False) -> None:
    """Show processes, account, room to each limit, positions, today, requests and halts."""
    now = SystemClock().now()
    with asking.database() as (settings, reader):
        found = overview.read(reader, settings, now)
    if as_json:
        asking.print_json(found)
    else:
        overview.show(tables.console(sys.stdout), found, now)


@app.command(epilog="Examples: pilot top; pilot top --every 5; pilot top --times 1")
def top(
    every: Annotated[float, typer.Option(min=0.2, max=EVERY_S_MAX, metavar="SECONDS", help="Between two looks.")] = 1.0,
    times: Annotated[int | None, typer.Option(min=1, help="End after so many looks. Default: at Ctrl-C.")] = None,
) -> None:
    """Show `status` again and again, until Ctrl-C."""
    out = tables.console(sys.stdout)
    # Ctrl-C waits for the next pause: as an exception it could come where Python only reports and drops it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        if out.is_terminal:
            with Live(console=out, screen=True, auto_refresh=False, transient=True) as live:
                _look(out, every, times, live)
        else:
            _look(out, every, times, None)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _look(out: Console, every_s: float, times: int | None, live: Live | None) -> None:
    looks = 0
    while True:
        shown = _screen(out)
        if live is None:
            out.print(shown)
        else:
            live.update(shown, refresh=True)
        looks += 1
        if looks == times or signal.sigtimedwait({signal.SIGINT}, every_s):
            return


def _screen(out: Console) -> Text:
    """Return what `status` shows now. Every look opens the database anew: it may have been restored meanwhile."""
    now = SystemClock().now()
    with asking.database() as (settings, reader), out.capture() as caught:
        try:
            overview.show(out, overview.read(reader, settings, now), now)
        except DatabaseRefused as error:
            asking.fail(str(error), ExitCode.CONFIG)
    shown = Text.from_ansi(caught.get().rstrip("\n"))
    shown.append(f"\n{now:%H:%M:%S} UTC; Ctrl-C ends", "dim")
    return shown
