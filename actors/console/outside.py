"""The checks of `pilot doctor` that ask somebody: the broker's account, and the endpoint of the language model.

Used by pilot only. Reads, never writes: the budget below has nothing to pay a write with. At most `REQUESTS_MAX`
requests go to the broker; after a refused login none follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from actors.analysts import briefing, chat, endpoints, roles
from actors.broker import factory
from actors.broker.account import Account
from actors.broker.client import BrokerClient
from actors.broker.errors import Blocked, BrokerError, BudgetSpent, Refused, Unauthorised, Unreadable
from actors.broker.wire import Balance, Instrument
from actors.compliance import day as days
from actors.compliance.money import amount
from actors.compliance.rulebook import RuleSet
from actors.console import findings, sessions
from actors.console.findings import LOGIN_REFUSED, UNREACHABLE, Finding
from actors.watch import ladder
from bus.clock import Clock
from config.load import ConfigError
from config.settings import Broker, Llm, LlmEndpoint, Settings

REQUESTS_MAX = 8  # five when nothing goes wrong: login, balance, instruments, quotes, positions
SKEW_S_WARN = 5.0
DATE_STEP_S = 1.0  # the Date header has whole seconds
LLM_S = 15.0


class Counted:
    """Pays for `REQUESTS_MAX` reads and for nothing else."""

    def __init__(self) -> None:
        self.reads = 0

    async def pay_read(self) -> None:
        if self.reads >= REQUESTS_MAX:
            raise BudgetSpent(f"this command makes at most {REQUESTS_MAX} requests")
        self.reads += 1

    async def pay_write(self) -> None:
        raise BudgetSpent("this command writes nothing")

    def pay_order(self) -> None:
        raise BudgetSpent("this command writes nothing")


class Stopped(Exception):
    """There is no sense in asking the broker for more: what was found already says why."""


class Visit:
    """One look at the account, check after check. `found` is what there is to say, `requests` what it cost."""

    def __init__(
        self, settings: Settings, rules: RuleSet | None, password: str, *, clock: Clock, owned_ids: Collection[str]
    ) -> None:
        """`owned_ids` are the open positions that our intents own."""
        self._settings = settings
        self._rules = rules
        self._password = password
        self._clock = clock
        self._owned_ids = owned_ids
        self._budget = Counted()
        self.found: list[Finding] = []

    @property
    def requests(self) -> int:
        """How many requests were made."""
        return self._budget.reads

    async def make(self) -> None:
        """Look at everything that can be looked at; a failed check keeps no other from being made."""
        if (wrong := address(self._settings.broker)) is not None:
            self.found.append(wrong)
            return
        try:
            async with factory.account(self._settings.broker, self._password, self._clock, self._budget) as client:
                await self._login(client)
                for check, look in (
                    ("account", self._account), ("symbols", self._symbols), ("prices", self._prices),
                    ("positions", self._positions),
                ):  # fmt: skip
                    await self._asked(check, look, client)
        except Stopped:
            return
        except (ConfigError, httpx.InvalidURL) as error:
            self.found.append(findings.fail("broker", str(error), "put it right in the profile or in .env"))

    async def _asked(self, check: str, look: Callable[[Account], Awaitable[None]], client: Account) -> None:
        try:
            await look(client)
        except BrokerError as error:
            self.found.append(failed(check, error, self._settings.broker))
            if isinstance(error, (Unauthorised, Blocked, BudgetSpent)):
                raise Stopped from error

    async def _login(self, client: Account) -> None:
        before = self._clock.now()
        try:
            await client.login()
        except BrokerError as error:
            self.found.append(failed("login", error, self._settings.broker))
            if isinstance(error, Unauthorised) and isinstance(client, BrokerClient):
                await self._broker_id(client)
            raise Stopped from error
        after = self._clock.now()
        broker = self._settings.broker
        self.found.append(findings.ok("login", f"account {broker.account_id} at {broker.base_url}"))
        self.found.append(clock(client.dated, before, after, self._settings.executor.quote_age_s_max))

    async def _broker_id(self, client: BrokerClient) -> None:
        """Say whether a login was refused because it named another broker. Silence where the broker does not tell."""
        given = self._settings.broker.broker_id
        try:
            wanted = await client.partner_id()
        except BrokerError:
            return
        if wanted != given:
            said = f"broker.broker_id was {given!r}; logins at this address name {wanted!r}"
            self.found.append(findings.fail("login", said, f"set broker.broker_id = {wanted!r}", LOGIN_REFUSED))

    async def _account(self, client: Account) -> None:
        self.found += account(self._rules, await client.balance(), self._settings.broker.account_id)

    async def _symbols(self, client: Account) -> None:
        listed, wanted = await client.instruments(), self._settings.symbols
        zones = [] if self._rules is None else [reading.tz for reading in days.readings(self._rules)]
        self.found += symbols(wanted, listed)
        self.found += sessions.check(wanted, listed, self._clock.now(), zones, self._settings.compliance.holidays)

    async def _prices(self, client: Account) -> None:
        listed = await client.instruments(float("inf"))
        wanted = [symbol for symbol in self._settings.symbols if symbol in listed]
        if not wanted:
            return  # told by the symbols
        quotes = await client.quotes(wanted)
        if missing := [symbol for symbol in wanted if symbol not in quotes]:
            said = f"no price for {', '.join(missing)}"
            self.found.append(findings.warn("prices", said, "look again when their market is open"))
            return
        self.found.append(findings.ok("prices", f"all {len(wanted)} symbols have one"))

    async def _positions(self, client: Account) -> None:
        positions = await client.open_positions()
        foreign = [position.id for position in positions if position.id not in self._owned_ids]
        if foreign:
            said = f"{len(foreign)} of {len(positions)} open positions belong to no intent: {', '.join(foreign)}"
            fix = "close them at the broker, or set executor.orphans; they count against every limit"
            self.found.append(findings.warn("positions", said, fix))
        else:
            self.found.append(findings.ok("positions", f"{len(positions)} open, each an intent's"))


def address(broker: Broker) -> Finding | None:
    """Return what is wrong with the broker's address, or None. A password never leaves the machine in the clear."""
    try:
        where = urlsplit(broker.base_url)
        is_here = where.hostname in ("127.0.0.1", "::1", "localhost")
        is_fine = where.scheme in ("http", "https") and bool(where.hostname) and (where.port is None or where.port > 0)
    except ValueError:
        is_here = is_fine = False
    fix = "set broker.base_url to the address of the broker's terminal, https://..."
    if not is_fine:
        return findings.fail("broker", f"broker.base_url was {broker.base_url!r}: no address", fix)
    if where.scheme == "http" and not is_here:
        said = f"broker.base_url was {broker.base_url!r}: the password would leave unencrypted; not asked"
        return findings.fail("broker", said, fix)
    return None


def failed(check: str, error: BrokerError, broker: Broker) -> Finding:
    """Return what a request's end means, and what to do."""
    said = str(error)
    if isinstance(error, Unauthorised):
        if broker.account_id and f"{broker.account_id!r} is not among" in said:
            fix = "set broker.account_id to one of those, the one whose dashboard you compared"
        elif check != "login":
            fix = "it let us in and refuses its own token: see whether the account is active at the broker"
        else:
            what = "token" if broker.api == "trader" else "password"
            fix = f"put the right {what} into {broker.secret_env}; do not try often: accounts get locked"
        return findings.fail(check, said, fix, LOGIN_REFUSED)
    if isinstance(error, Blocked):
        fix = "not the password: log in with a browser from this machine, then ask the broker to allow its address"
        return findings.fail(check, said, fix, UNREACHABLE)
    if isinstance(error, Refused):
        more = "the paths in [broker.trader]" if broker.api == "trader" else "broker.login_path and broker.broker_id"
        fix = f"check broker.base_url, {more}"
        return findings.fail(check, said, fix)
    if isinstance(error, Unreadable):
        more = "the paths in [broker.trader]" if broker.api == "trader" else "broker.login_path"
        fix = f"this is not the API we know: check broker.base_url and {more}"
        return findings.fail(check, said, fix, UNREACHABLE)
    fix = f"is {broker.base_url} up, and this machine on the network? Try again in a minute"
    return findings.fail(check, said, fix, UNREACHABLE)


def clock(dated: str, before: datetime, after: datetime, skew_s_max: float) -> Finding:
    """Compare our clock with a Date header that came between two moments. What the journey may explain is no skew."""
    fix = "set this machine's clock: timedatectl set-ntp true"
    try:
        at = parsedate_to_datetime(dated)
    except (ValueError, TypeError):
        said = f"the broker sent no Date to compare with: {dated!r}"
        return findings.warn("clock", said, "compare it yourself: timedatectl status")
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    # The header names the second in which it was written: the true moment lies in [at, at + 1 s).
    ahead_s = (before - at).total_seconds() - DATE_STEP_S
    behind_s = (at - after).total_seconds()
    skew_s, way = (ahead_s, "ahead of") if ahead_s > behind_s else (behind_s, "behind")
    if skew_s > skew_s_max:
        said = f"{skew_s:.0f} s {way} the broker's; allowed: {skew_s_max:g}. Every price would look wrong"
        return findings.fail("clock", said, fix)
    if skew_s > SKEW_S_WARN:
        return findings.warn("clock", f"{skew_s:.0f} s {way} the broker's; wanted: {SKEW_S_WARN:g}", fix)
    return findings.ok("clock", f"as the broker's, to {SKEW_S_WARN:g} s")


def account(rules: RuleSet | None, balance: Balance, account_id: str) -> list[Finding]:
    """Compare the account with the one that the rules are for: its currency, and then what it holds."""
    said = f"balance {amount(balance.balance_cents)}, equity {amount(balance.equity_cents)} {balance.currency}"
    if rules is None:
        no_rules = f"{said}; there are no rules to compare it with"
        return [findings.warn("account", no_rules, "put the rules right first")]
    fix = "set compliance.rules, or broker.account_id, to what belongs together"
    doubt = ladder.doubt_of(rules, balance)
    if balance.currency != rules.account.currency:
        return [findings.fail("account", doubt, fix)]
    found = findings.ok("account", f"{account_id} in {balance.currency}")
    if doubt:
        return [found, findings.fail("balance", doubt, fix)]
    begins = f"the rules begin with {amount(rules.account.initial_balance_cents)}"
    return [found, findings.ok("balance", f"{said}; {begins}")]


def symbols(wanted: Collection[str], listed: dict[str, Instrument]) -> list[Finding]:
    """Check that every symbol of ours can be traded."""
    found = []
    if missing := [symbol for symbol in wanted if symbol not in listed]:
        said = f"the broker does not list {', '.join(missing)}, or lists it twice; it has {', '.join(sorted(listed))}"
        found.append(findings.fail("symbols", said, "take them out of symbols in the profile"))
    else:
        names = {listed[symbol].broker_symbol for symbol in wanted}
        found.append(findings.ok("symbols", f"all {len(wanted)} are listed, such as {min(names)}"))
    return found


async def language_model(settings: Settings, clock: Clock) -> list[Finding]:
    """Ask each endpoint for its models, once; costs no token. Nothing to say when the analyst needs none."""
    found = [await _endpoint(name, spec, settings.llm, clock) for name, spec in endpoints.specs(settings.llm).items()]
    if settings.llm.analyst == "panel":
        try:
            roles.load(settings.llm.roles_folder)
            briefing.read(settings.llm.briefing_path)
        except ConfigError as error:
            found.append(findings.fail("llm", str(error), "put the file right, or take its setting out"))
    return found


async def _endpoint(name: str, spec: LlmEndpoint, llm: Llm, clock: Clock) -> Finding:
    section = endpoints.section_of(name, llm)
    where, fix = spec.base_url, f"check {section}.base_url (it usually ends in /v1) and {section}.model"
    try:
        endpoint = endpoints.service(name, spec, llm, clock)
    except ConfigError as error:
        return findings.fail("llm", str(error), "put it right in the profile or in .env")
    try:
        async with asyncio.timeout(LLM_S):
            is_listed = await endpoint.lists_the_model()
    except ConfigError as error:
        return findings.fail("llm", str(error), f"put the right key into {spec.api_key_env}")
    except (httpx.HTTPError, httpx.InvalidURL, chat.ResponseTooLarge, TimeoutError) as error:
        said = f"{where}: {type(error).__name__} {error}".strip()
        return findings.fail("llm", said, "is it running? Intents wait for it", UNREACHABLE)
    finally:
        await endpoint.close()
    if is_listed:
        return findings.ok("llm", f"{spec.model} at {where}")
    return findings.warn("llm", f"{where} answered, but does not list the model {spec.model}", fix)
