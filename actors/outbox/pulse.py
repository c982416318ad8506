"""The dead-man ping: an address is asked while store, executor and monitor beat, and not when one of them does not.

Library of the alerts process. Whoever watches that address raises the alarm when the pings stop, also when this whole
machine is gone. The address is a secret: it is neither logged nor shown.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import httpx
from loguru import logger

from bus import clock
from bus.clock import Clock
from bus.failpoints import reach
from bus.link import Link
from bus.vocabulary import Role
from config.settings import Settings
from store.outbox import Outbox
from store.queries import DatabaseRefused

WATCHED = (Role.EXECUTOR, Role.MONITOR)  # the store is heard in them: only it writes down that they beat
MISSED_BEATS_MAX = 2  # times `bus.dead_s`: a restart is no death
OK_BELOW = 400


class Pulse:
    """The ping on its cadence. It says in the log when it begins to be held back, and when it fails."""

    def __init__(self, link: Link, path: Path, address: str, settings: Settings, clock: Clock) -> None:
        self.pings = 0
        self._link = link
        self._path = path
        self._address = address
        self._settings = settings
        self._clock = clock
        self._said = ""

    async def run(self) -> None:
        """Ping until the process is asked to stop."""
        alerts = self._settings.alerts
        async with httpx.AsyncClient(timeout=alerts.request_s, trust_env=False, follow_redirects=False) as client:
            while not await self._link.sleep(alerts.ping_s):
                await self.ping(client)

    async def ping(self, client: httpx.AsyncClient) -> None:
        """Ask the address once if all is well."""
        problem = self.silent_since()
        if not problem:
            try:
                reach("alerts.before_ping")  # the sign of life to whoever watches from outside
                async with client.stream("GET", self._address) as answer:  # what it says is not read: nobody needs it
                    reach("alerts.after_ping")
                problem = "" if answer.status_code < OK_BELOW else f"the ping was answered {answer.status_code}"
                self.pings += not problem
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem = f"the ping was not answered: {type(error).__name__}"
        if problem != self._said:
            logger.log("WARNING" if problem else "INFO", "Dead-man ping: {}", problem or "all is well again")
        self._said = problem

    def silent_since(self) -> str:
        """Return who does not beat, or "" when all that must live do."""
        try:
            outbox = Outbox(self._path)
        except DatabaseRefused as error:
            return f"held back: {error}"
        try:
            beats = outbox.beats()
        finally:
            outbox.close()
        limit_s = MISSED_BEATS_MAX * self._settings.bus.dead_s
        return next(
            (f"held back: {role} does not beat" for role in WATCHED if self._age_s(beats.get(role)) > limit_s), ""
        )

    def _age_s(self, at: str | None) -> float:
        if at is None:
            return float("inf")
        now: datetime = self._clock.now()
        return abs((now - clock.parse(at)).total_seconds())  # one from the future is a clock that jumped
