"""The pages by their address: what each one reads, and the parts it is made of. A page and its live updates are one.

Library of the dashboard. Reads the database through `store.board`; writes nothing, sends nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date as calendar_date
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from msgspec import Struct

from actors.compliance.rulebook import RuleSet
from actors.console import tables
from actors.web import figures, picture, words
from actors.web.door import Door, Session
from actors.web.hub import Parts
from actors.web.site import Site
from bus.clock import Clock
from bus.vocabulary import Status
from config import load
from config.settings import Settings
from store import board as boards
from store.board import Board
from store.queries import DatabaseRefused, NoDatabase

ADDRESS_CHARS_MAX = 300
SYMBOL = re.compile(r"[A-Z0-9._]{1,16}")
ID = re.compile(r"[0-9A-Za-z-]{8,64}")
OVERVIEW = (
    "banners", "answers", "limits", "curves", "board", "holdings", "decisions", "processes", "budget", "notices",
    "said",
)  # fmt: skip


class NotFound(Exception):
    """There is no such page, or no such intent."""


class View(Struct, frozen=True, kw_only=True):
    """One page: its template, its title, the parts that change, and how they are read."""

    template: str
    title: str
    parts: tuple[str, ...]
    read: Callable[[Board, datetime], dict[str, Any]]


class Views:
    """Finds the view of an address and fills it in."""

    def __init__(self, settings: Settings, rules: RuleSet, site: Site, door: Door, clock: Clock) -> None:
        self.settings = settings
        self.site = site
        self._rules = rules
        self._door = door
        self._clock = clock
        self._path = load.db_path(settings)
        self._is_read_only = load.is_read_only()

    @property
    def path(self) -> Path:
        return self._path

    def page(self, address: str, session: Session | None) -> str:
        """Return a whole page. Raises NotFound."""
        view = self.find(address)
        parts = self._parts(view, live=False)
        return self.fill(
            view.template, session, title=view.title, address=address, part=parts, symbols=self._symbols(),
            asked=_asked(address),
        )  # fmt: skip

    def parts(self, address: str) -> Parts:
        """Return the parts of a page as they are now. Raises NotFound."""
        return self._parts(self.find(address), live=True)

    def open_parts(self, address: str) -> Parts:
        """Return the parts of an open page; nothing for one whose intent is gone."""
        try:
            return self.parts(address)
        except NotFound:
            return {}

    def fill(self, template: str, session: Session | None, **context: Any) -> str:
        """Return a page that is filled in with what stands on all of them."""
        usual = {
            "profile": self.settings.profile, "is_paper": not self.settings.broker.is_live, "session": session,
            "can_act": self._door.has_token, "token_env": self.settings.dashboard.token_env, "address": "",
            "account_id": self.settings.broker.account_id,
        }  # fmt: skip
        return self.site.fill(template, **(usual | context))

    def find(self, address: str) -> View:
        """Return the view of an address. Raises NotFound."""
        path = urlsplit(address).path if len(address) <= ADDRESS_CHARS_MAX else ""
        head, _, rest = path.strip("/").partition("/")
        if path == "/":
            return View(template="overview.html", title="Overview", parts=OVERVIEW, read=self._overview)
        if head == "intents" and not rest:
            asked = _asked(address)
            parts = ("banners", "intents")
            return View(
                template="intents.html", title="Intents", parts=parts, read=lambda b, n: self._list(b, n, asked)
            )
        if head == "intents" and ID.fullmatch(rest):
            return View(
                template="intent.html", title=f"Intent {rest[:8]}", parts=("banners", "intent"),
                read=lambda b, n: self._intent(b, n, rest),
            )  # fmt: skip
        if head == "alerts" and not rest:
            page = _page_of(dict(parse_qsl(urlsplit(address).query)))
            return View(
                template="alerts.html", title="Alerts", parts=("banners", "alerts"),
                read=lambda b, n: self._alerts(b, n, page),
            )  # fmt: skip
        raise NotFound(f"There is no page {path[:60]}.")

    # ── reading ─────────────────────────────────────────────────────────────

    def _parts(self, view: View, *, live: bool) -> Parts:
        now = self._clock.now()
        usual = {"trouble": "", "now": now, "aged": None if live else now, "can_act": self._door.has_token}
        try:
            with boards.opened(self._path) as board:
                context = usual | view.read(board, now)
        except NoDatabase:
            return self._nothing(view, usual, "There is no database yet: the store has not run in this data folder.")
        except DatabaseRefused as error:
            return self._nothing(view, usual, f"The database cannot be read: {error}")
        return {name: self.site.fill(f"parts/{name}.html", **context) for name in view.parts}

    def _nothing(self, view: View, usual: dict[str, Any], trouble: str) -> Parts:
        """Return the parts of a page that has nothing to read: why, and the rest empty."""
        context = usual | {"trouble": trouble, "answers": words.unknown(trouble), "found": None}
        shown = {name for name in ("banners", "answers", "said") if name in view.parts}
        return {name: self.site.fill(f"parts/{name}.html", **context) if name in shown else "" for name in view.parts}

    def _symbols(self) -> list[str]:
        return sorted(self.settings.symbols)

    def _usual(self, board: Board, now: datetime) -> dict[str, Any]:
        found = picture.read(board, self.settings, self._rules, now)
        return {"found": found, "is_read_only": self._is_read_only, "currency": found.currency}

    def _overview(self, board: Board, now: datetime) -> dict[str, Any]:
        usual = self._usual(board, now)
        found: picture.Picture = usual["found"]
        return usual | {
            "answers": words.answers(found),
            "gauges": figures.gauges(found, self._rules),
            "counts": figures.counts(found, self._rules, self.settings),
            "curves": figures.curves(board, found, self._rules),
        }

    def _list(self, board: Board, now: datetime, asked: dict[str, str]) -> dict[str, Any]:
        page = int(asked["page"])
        given = {name: asked[name] or None for name in ("status", "symbol", "date")}
        count = board.count(**given)
        return self._usual(board, now) | {
            "lines": board.page(**given, page=page), "count": count, "pages": _pages(count), "page": page,
            "at_page": lambda number: "/intents?" + urlencode(asked | {"page": number}),
        }  # fmt: skip

    def _intent(self, board: Board, now: datetime, intent_id: str) -> dict[str, Any]:
        intent, line = board.intent(intent_id), board.line(intent_id)
        if intent is None or line is None:
            raise NotFound(f"There is no intent {intent_id}; it may have been cleaned up.")
        return self._usual(board, now) | {
            "intent": intent, "line": line, "moves": board.transitions(intent_id), "order": board.order(intent_id),
            "decision": board.decision(intent_id), "compliance": tables.compliance_of(intent.compliance_snapshot),
            "signal": figures.fields_of(intent.signal_json), "closing": board.closing(intent_id),
        }  # fmt: skip

    def _alerts(self, board: Board, now: datetime, page: int) -> dict[str, Any]:
        count = board.notices_count()
        return self._usual(board, now) | {
            "notices": board.notices(page), "count": count, "pages": _pages(count), "page": page,
            "at_page": lambda number: f"/alerts?page={number}",
        }  # fmt: skip


def _asked(address: str) -> dict[str, str]:
    """Return what a list of intents was asked for; what cannot be is left out."""
    given = dict(parse_qsl(urlsplit(address).query))
    status, symbol, date = given.get("status", ""), given.get("symbol", "").upper(), given.get("date", "")
    return {
        "status": status if status in set(Status) else "",
        "symbol": symbol if SYMBOL.fullmatch(symbol) else "",
        "date": date if _is_date(date) else "",
        "page": str(_page_of(given)),
    }


def _page_of(given: dict[str, str]) -> int:
    page = given.get("page", "1")
    return min(max(1, int(page)), boards.PAGES_MAX) if page.isascii() and page.isdigit() and len(page) < 7 else 1


def _pages(count: int) -> int:
    return min(max(1, -(-count // boards.PAGE_ROWS)), boards.PAGES_MAX)


def _is_date(given: str) -> bool:
    try:
        return calendar_date.fromisoformat(given).isoformat() == given
    except ValueError:
        return False
