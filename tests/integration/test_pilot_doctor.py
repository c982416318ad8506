"""`pilot doctor` over real sockets: every failure told with its fix, the exit code of its class, nothing written."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from actors.analysts import roles
from actors.compliance import day as days
from actors.compliance import rulebook
from actors.console import findings, machine, outside
from bus import messages
from bus.clock import SystemClock
from bus.messages import Peer
from bus.vocabulary import Outcome, Role
from config import load, settings
from store.certificate import Gate
from tests.kit import paper, scripted, trader_cards
from tests.kit.desk import MONITOR, StoreHere
from tests.kit.gate import DEFAULT_RULES, an_open_gate, keep_days
from tests.kit.llm_server import LlmServer, json_step
from tests.kit.real_store import Ended, pilot
from tests.kit.scripted import HANG, Server, a_login, an_instrument, reply

HTML = b"<!DOCTYPE html><html><body>Attention Required!</body></html>"
PASSWORD = "s3cret-of-nobody"
PILOT = Peer(Role.PILOT, 1, "eeeeeeeeeeee")


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="pt"))
    (found / "run").mkdir(mode=0o700)
    monkeypatch.setenv("PILOT_DATA", str(found / "data"))
    monkeypatch.setenv("PILOT_RUN", str(found / "run"))
    monkeypatch.setenv("PILOT_BROKER_PASSWORD", PASSWORD)
    for name in ("PILOT_READONLY", "PILOT_TELEGRAM_TOKEN", "PILOT_TELEGRAM_CHAT"):
        monkeypatch.delenv(name, raising=False)
    yield found
    shutil.rmtree(found)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A broker with whom all is well: account 7 in USD, one symbol, no position."""
    async with scripted.serving() as found:
        found.on("/mtr-login", login())
        found.on("/balance", balance())
        found.on(
            "/quotations",
            reply(200, [{"symbol": "EURUSD.", "bid": "1.1", "ask": "1.1", "timestampMs": 1_771_234_200_000}]),
        )
        found.on("/open-positions", reply(200, {"positions": []}))
        yield found


def login(ahead_s: float = 0.0, account: str = "7") -> bytes:
    return reply(
        200, a_login(account), Date=format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)
    )


def balance(**changes: Any) -> bytes:
    usual = {"balance": "50000.00", "equity": "50000.00", "margin": "0", "freeMargin": "50000.00", "currency": "USD"}
    return reply(200, usual | changes)


def profile(folder: Path, server: Server, *, more: str = "", **broker: Any) -> Path:
    """Write a live profile that leads to the script."""
    values = {
        "kind": "platform", "base_url": f"http://127.0.0.1:{server.port}", "email": "a@b.example", "account_id": "7",
        "broker_id": "2", "connect_timeout_s": 0.3, "request_timeout_s": 0.3,
    } | broker  # fmt: skip
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
    path = folder / "mine.toml"
    head = 'symbols = ["EURUSD", "GBPUSD"]\n[scanner]\ntop_k = 1\n'
    path.write_text(f"{head}[broker]\n{lines}\n{more}")
    return path


async def doctor(path: Path, *arguments: str) -> Ended:
    return await asyncio.to_thread(pilot, "--profile", str(path), "doctor", *arguments)


async def report(path: Path) -> tuple[int, dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Return the exit code, the findings by check, and all of the JSON."""
    ended = await doctor(path, "--json")
    assert PASSWORD not in ended.stdout + ended.stderr
    said = json.loads(ended.stdout)
    assert said["exit_code"] == ended.returncode
    by_check: dict[str, list[dict[str, Any]]] = {}
    for one in said["findings"]:
        assert one["state"] == "ok" or one["fix"]  # whatever is wrong is told with what to do
        by_check.setdefault(one["check"], []).append(one)
    return ended.returncode, by_check, said


@contextlib.contextmanager
def a_store() -> Iterator[StoreHere]:
    """The store of account 7 in the data folder."""
    path = load.data_folder() / "decisions.db"
    with contextlib.closing(StoreHere(path, SystemClock(), an_open_gate(account_id="7"))) as found:
        yield found


def two_symbols() -> bytes:
    pound = an_instrument(symbol="GBPUSD.", baseCurrency="GBP")
    return reply(200, [an_instrument(), pound])


# ── refusals ────────────────────────────────────────────────────────────────


async def test_refused_password_is_tried_once_and_nothing_is_asked_after_it(folder: Path, server: Server) -> None:
    server.on("/mtr-login", reply(401, {"error": f"no such login {PASSWORD}"}))
    code, found, said = await report(profile(folder, server))
    assert (code, found["login"][0]["code"], said["requests"]) == (77, 77, 2)
    assert "PILOT_BROKER_PASSWORD" in found["login"][0]["fix"]
    assert (server.count("/mtr-login"), len(found["login"]), "account" in found) == (1, 1, False)


@pytest.mark.parametrize(
    ("details", "told"),
    [
        ({"partnerId": "5", "brokerName": "x"}, "logins at this address name '5'"),
        ({"partnerId": 2}, None), ({"brokerName": "x"}, None), ([], None),
    ],
)  # fmt: skip
async def test_login_in_the_name_of_another_broker_is_told_from_a_wrong_password(
    folder: Path, server: Server, details: Any, told: str | None
) -> None:
    server.on("/mtr-login", reply(401, {}))
    server.on("/platform-details", reply(200, details))
    code, found, _ = await report(profile(folder, server))
    said = [one["found"] for one in found["login"][1:]]
    assert code == 77 and len(said) == (told is not None)
    assert told is None or (told in said[0] and "broker.broker_id = '5'" in found["login"][1]["fix"])


async def test_token_that_is_refused_at_once_costs_one_more_login_and_no_more(folder: Path, server: Server) -> None:
    server.on("/balance", reply(401, {}))
    code, found, said = await report(profile(folder, server))
    assert (code, found["account"][0]["code"], said["requests"]) == (77, 77, 4)
    assert (server.count("/mtr-login"), "symbols" in found) == (2, False)
    assert "its own token" in found["account"][0]["fix"]


async def test_secret_that_the_broker_quotes_back_is_blotted_out(folder: Path, server: Server) -> None:
    server.on("/mtr-login", reply(404, {"said": PASSWORD}))
    _, found, _ = await report(profile(folder, server))
    assert '{"said": "***"}' in found["login"][0]["found"]


async def test_login_of_another_account_is_refused_and_the_known_ones_are_named(folder: Path, server: Server) -> None:
    server.on("/mtr-login", login(account="8"))
    code, found, _ = await report(profile(folder, server))
    assert code == 77
    assert "'7' is not among the accounts of this login: 1, 8" in found["login"][0]["found"]
    assert "broker.account_id" in found["login"][0]["fix"]


async def test_page_of_the_content_network_is_not_taken_for_a_wrong_password(folder: Path, server: Server) -> None:
    server.on("/mtr-login", reply(403, HTML, "text/html"))
    code, found, _ = await report(profile(folder, server))
    assert code == 69
    assert found["login"][0]["fix"].startswith("not the password")


@pytest.mark.parametrize(
    ("answer", "code", "word"),
    [(HANG, 69, "Try again"), (reply(404, b"{}"), 78, "login_path"), (reply(200, HTML, "text/html"), 69, "login_path")],
)
async def test_login_that_is_none_names_what_to_look_at(
    folder: Path, server: Server, answer: bytes, code: int, word: str
) -> None:
    server.on("/mtr-login", answer)
    ended, found, _ = await report(profile(folder, server))
    assert (ended, len(server.asked)) == (code, 1)
    assert word in found["login"][0]["fix"]


async def test_broker_that_is_away_is_unreachable(folder: Path) -> None:
    code, found, _ = await report(profile(folder, Server(port=9)))
    assert (code, "Connect" in found["login"][0]["found"]) == (69, True)


@pytest.mark.parametrize(("ahead_s", "way"), [(-300.0, "ahead of"), (300.0, "behind")])
async def test_clock_far_from_the_brokers_is_a_failure(folder: Path, server: Server, ahead_s: float, way: str) -> None:
    server.on("/mtr-login", login(ahead_s))
    code, found, _ = await report(profile(folder, server))
    assert (code, found["clock"][0]["state"]) == (78, "fail")
    assert f"s {way} the broker's; allowed: 30" in found["clock"][0]["found"]
    assert "timedatectl" in found["clock"][0]["fix"]


async def test_missing_symbol_is_named(folder: Path, server: Server) -> None:
    code, found, _ = await report(profile(folder, server))
    assert (code, found["symbols"][0]["state"]) == (78, "fail")
    assert "does not list GBPUSD" in found["symbols"][0]["found"]


@pytest.mark.parametrize(
    ("changes", "check", "word"),
    [({"currency": "EUR"}, "account", "account in USD"), ({"balance": "5000"}, "balance", "another account")],
)
async def test_account_that_the_rules_are_not_for_is_a_failure(
    folder: Path, server: Server, changes: dict[str, str], check: str, word: str
) -> None:
    server.on("/balance", balance(**changes))
    code, found, _ = await report(profile(folder, server))
    assert (code, found[check][0]["state"]) == (78, "fail")
    assert word in found[check][0]["found"]


async def test_all_failures_are_told_at_once_and_the_first_to_mend_decides_the_code(
    folder: Path, server: Server
) -> None:
    server.on("/mtr-login", login(-300.0))
    server.on("/balance", reply(500, {}))
    server.on("/open-positions", reply(502, HTML, "text/html"))
    code, found, _ = await report(profile(folder, server))
    failed = {check for check, rows in found.items() if any(row["state"] == "fail" for row in rows)}
    assert (code, failed) == (78, {"clock", "account", "symbols", "positions"})


async def test_delivered_placeholders_and_missing_secret_are_told_and_no_login_is_tried(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PILOT_BROKER_PASSWORD")
    code, found, said = await report(profile(folder, server, account_id="set-me", email="you@example.invalid"))
    assert (code, said["requests"], server.asked) == (78, 0, [])
    assert [row["state"] for row in found["settings"]] == ["ok", "fail", "fail"]
    assert "PILOT_BROKER_PASSWORD" in found["secrets"][0]["fix"]
    assert found["broker"][0]["found"].startswith("not asked")


async def test_password_never_leaves_this_machine_unencrypted(folder: Path, server: Server) -> None:
    code, found, said = await report(profile(folder, server, base_url="http://broker.example"))
    assert (code, said["requests"]) == (78, 0)
    assert "unencrypted" in found["settings"][0]["found"]


async def test_env_file_that_others_can_read_does_not_hide_the_other_failures(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = profile(folder, server)
    monkeypatch.setattr(load, "ROOT", folder)
    (folder / ".env").write_text(f"PILOT_BROKER_PASSWORD={PASSWORD}\n")
    (folder / ".env").chmod(0o644)
    code, found, _ = await report(path)
    assert (code, server.asked) == (78, [])
    assert found[".env"][0]["fix"].startswith("chmod 600")
    assert {"settings", "read-only", "packages"} <= found.keys()


async def test_unknown_profile_still_has_the_machine_looked_at(folder: Path) -> None:
    code, found, _ = await report(folder / "none.toml")
    assert (code, found["settings"][0]["state"], found["python"][0]["state"]) == (78, "fail", "ok")


async def test_requests_kept_for_closing_are_not_spent_on_looking(folder: Path, server: Server) -> None:
    with a_store() as store:
        today = days.firm_days(rulebook.load(DEFAULT_RULES), store.clock.now())[0].day
        spent = store.apply(MONITOR, messages.GrantRequests(day=today, reads=1_943, writes=0))
        assert spent.outcome is Outcome.APPLIED
        code, found, said = await report(profile(folder, server))
    assert (code, said["requests"], server.asked) == (69, 0, [])
    assert found["requests"][0]["found"] == "1943 of 2000 granted today; 7 left beside 50 for closing"


async def test_rules_are_attested_only_as_they_stand_and_for_this_account(folder: Path, server: Server) -> None:
    server.on("/effective-instruments", two_symbols())
    path, rules = profile(folder, server), rulebook.load(DEFAULT_RULES)
    with a_store() as store:
        _, found, _ = await report(path)
        assert (found["attested"][0]["state"], "pilot attest" in found["attested"][0]["fix"]) == ("warn", True)
        word = messages.Attest(
            operator="ann", account_id="7", rules=rules.name, rules_hash=rules.fingerprint, text="compared"
        )
        assert store.apply(PILOT, word).outcome is Outcome.APPLIED
        code, found, _ = await report(path)
        assert (code, found["attested"][0]["state"], found["requests"][0]["state"]) == (0, "ok", "ok")


async def test_database_of_another_account_fails_and_its_positions_are_nobodys(folder: Path, server: Server) -> None:
    server.on("/effective-instruments", two_symbols())
    path = load.data_folder() / "decisions.db"
    with contextlib.closing(StoreHere(path, SystemClock(), an_open_gate())) as store:
        keep_days(store.db, an_open_gate(), SystemClock().now())
        store.opened(store.reserve(), "p1")
        code, found, _ = await report(profile(folder, server))
        wanted = (
            "this database belongs to account PAPER-1; broker.account_id is 7: set PILOT_DATA to a folder of its own"
        )
        told = [one for one in found["database"] if one["code"] == 78]
        assert (code, len(told), wanted in told[0]["found"]) == (78, 1, True)
        ended = await asyncio.to_thread(pilot, "--profile", str(folder / "mine.toml"), "status")
        assert wanted in " ".join(ended.stderr.split())


# ── warnings and all well ───────────────────────────────────────────────────


async def test_real_paper_broker_is_well_and_costs_five_requests(folder: Path) -> None:
    async with paper.running(folder / "paper") as broker:
        there = Server(port=int(broker.url.rpartition(":")[2]))
        path = profile(
            folder, there, kind="paper", email=broker.settings.email, account_id=broker.settings.account_id,
            broker_id=broker.settings.broker_id, request_timeout_s=2.0,
        )  # fmt: skip
        code, found, said = await report(path)
        assert (code, said["requests"]) == (0, 5), said
        checks = ("login", "clock", "account", "symbols", "sessions", "prices", "balance", "positions")
        assert {found[check][0]["state"] for check in checks} == {"ok"}


async def test_nothing_is_written_and_what_should_be_looked_at_is_a_warning(folder: Path, server: Server) -> None:
    server.on("/effective-instruments", two_symbols())
    row = {
        "id": "p9", "symbol": "EURUSD.", "volume": "1", "side": "BUY", "openPrice": "1.1", "currentPrice": "1.1",
        "profit": "0", "netProfit": "0", "openTimeMillis": 1_700_000_000_000,
    }  # fmt: skip
    server.on("/open-positions", reply(200, {"positions": [row]}))
    code, found, _ = await report(profile(folder, server))
    assert code == 0
    assert found["database"][0]["state"] == found["rules"][1]["state"] == "warn"
    assert "belong to no intent: p9" in found["positions"][0]["found"]
    assert "no price for GBPUSD" in found["prices"][0]["found"]
    writes = [one.path for one in server.asked if one.method != "GET" and not one.path.endswith("/mtr-login")]
    assert writes == []


async def test_lines_fit_a_narrow_terminal_and_hold_every_fix(folder: Path, server: Server) -> None:
    ended = await doctor(profile(folder, server))
    assert ended.returncode == 78
    assert max(len(line) for line in ended.stdout.splitlines()) <= 80
    assert "\x1b" not in ended.stdout
    assert "-> take them out of symbols in the profile" in ended.stdout
    assert "5 requests went to the broker" in ended.stdout


async def test_reading_only_is_said(folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.on("/effective-instruments", two_symbols())
    monkeypatch.setenv("PILOT_READONLY", "1")
    code, found, _ = await report(profile(folder, server))
    assert (code, found["read-only"][0]["state"], found["login"][0]["state"]) == (0, "warn", "ok")


@pytest.mark.parametrize(
    ("model", "status", "code", "state"), [("m", 200, 0, "ok"), ("other", 200, 0, "warn"), ("m", 401, 78, "fail")]
)
async def test_language_model_is_asked_once_for_its_models(
    folder: Path, server: Server, model: str, status: int, code: int, state: str
) -> None:
    server.on("/effective-instruments", two_symbols())
    async with LlmServer() as endpoint:
        endpoint.models = json_step({"data": [{"id": model}]}, status)
        more = f'[llm]\nanalyst = "openai"\nbase_url = "{endpoint.url}"\nmodel = "m"\n'
        ended, found, _ = await report(profile(folder, server, more=more))
        assert (ended, found["llm"][0]["state"]) == (code, state)
        assert [request.method for request in endpoint.requests] == ["GET"]


async def test_language_model_that_is_away_is_unreachable(folder: Path, server: Server) -> None:
    server.on("/effective-instruments", two_symbols())
    more = '[llm]\nanalyst = "openai"\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\n'
    code, found, _ = await report(profile(folder, server, more=more))
    assert (code, found["llm"][0]["code"]) == (69, 69)


async def test_each_endpoint_of_a_panel_is_asked_and_a_wrong_file_of_it_is_said(folder: Path, server: Server) -> None:
    server.on("/effective-instruments", two_symbols())
    async with LlmServer() as first, LlmServer() as second:
        first.models = second.models = json_step({"data": [{"id": "m"}]})
        more = '[llm]\nanalyst = "panel"\nbriefing_path = "/nowhere/briefing.md"\n[llm.roles]\n'
        more += "".join(f'{role} = "{"b" if role == "judge" else "a"}"\n' for role in roles.MAY_SEE)
        for name, endpoint in (("a", first), ("b", second)):
            more += f'[llm.endpoints.{name}]\nbase_url = "{endpoint.url}"\nmodel = "m"\n'
        code, found, _ = await report(profile(folder, server, more=more))
    assert (code, [one["state"] for one in found["llm"]]) == (78, ["ok", "ok", "fail"])
    assert "/nowhere/briefing.md" in found["llm"][2]["found"]
    assert [len(first.requests), len(second.requests)] == [1, 1]


# ── single checks ───────────────────────────────────────────────────────────


def test_package_of_another_with_one_of_our_names_is_a_failure() -> None:
    ours = {"supervisor": ["prop-firm-pilot"], "config": ["prop-firm-pilot", "config"], "tests": ["rude"]}
    found = machine.packages(ours, lambda name: load.ROOT / name)
    assert [(one.state, one.fix) for one in found] == [
        ("fail", "pip uninstall config"), ("warn", "run `make test` only without it: pip uninstall rude"),
    ]  # fmt: skip
    elsewhere = machine.packages({}, lambda name: Path("/usr/lib") / name if name == "supervisor" else load.ROOT / name)
    assert [one.state for one in elsewhere] == ["fail"]


@pytest.mark.parametrize(("free", "state"), [(199_999_999, "fail"), (200_000_000, "warn"), (1_000_000_000, "ok")])
def test_space_on_disk_has_two_limits(free: int, state: str) -> None:
    assert machine.disk(Path("/x"), free).state == state


@pytest.mark.parametrize(
    ("second", "state"), [("00", "ok"), ("06", "ok"), ("09", "warn"), ("45", "fail"), ("", "warn")]
)
def test_what_the_journey_may_explain_is_no_skew(second: str, state: str) -> None:
    at = datetime(2026, 11, 2, 12, tzinfo=UTC)
    dated = f"Mon, 02 Nov 2026 12:00:{second} GMT" if second else ""
    assert outside.clock(dated, at, at + timedelta(seconds=1.0), 30.0).state == state


def test_worst_class_decides_and_warnings_do_not() -> None:
    warned = findings.warn("a", "b", "c")
    away, refused = findings.fail("a", "b", "c", 69), findings.fail("a", "b", "c", 77)
    assert findings.exit_code([warned]) == 0
    assert findings.exit_code([away, warned]) == 69
    assert findings.exit_code([away, refused]) == 77
    assert findings.exit_code([away, refused, findings.fail("a", "b", "c")]) == 78


# ── over the Trader API ─────────────────────────────────────────────────────

TOKEN = "t0ken-of-nobody"


@pytest.fixture
async def trader(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The same broker, spoken to with a token."""
    monkeypatch.setenv("PILOT_BROKER_TOKEN", TOKEN)
    monkeypatch.delenv("PILOT_BROKER_PASSWORD")
    server.on("/v1/account", reply(200, trader_cards.ACCOUNT, Date=format_datetime(datetime.now(UTC), usegmt=True)))
    server.on("/v1/instruments", reply(200, {"instruments": json.loads(two_symbols().partition(b"\r\n\r\n")[2])}))
    prices = [
        {"symbol": f"{name}.", "bid": "1.1", "ask": "1.1", "timestampMs": 1_771_234_200_000}
        for name in ("EURUSD", "GBPUSD")
    ]
    server.on("/v1/quotes", reply(200, {"quotes": prices}))
    server.on("/v1/positions", reply(200, {"positions": []}))
    return server


async def test_account_over_the_trader_api_is_looked_at_with_its_token(folder: Path, trader: Server) -> None:
    _, found, said = await report(profile(folder, trader, kind="trader"))
    assert [found[name][0]["state"] for name in ("secrets", "login", "account", "symbols", "prices", "positions")] == [
        "ok"
    ] * 6
    assert (found["secrets"][0]["found"], said["requests"]) == ("PILOT_BROKER_TOKEN is set", 5)
    assert {one.method for one in trader.asked} == {"GET"}
    assert {one.headers["authorization"] for one in trader.asked} == {f"Bearer {TOKEN}"}
    assert "attested" not in found or found["attested"][0]["state"] != "ok"


async def test_token_that_is_missing_or_refused_is_told_with_its_variable(
    folder: Path, trader: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    trader.on("/v1/account", reply(401, trader_cards.problem(401, "unauthorized", detail=f"not {TOKEN}")))
    code, found, said = await report(profile(folder, trader, kind="trader"))
    assert (code, said["requests"]) == (77, 1)
    assert "token into PILOT_BROKER_TOKEN" in found["login"][0]["fix"]
    assert TOKEN not in json.dumps(said)
    monkeypatch.delenv("PILOT_BROKER_TOKEN")
    code, found, said = await report(profile(folder, trader, kind="trader"))
    assert (code, said["requests"]) == (78, 0)
    assert "PILOT_BROKER_TOKEN" in found["secrets"][0]["found"]


async def test_path_that_is_wrong_is_told_as_a_setting(folder: Path, trader: Server) -> None:
    trader.on("/v1/instruments", reply(404, trader_cards.problem(404, "not-found")))
    _, found, _ = await report(profile(folder, trader, kind="trader"))
    assert "[broker.trader]" in found["symbols"][0]["fix"]


def test_live_account_over_either_api_needs_an_attestation() -> None:
    for kind, needs in (("paper", False), ("platform", True), ("trader", True)):
        assert settings.Broker(kind=kind).is_live is needs  # type: ignore[arg-type]
    found = settings.Settings(profile="x", broker=settings.Broker(kind="trader"))
    assert Gate.load(found)._needs_attestation
