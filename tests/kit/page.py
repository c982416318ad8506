"""The web application in this process, over a database that the real store writes: asked by httpx, without a socket.

async with page.a_page(tmp_path, monkeypatch) as found:
    found.store.opened(EXECUTOR)
    answer = await found.get("/")
"""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from msgspec import structs

from actors.compliance import rulebook
from actors.web import routes
from actors.web.door import Door
from actors.web.hub import Hub
from actors.web.site import Site
from actors.web.views import Views
from bus import messages
from bus.errors import NoAnswer
from bus.messages import Peer
from bus.vocabulary import Role
from config import settings
from store import connection
from tests.kit import builders
from tests.kit.clock import ManualClock
from tests.kit.store import StoreHarness

TOKEN = "a-token-of-the-tests-0123"
URL = "http://127.0.0.1:8780"
SITE = Site()
RULES = rulebook.load("e8-signature-50k")
PEERS = {role: builders.a_peer(role) for role in Role}
OPERATED = Peer(Role.DASHBOARD, 1, "0000000000da")
SAME_ORIGIN = {"origin": URL, "sec-fetch-site": "same-origin"}


@dataclass
class Page:
    """The application with its store."""

    store: StoreHarness
    clock: ManualClock
    views: Views
    door: Door
    hub: Hub
    client: httpx.AsyncClient
    told: list[messages.Command] = field(default_factory=list)
    is_silent: bool = False

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(path, headers=headers)

    async def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
        return await self.client.post(path, data=fields, headers=SAME_ORIGIN if headers is None else headers)

    async def sign_in(self, operator: str = "anna", token: str = TOKEN) -> httpx.Response:
        return await self.post("/sign-in", operator=operator, token=token, next="/")

    async def form_of(self, path: str) -> dict[str, str]:
        """Return the hidden fields of a page's form."""
        found = await self.get(path)
        assert found.status_code == 200, found.text
        fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', found.text)
        return {name: html.unescape(value) for name, value in fields}

    async def tell(self, command: messages.Command) -> messages.Ack:
        """Ask the store as the process does."""
        if self.is_silent:
            raise NoAnswer("not answered")
        self.told.append(command)
        return self.store.tell(OPERATED, command)

    def beat(self, *silent: Role) -> None:
        """Let every process but these beat now, and the store write it down."""
        for role in (Role.SCANNER, Role.LLM, Role.EXECUTOR, Role.MONITOR, Role.DASHBOARD, Role.PAPER):
            if role not in silent:
                self.store.beat(PEERS[role], capacity=0)
        self.store.step(tick=True)

    def sample(self, **changes: object) -> None:
        """Let the monitor look at the account now."""
        now = self.clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body = messages.SampleEquity(sample=builders.a_sample(**({"at": now} | changes)))
        assert self.store.tell(PEERS[Role.MONITOR], body).outcome == "applied"


def text_of(answer: httpx.Response | str) -> str:
    """Return what a person reads: without marks, blanks in a row made one."""
    raw = answer if isinstance(answer, str) else answer.text
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", raw)).split())


@asynccontextmanager
async def a_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, token: str = TOKEN, has_database: bool = True, **changes: object
) -> AsyncIterator[Page]:
    """Make an application over a new store; `changes` are settings of the dashboard."""
    monkeypatch.setenv("PILOT_DATA", str(folder))
    path = folder / "decisions.db" if has_database else folder / "elsewhere.db"
    db = connection.open_writer(path)
    clock = ManualClock()
    chosen = settings.Settings(profile="test")
    chosen = structs.replace(chosen, dashboard=structs.replace(chosen.dashboard, **changes))
    door = Door(chosen.dashboard, token, clock)
    views = Views(chosen, RULES, SITE, door, clock)
    hub = Hub(views.path, views.open_parts, clock, poll_s=0.01, clients_max=chosen.dashboard.clients_max)
    found = Page(StoreHarness(db, clock), clock, views, door, hub, httpx.AsyncClient())
    await found.client.aclose()
    app = routes.application(routes.Pages(views, door, hub, found.tell, clock), door)
    found.client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=URL)
    try:
        yield found
    finally:
        hub.close()
        await found.client.aclose()
        db.close()
