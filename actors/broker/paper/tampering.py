"""A misbehaving broker's hand on a request: what happens before, instead of and after the honest handler.

Used by `routes`; only when faults are on. Every fault is noted in the ledger before it strikes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from loguru import logger
from starlette.requests import Request
from starlette.responses import Response

from actors.broker.paper import answers, catalogue
from actors.broker.paper.access import Access
from actors.broker.paper.answers import Words
from actors.broker.paper.catalogue import Call
from actors.broker.paper.faults import Fault, Faults
from actors.broker.paper.venue import Venue

REMEMBERED_MAX = 200

Handler = Callable[[Request], Awaitable[Response]]


class Tampering:
    """The faults of one broker at work. `die` ends the process."""

    def __init__(self, venue: Venue, access: Access, faults: Faults, die: Callable[[], None]) -> None:
        self._venue = venue
        self._access = access
        self._faults = faults
        self._die = die
        self._said: dict[str, Response] = {}  # the last honest answer to each read

    def around(self, call: Call, do: Handler, words: Words = answers.PLATFORM) -> Handler:
        """Return the handler as it is while faults may strike, in an API's words. The body was read before."""

        async def misled(request: Request) -> Response:
            fault = self._faults.take(call)
            request.state.fault = fault
            if fault is None:
                return self._remember(call, request, await do(request))
            receipt = getattr(request.state, "receipt", 0)
            self._venue.ledger.fault(fault.fault, call, receipt)
            logger.warning("Misbehaves as ordered: {} on {}", fault.fault, request.url.path)
            return await self._strike(fault, call, request, do, words)

        return misled

    async def _strike(self, fault: Fault, call: Call, request: Request, do: Handler, words: Words) -> Response:
        name = fault.fault
        if name == "stale_read" and (said := self._said.get(_key(request))) is not None:
            return said
        if name == "token_revoked":
            self._access.revoke()
        elif name == "stop_out":
            self._venue.close_all("STOP_OUT")

        async def answer() -> Response:
            honest = self._remember(call, request, await do(request))
            if name == "close_between":
                self._venue.close_all("MANUAL")
            return honest

        return await answers.suffer(fault, request, answer, now_ms=self._venue.now_ms, die=self._die, words=words)

    def _remember(self, call: Call, request: Request, honest: Response) -> Response:
        if call in catalogue.NAMED_READS and honest.status_code == 200 and len(self._said) < REMEMBERED_MAX:
            self._said[_key(request)] = honest
        return honest


def _key(request: Request) -> str:
    return f"{request.url.path}?{request.url.query}"
