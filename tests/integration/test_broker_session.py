"""How a token is kept alive: refreshed at most so often an hour, by a login where that fails; over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.broker.client import BrokerClient
from actors.broker.errors import NotSent, Refused, Unauthorised, Unreadable
from tests.kit import paper, scripted
from tests.kit.desk import Shifted
from tests.kit.held_clock import HeldClock
from tests.kit.paper import an_order
from tests.kit.scripted import CLOSE, Server, reply

BALANCE = {"balance": "1", "equity": "1", "freeMargin": "1", "margin": "0", "currency": "USD"}
NEAR_S = 841.0  # less than a minute before the end of a token
HTML = b"<html>blocked</html>"

Scene = tuple[Server, BrokerClient, HeldClock]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """A broker with whom all is well, and a client that is logged in."""
    async with scripted.scene() as (server, client, clock):
        server.on("/balance", reply(200, BALANCE))
        server.on("/refresh-token", reply(200, b"", Set_Cookie="co-auth=second; Path=/"))
        await client.balance()
        yield server, client, clock


def counts(server: Server) -> tuple[int, int]:
    """Return how many refreshes and logins were asked for."""
    return server.count("/refresh-token"), server.count("/mtr-login")


# ── what must not happen ────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "answer",
    [reply(401, {}), reply(403, HTML, "text/html"), reply(404, {}), reply(500), reply(200, b"<html>"), CLOSE],
    ids=["401", "403", "404", "500", "no JSON", "closed"],
)
async def test_refused_refresh_falls_back_to_one_login(scene: Scene, answer: bytes) -> None:
    server, client, clock = scene
    server.on("/refresh-token", answer)
    clock.ahead_s = NEAR_S
    await client.balance()
    await client.balance()
    assert counts(server) == (1, 2)


async def test_cookie_that_no_header_can_carry_is_left_out() -> None:
    async with scripted.scene() as (server, client, clock):
        odd = "owner=J\u00fcrgen; Path=/\r\nSet-Cookie: rt=refresh; Path=/"
        server.on("/mtr-login", reply(200, scripted.a_login(), Set_Cookie=odd))
        server.on("/refresh-token", reply(200, b"", Set_Cookie=odd.replace("refresh", "next")))
        server.on("/balance", reply(200, BALANCE))
        await client.balance()
        assert server.asked[-1].headers["cookie"] == "co-auth=cookie; rt=refresh"
        clock.ahead_s = NEAR_S
        await client.balance()
        assert server.asked[-1].headers["cookie"] == "co-auth=cookie; rt=next"
        assert counts(server) == (1, 1)


async def test_short_cookie_does_not_garble_what_the_broker_says_and_no_token_is_shown() -> None:
    async with scripted.scene() as (server, client, _):
        cookies = "sticky=1; Path=/\r\nSet-Cookie: co-auth=tok; Path=/\r\nSet-Cookie: session=0123456789; Path=/"
        server.on("/mtr-login", reply(200, scripted.a_login(token="api"), Set_Cookie=cookies))
        server.on("/balance", reply(400, {"errorMessage": "Volume 11.5 is above 10 lots"}))
        with pytest.raises(Refused, match=r"Volume 11\.5 is above 10 lots"):
            await client.balance()
        server.on("/balance", reply(400, {"errorMessage": "tok, api, secret, 0123456789"}))
        with pytest.raises(Refused, match=r'"\*\*\*, \*\*\*, \*\*\*, \*\*\*"'):
            await client.balance()


async def test_token_that_no_header_can_carry_is_no_login() -> None:
    async with scripted.scene() as (server, client, _):
        server.on("/mtr-login", reply(200, scripted.a_login(token="t\u00f6ken")))
        with pytest.raises(Unreadable, match="a token that is no printable ASCII"):
            await client.balance()
        assert server.count("/balance") == 0


async def test_refresh_that_lists_other_accounts_only_is_not_taken(scene: Scene) -> None:
    server, client, clock = scene
    server.on("/refresh-token", reply(200, scripted.a_login("8")))
    clock.ahead_s = NEAR_S
    await client.balance()
    assert counts(server) == (1, 2)
    assert server.asked[-1].headers["auth-trading-api"] == "trading-token"


async def test_fifth_refresh_of_an_hour_is_not_asked_for_and_a_login_is_put_off_to_the_end(scene: Scene) -> None:
    server, client, clock = scene
    for at_s in (841.0, 950.0, 1_700.0, 2_550.0, 3_400.0):  # 950: past the first end, so that it is known to work
        clock.ahead_s = at_s
        await client.balance()
    assert counts(server) == (4, 1)
    for at_s in (4_241.0, 4_284.0):
        clock.ahead_s = at_s  # less than a minute is left, and then 16 seconds
        await client.balance()
        assert counts(server) == (4, 1)
    clock.ahead_s = 4_286.0
    await client.balance()
    assert counts(server) == (4, 2)
    clock.ahead_s = 4_286.0 + NEAR_S  # the first ones are more than an hour ago
    await client.balance()
    assert counts(server) == (5, 2)


async def test_reads_at_the_same_time_refresh_once(scene: Scene) -> None:
    server, client, clock = scene
    clock.ahead_s = NEAR_S
    await asyncio.gather(*(client.balance() for _ in range(5)))
    assert counts(server) == (1, 1)


async def test_token_that_a_refresh_did_not_keep_alive_is_found_by_a_read_and_never_by_an_order(scene: Scene) -> None:
    server, client, clock = scene
    clock.ahead_s = NEAR_S
    await client.balance()
    assert counts(server) == (1, 1)
    clock.ahead_s = 905.0  # past the login's end: nobody has seen yet that the token lives
    with pytest.raises(NotSent, match="read the account first"):
        await client.open_position(an_order())
    assert server.count("/position/open") == 0
    clock.ahead_s = 920.0
    server.on("/balance", reply(401, {}), reply(200, BALANCE))
    await client.balance()
    assert counts(server) == (1, 2)
    clock.ahead_s += NEAR_S
    await client.balance()  # this broker's refreshes are good for nothing: not asked for again
    assert counts(server) == (1, 3)


async def test_while_a_refreshed_token_is_in_doubt_a_login_makes_it_certain(scene: Scene) -> None:
    server, client, clock = scene
    server.on("/position/open", reply(200, {"status": "OK", "orderId": "W1"}))
    clock.ahead_s = NEAR_S
    await client.balance()
    clock.ahead_s = 898.0
    await client.balance()  # what reads before an order do
    clock.ahead_s = 903.0
    assert await client.open_position(an_order()) == "W1"
    assert counts(server) == (1, 2)


async def test_token_that_ran_out_is_not_refreshed(scene: Scene) -> None:
    server, client, clock = scene
    clock.ahead_s = 1_000.0
    await client.balance()
    assert counts(server) == (0, 2)


async def test_refused_password_after_a_refused_refresh_is_not_tried_again_at_once(scene: Scene) -> None:
    server, client, clock = scene
    server.on("/refresh-token", reply(401, {}))
    server.on("/mtr-login", reply(401, {}))
    clock.ahead_s = NEAR_S
    for _ in range(3):
        with pytest.raises(Unauthorised):
            await client.balance()
    assert server.count("/mtr-login") == 2


async def test_without_refreshes_a_login_renews_as_before() -> None:
    async with scripted.scene(refreshes_per_hour_max=0) as (server, client, clock):
        server.on("/balance", reply(200, BALANCE))
        for at_s, logins in ((0.0, 1), (839.0, 1), (841.0, 2)):
            clock.ahead_s = at_s
            await client.balance()
            assert counts(server) == (0, logins)


async def test_refreshes_are_paid_for(scene: Scene) -> None:
    server, client, clock = scene
    before = server.budget.reads
    clock.ahead_s = NEAR_S
    await client.balance()
    assert server.budget.reads == before + 2


# ── what must happen ────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("answer", "cookie"),
    [
        (reply(200, b"", Set_Cookie="co-auth=second; Path=/"), "second"),
        (reply(200, {"token": "third"}), "third"),
        (reply(200, {"token": "third"}, Set_Cookie="co-auth=second; Path=/"), "second"),
        (reply(200, b""), "cookie"),
        (reply(204, b"", Set_Cookie="co-auth=second; Path=/"), "second"),
    ],
)
async def test_refreshed_token_is_used_from_then_on(scene: Scene, answer: bytes, cookie: str) -> None:
    server, client, clock = scene
    server.on("/refresh-token", answer)
    clock.ahead_s = NEAR_S
    await client.balance()
    assert counts(server) == (1, 1)
    (asked,) = [one for one in server.asked if one.path.endswith("/refresh-token")]
    assert (asked.method, asked.body, "rt=refresh" in asked.headers["cookie"]) == ("POST", b"", True)
    assert f"co-auth={cookie}" in server.asked[-1].headers["cookie"]
    assert server.asked[-1].headers["auth-trading-api"] == "trading-token"
    clock.ahead_s = 2 * NEAR_S - 5
    await client.balance()
    assert counts(server) == (1, 1)


async def test_refresh_that_lists_our_account_has_its_token_taken(scene: Scene) -> None:
    server, client, clock = scene
    server.on("/refresh-token", reply(200, scripted.a_login(token="fresh")))
    clock.ahead_s = NEAR_S
    await client.balance()
    assert server.asked[-1].headers["auth-trading-api"] == "fresh"
    clock.ahead_s = 905.0
    server.on("/position/open", reply(200, {"status": "OK", "orderId": "W1"}))
    assert await client.open_position(an_order()) == "W1"  # listed anew, it is in no doubt


async def test_paper_broker_is_kept_for_hours_with_one_login(tmp_path: Path) -> None:
    clock = Shifted()
    async with paper.running(tmp_path, clock=clock) as broker, broker.client() as client:
        await client.balance()
        before = broker.budget.reads
        for at_s in (841.0, 950.0, 1_700.0, 2_550.0):
            clock.ahead_s = at_s
            await client.balance()
        assert broker.budget.reads == before + 4 + 4 - 1  # as many looks, a refresh with each but the second
