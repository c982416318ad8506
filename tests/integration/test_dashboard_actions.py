"""Acting from the page: what is refused, what reaches the store, and that nothing is done twice or by anybody else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from actors.web import door, shield
from actors.web.door import Door
from bus import messages
from bus.vocabulary import Role
from config import settings
from config.load import ConfigError
from tests.kit.clock import ManualClock
from tests.kit.page import PEERS, TOKEN, URL, Page, a_page, text_of

EXECUTOR = PEERS[Role.EXECUTOR]


@pytest_asyncio.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Page]:
    async with a_page(tmp_path, monkeypatch) as found:
        yield found


# ── who may ask at all ──────────────────────────────────────────────────────


async def test_unknown_host_gets_nothing(here: Page) -> None:
    for host in ("evil.example", "evil.example:8780", "127.0.0.1.evil.example", "", "[::2]:8780"):
        for path in ("/", "/events?page=/", "/assets/page.js"):
            answer = await here.get(path, host=host)
            assert answer.status_code == 421, host
            assert "EURUSD" not in answer.text
    for host in ("localhost:8780", "127.0.0.1", "[::1]:9000"):
        assert (await here.get("/", host=host)).status_code == 200


async def test_form_from_elsewhere_is_refused_before_anything_is_read(here: Page) -> None:
    await here.sign_in()
    fields = await here.form_of("/actions/pause")
    for headers in (
        {},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:8781"},
        {"origin": URL, "sec-fetch-site": "cross-site"},
        {"origin": URL, "sec-fetch-site": "same-site"},
        {"origin": "null"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
    ):
        answer = await here.post("/actions/pause", headers, reason="x", **fields)
        assert answer.status_code == 403, headers
    assert here.told == []


async def test_large_or_odd_bodies_are_refused(here: Page) -> None:
    answer = await here.post("/sign-in", operator="x" * shield.BODY_BYTES_MAX)
    assert answer.status_code == 413

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"a" * 1_000

    headers = {"origin": URL, "content-type": "application/x-www-form-urlencoded"}
    assert (await here.client.post("/sign-in", content=endless(), headers=headers)).status_code == 413
    odd = await here.client.post("/sign-in", files={"a": b"b"}, headers={"origin": URL})
    assert odd.status_code == 415
    many = await here.post("/sign-in", **{f"f{number}": "1" for number in range(20)})
    assert many.status_code == 400
    assert (await here.client.delete("/actions/pause", headers={"origin": URL})).status_code == 405


# ── the token ───────────────────────────────────────────────────────────────


async def test_without_a_token_nothing_is_offered_and_the_page_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_page(tmp_path, monkeypatch, token="") as here:
        front = await here.get("/")
        assert 'href="/actions' not in front.text
        assert "no token is set in PILOT_DASHBOARD_TOKEN" in text_of(front)
        assert (await here.get("/actions/pause")).status_code == 403
        assert (await here.post("/actions/pause", reason="x", form="", about="")).status_code == 403
        for token in ("", TOKEN):
            assert (await here.sign_in(token=token)).status_code == 403
        assert here.told == []


async def test_wrong_tokens_are_counted_and_then_even_the_right_one_waits(here: Page) -> None:
    for wrong in ("", "x", TOKEN[:-1], TOKEN + "x", "\x00"):
        answer = await here.sign_in(token=wrong)
        assert answer.status_code == 403
        assert not answer.cookies and wrong not in ("", *answer.headers.values())[1:]
    answer = await here.sign_in()
    assert answer.status_code == 429 and not answer.cookies
    here.clock.advance(door.WRONG_WINDOW_S + 1)
    answer = await here.sign_in()
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and TOKEN not in cookie


async def test_forged_cookies_and_those_of_another_token_are_nobody(here: Page) -> None:
    other = Door(settings.Dashboard(), "another-token-of-16-signs", ManualClock())
    for value in ("x", '["1","anna"]', other.enter("anna", "another-token-of-16-signs", "a") or "", "a.b.c"):
        here.client.cookies.set("pilot_8780", value)
        answer = await here.get("/actions/pause")
        assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in?next=")
        assert (await here.post("/actions/pause", reason="x", form="", about="")).status_code == 403
    assert here.told == []


async def test_session_ends_with_its_time(here: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"cookie": (await here.sign_in()).headers["set-cookie"].partition(";")[0]}
    here.client.cookies.clear()
    assert (await here.get("/actions/pause", **kept)).status_code == 200
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 43_300)
    assert (await here.get("/actions/pause", **kept)).status_code == 303


async def test_sign_in_goes_on_to_pages_of_ours_only(here: Page) -> None:
    for goal, wanted in (
        ("/actions/pause", "/actions/pause"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
    ):
        answer = await here.post("/sign-in", operator="anna", token=TOKEN, next=goal)
        assert (answer.status_code, answer.headers["location"]) == (303, wanted)
    nameless = await here.post("/sign-in", operator=" \u202e ", token=TOKEN, next="/")
    assert nameless.status_code == 422 and not nameless.cookies


# ── acting ──────────────────────────────────────────────────────────────────


async def test_pause_says_what_follows_wants_a_reason_and_is_recorded_by_name(here: Page) -> None:
    await here.sign_in("anna")
    fields = await here.form_of("/actions/pause")
    asked = await here.get("/actions/pause")
    assert "No new order is sent until an operator resumes." in text_of(asked)
    assert asked.headers["cache-control"] == "no-store"
    for reason in ("", "   "):
        assert (await here.post("/actions/pause", reason=reason, **fields)).status_code == 422
    assert here.told == []
    answer = await here.post("/actions/pause", reason="before the news", **fields)
    assert answer.status_code == 200 and "Applied" in text_of(answer)
    halts = here.store.read.halts()
    assert [halt.reason for halt in halts] == ["operator: anna: before the news"]
    assert halts[0].raised_by == "dashboard.1"


async def test_form_does_nothing_twice_nor_anything_else(here: Page) -> None:
    await here.sign_in()
    fields = await here.form_of("/actions/pause")
    other = await here.post("/actions/flatten", reason="x", **fields)
    assert other.status_code == 409 and "made for something else" in other.text
    assert (await here.post("/actions/pause", reason="x", **fields)).status_code == 200
    again = await here.post("/actions/pause", reason="x", **fields)
    assert again.status_code == 409 and "does nothing twice" in again.text
    assert [type(one) for one in here.told] == [messages.Pause]


async def test_form_of_another_session_or_of_long_ago_does_nothing(here: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    await here.sign_in("anna")
    fields = await here.form_of("/actions/pause")
    await here.sign_in("ben")
    assert (await here.post("/actions/pause", reason="x", **fields)).status_code == 409
    fields = await here.form_of("/actions/pause")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 700)
    late = await here.post("/actions/pause", reason="x", **fields)
    assert late.status_code == 409 and "too old" in late.text
    assert here.told == []


async def test_resume_lifts_what_was_shown_and_nothing_that_came_since(here: Page) -> None:
    await here.sign_in()
    here.store.tell(PEERS[Role.PILOT], messages.Pause(operator="me", reason="first"))
    fields = await here.form_of("/actions/resume")
    here.store.tell(PEERS[Role.MONITOR], messages.RaiseHalt(level="hard", reason="max_drawdown: near", flatten=True))
    answer = await here.post("/actions/resume", reason="done", **fields)
    assert answer.status_code == 200
    assert [halt.reason for halt in here.store.read.halts()] == ["max_drawdown: near"]
    assert "No halt stands" not in text_of(await here.get("/actions/resume"))


async def test_cancel_and_close_are_for_one_intent_and_refusals_are_said(here: Page) -> None:
    await here.sign_in()
    opened = here.store.opened(EXECUTOR)
    waiting = here.store.pending(symbol="GBPUSD")
    fields = await here.form_of(f"/actions/cancel?about={waiting.id}")
    swapped = await here.post("/actions/cancel", reason="x", form=fields["form"], about=opened.id)
    assert swapped.status_code == 409 and here.told == []
    fields = await here.form_of(f"/actions/cancel?about={waiting.id}")
    assert (await here.post("/actions/cancel", reason="x", **fields)).status_code == 200
    assert here.store.intent(waiting.id).status == "cancelled"

    assert "cannot be taken back" in text_of(await here.get(f"/actions/cancel?about={opened.id}"))
    fields = await here.form_of(f"/actions/close?about={opened.id}")
    assert (await here.post("/actions/close", reason="enough", **fields)).status_code == 200
    assert here.store.read.closing(opened.id).operator == "anna"
    assert "closing" in text_of(await here.get("/"))
    assert "no open position" in text_of(await here.get(f"/actions/close?about={waiting.id}"))


async def test_flatten_names_what_is_open(here: Page) -> None:
    await here.sign_in()
    here.store.opened(EXECUTOR)
    assert "Of ours there are now: BUY 0.10 EURUSD." in text_of(await here.get("/actions/flatten"))
    fields = await here.form_of("/actions/flatten")
    assert (await here.post("/actions/flatten", reason="out", **fields)).status_code == 200
    assert here.store.read.halts()[0].flatten


async def test_store_that_does_not_answer_is_an_outcome_nobody_knows(here: Page) -> None:
    await here.sign_in()
    fields = await here.form_of("/actions/pause")
    here.is_silent = True
    answer = await here.post("/actions/pause", reason="x", **fields)
    assert answer.status_code == 504
    assert "It may have been done all the same" in text_of(answer)


async def test_unknown_action_is_not_found(here: Page) -> None:
    await here.sign_in()
    assert (await here.get("/actions/attest")).status_code == 404
    assert (await here.post("/actions/attest", reason="x", form="x", about="")).status_code == 404


async def test_signing_out_ends_it(here: Page) -> None:
    await here.sign_in()
    assert (await here.post("/sign-out")).status_code == 303
    assert (await here.get("/actions/pause")).status_code == 303


# ── beyond this machine ─────────────────────────────────────────────────────


async def test_beyond_loopback_the_whole_page_needs_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_page(tmp_path, monkeypatch, host="10.0.0.5", hosts=("pilot.example",)) as here:
        host = {"host": "pilot.example"}
        for path in ("/", "/intents", "/alerts", "/events?page=/", "/actions/pause"):
            assert (await here.get(path, accept="text/html", **host)).status_code == 303, path
            assert (await here.get(path, **host)).status_code == 401, path
        assert (await here.get("/assets/page.css", **host)).status_code == 200
        assert (await here.get("/", authorization="Bearer wrong", **host)).status_code == 401
        assert (await here.get("/", authorization=f"Bearer {TOKEN}", **host)).status_code == 200
        origin = {"origin": "http://pilot.example", **host}
        assert (await here.post("/sign-in", origin, operator="anna", token=TOKEN, next="/")).status_code == 303
        assert (await here.get("/", host="127.0.0.1")).status_code == 421


@pytest.mark.parametrize(
    ("changes", "token", "words"),
    [
        ({"host": "0.0.0.0"}, "", "without a token in PILOT_DASHBOARD_TOKEN only 127.0.0.1"),  # noqa: S104
        ({"host": "192.168.1.4"}, "", "anybody who reaches that address"),
        ({"host": "0.0.0.0"}, TOKEN, "dashboard.hosts is empty"),  # noqa: S104
        ({}, "short", "allowed: 16 or more"),
    ],
)
def test_settings_that_would_show_the_account_to_anybody_are_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], token: str, words: str
) -> None:
    monkeypatch.setenv("PILOT_DASHBOARD_TOKEN", token)
    with pytest.raises(ConfigError, match=words) as refused:
        door.token_of(settings.Dashboard(**changes))
    assert not token or token not in str(refused.value).replace("PILOT_DASHBOARD_TOKEN", "")


def test_memory_of_wrong_tokens_and_used_forms_is_bounded() -> None:
    found = Door(settings.Dashboard(), TOKEN, ManualClock())
    for number in range(door.ADDRESSES_MAX + 50):
        assert not found.is_right("wrong", f"10.0.0.{number}")
    assert len(found._wrong) == door.ADDRESSES_MAX
    session = door.Session(id="s", operator="anna")
    for _ in range(door.USED_FORMS_MAX + 5):
        assert found.refusal_of(found.form(session, "pause"), session, "pause", "") == ""
    assert len(found._used) == door.USED_FORMS_MAX
