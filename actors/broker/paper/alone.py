"""The paper broker alone: a test server for any client of the Platform API, from one command line.

Run by `python -m actors.paper` with arguments. Needs no store, no supervisor and no profile; reads no secret, listens
on loopback only. Exit codes: 0 asked to stop, 64 the command line is wrong, 70 the disk takes no more, 75 the data
folder is another one's, 78 a port, file or folder cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from loguru import logger
from msgspec import Struct

from actors.broker.paper import bar_files, hosting
from actors.broker.paper.access import Access
from actors.broker.paper.faults import from_environment
from actors.broker.paper.venue import Venue
from actors.serving import server
from bus import logs
from bus.clock import SystemClock
from bus.errors import LockHeld
from bus.vocabulary import ExitCode
from config import load, settings

EXAMPLES = """examples:
  python -m actors.paper --port 8765                       an account of 50,000 USD, prices by a seeded walk
  python -m actors.paper --port 0 --json                   any free port; one line of JSON says which
  python -m actors.paper --seed 7 --speed 60               an hour of prices, sessions and swaps in a minute
  python -m actors.paper --csv bars.csv --speed 3600       plays a file of symbol,time,open,high,low,close
  python -m actors.paper --feed ecb --start 2024-03-01     plays the ECB's daily rates
  python -m actors.paper --faults --json                   with POST /paper/faults, /paper/price, /paper/close
  python -m actors.paper --sessions fx --set swap_buy_points=-7.5 --set 'holidays=["2026-12-25"]'

log in with POST /manager/mtr-login {"email", "password", "brokerId"}: any password but the empty one is right.
Without --data the account is forgotten at the end. All of --set's names: class Paper in config/settings.py;
what they do: docs/paper.md. Ctrl-C ends it."""
# option: (name of the setting, type, what it says)
OPTIONS: dict[str, tuple[str, type[Any], str]] = {
    "--balance": ("initial_balance", int, "what a new account begins with (50000)"),
    "--currency": ("currency", str, "USD, EUR or GBP (USD)"),
    "--seed": ("seed", int, "of the walk, or of the ways inside bars"),
    "--speed": ("speed", float, "simulated seconds a second (1)"),
    "--tick": ("tick_s", float, "seconds between two looks at the prices (1)"),
    "--sessions": ("sessions", str, "always, or fx: Sunday to Friday 17:00 in New York (always)"),
    "--spread-pips": ("spread_pips", float, "usual spread (1)"),
    "--commission": ("commission_per_lot", float, "a lot's round turn (5)"),
    "--leverage": ("leverage", int, "(50)"),
    "--prices": ("prices", str, "walk or bars (walk; bars with --csv or --feed)"),
    "--feed": ("bars_feed", str, "ecb, csv (a folder of SYMBOL.csv) or ohlc (one file)"),
    "--bars-path": ("bars_path", str, "the feed's folder or file"),
    "--start": ("bars_start", str, "first moment of the bars to play, such as 2024-03-01T09:00"),
}  # fmt: skip


class Asked(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    paper: settings.Paper
    broker: settings.Broker
    symbols: tuple[str, ...]  # empty: as in the file, or the usual ten
    port: int
    data: Path | None
    faults: str
    as_json: bool


class Parser(argparse.ArgumentParser):
    """Ends with the pipeline's code for a wrong command line."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}\nSee {self.prog} --help\n")
        raise SystemExit(ExitCode.USAGE)


def main(arguments: list[str]) -> NoReturn:
    """Serve until Ctrl-C or SIGTERM and exit with a code of `ExitCode`."""
    parser = _parser()
    try:
        asked = _asked(parser.parse_args(arguments))
    except load.ConfigError as error:
        parser.error(str(error))
    logs.configure("paper", stream=sys.stderr)  # standard output is for what a harness reads
    code = ExitCode.OK
    try:
        with contextlib.ExitStack() as stack:
            folder = asked.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paper-")))
            asyncio.run(_serve(asked, folder))
    except load.ConfigError as error:
        logger.error("Cannot serve: {}", error)
        code = ExitCode.CONFIG
    except LockHeld as error:
        logger.error("Cannot serve: {}", error)
        code = ExitCode.LOCKED
    except OSError as error:
        logger.error("Cannot go on: {}", error)
        code = ExitCode.GAVE_UP
    sys.exit(code)


async def _serve(asked: Asked, folder: Path) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(wanted, stopping.set)

    async def sleep(seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), seconds)
        return stopping.is_set()

    clock = SystemClock()
    bound = server.bind(asked.paper.host, asked.port)  # before the files, as under the supervisor
    with contextlib.closing(bound):
        hosting.own(folder)
        venue = Venue(asked.paper, asked.symbols or _of_the_file(asked.paper), folder, clock)
        access = Access(asked.broker, clock)
        faults = from_environment(asked.faults, salt=str(venue.ledger.lines))
        host, port = bound.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        await hosting.host(
            bound, venue, access, faults, sleep=sleep, ready=lambda: _announce(asked, access, url), ticked=lambda: None
        )
    logger.info("Stopped as asked")


def _announce(asked: Asked, access: Access, url: str) -> None:
    found = {
        "url": url, "login_path": asked.broker.login_path, "email": access.email, "broker_id": access.broker_id,
        "account_id": access.account_id, "system_uuid": access.system_uuid, "pid": os.getpid(),
        "controls": bool(asked.faults),
    }  # fmt: skip
    if asked.as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        sys.stdout.write(
            f"The paper broker listens on {url} (loopback only). Ctrl-C ends it.\n"
            f"  log in   POST {asked.broker.login_path}  e-mail {access.email}, any password, brokerId "
            f"{access.broker_id}\n"
            f"  account  {access.account_id}, {asked.paper.currency}\n"
            f"  trade    {url}/mtr-api/{access.system_uuid}/...\n"
        )
    sys.stdout.flush()


# ── the command line ────────────────────────────────────────────────────────


def _parser() -> Parser:
    parser = Parser(
        prog="python -m actors.paper",
        description="A Match-Trader-compatible paper broker on a loopback port: simulated prices or played bars.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--port", type=int, default=8765, help="0 takes any free one (8765)")
    parser.add_argument("--host", default="127.0.0.1", help="127.0.0.1 or ::1")
    for option, (name, kind, text) in OPTIONS.items():
        parser.add_argument(option, dest=name, type=kind, help=text)
    parser.add_argument("--csv", metavar="FILE", help="plays this file: --prices bars --feed ohlc --bars-path FILE")
    parser.add_argument("--symbols", help="EURUSD,USDJPY,... (ten pairs; with --csv those of the file)")
    parser.add_argument("--email", default=settings.Broker().email)
    parser.add_argument("--account-id", default=settings.Broker().account_id)
    parser.add_argument("--broker-id", default=settings.Broker().broker_id)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="keeps the account here (else it is forgotten)")
    parser.add_argument("--faults", nargs="?", const="1", default="", metavar="FILE", help="switches test controls on")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting, as TOML")
    parser.add_argument("--json", action="store_true", help="prints one line of JSON instead of text")
    return parser


def _asked(said: argparse.Namespace) -> Asked:
    """Return what was asked. Raises ConfigError for what is not allowed."""
    where = Path("command line")
    raw: dict[str, Any] = {"host": said.host}
    for name, _, _ in OPTIONS.values():
        if (value := getattr(said, name)) is not None:
            raw[name] = value
    if said.csv is not None:
        raw |= {"prices": "bars", "bars_feed": "ohlc", "bars_path": said.csv}
    elif "bars_feed" in raw:
        raw.setdefault("prices", "bars")
    for one in said.set:
        raw |= _setting(one)
    paper = load.convert(raw, settings.Paper, where)
    if not 0 <= said.port <= 65_535:
        raise load.ConfigError(f"--port was {said.port}; allowed 0..65535")
    return Asked(
        paper=paper,
        broker=settings.Broker(email=said.email, account_id=said.account_id, broker_id=said.broker_id),
        symbols=_symbols(said.symbols.upper().split(","), where) if said.symbols is not None else (),
        port=said.port,
        data=said.data,
        faults=said.faults,
        as_json=said.json,
    )


def _of_the_file(paper: settings.Paper) -> tuple[str, ...]:
    """Return the symbols of the bars' file, where it says them; else the usual ones."""
    if paper.prices == "bars" and paper.bars_feed == "ohlc" and paper.bars_path:
        return _symbols(bar_files.symbols(Path(paper.bars_path)), Path(paper.bars_path))
    return settings.Settings(profile="alone").symbols


def _symbols(names: Sequence[str], where: Path) -> tuple[str, ...]:
    checked = load.convert({"profile": "alone", "symbols": list(names)}, settings.Settings, where).symbols
    if len(set(checked)) != len(checked):
        raise load.ConfigError(f"{where}: symbols names one pair twice: {', '.join(checked)}")
    return checked


def _setting(text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    for written in (value, msgspec.json.encode(value).decode()):  # a word without quotes is meant as one
        with contextlib.suppress(tomllib.TOMLDecodeError):
            if equals:
                return tomllib.loads(f"{name} = {written}")
    raise load.ConfigError(f"--set was {text[:80]!r}; allowed: NAME=VALUE, VALUE as in TOML")
