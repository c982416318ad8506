"""A firm's rules as data: the structs of `config/rules/*.toml` and their checks. Pure but for `load`.

Holds no number of any firm. Every value of a file must name where it comes from, when that was checked and how sure
it is. Only `load` touches a file, through `config.load`.
"""

from __future__ import annotations

import functools
from datetime import date, time
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta, Struct

from actors.compliance import rule_checks
from config import load as config_load

Cents = Annotated[int, Meta(ge=1, le=10_000_000_000)]
ClockTime = Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
ClockTimeOrNone = Annotated[str, Meta(pattern=r"^(none|([01]\d|2[0-3]):[0-5]\d)$")]
MeasuredOn = Literal["equity", "lower_of_balance_and_equity"]
NOT_SOURCED = ("name", "title", "sources", "fingerprint")
STALE_DAYS = 90


class Table(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all tables: immutable, keyword-only, unknown keys refused."""


class Account(Table, frozen=True):
    """Which account the set is for. Currencies with two decimals only."""

    currency: Literal["USD", "EUR", "GBP"]
    initial_balance_cents: Cents


class Moment(Table, frozen=True):
    """A local time HH:MM in an IANA zone."""

    time: ClockTime
    tz: str

    @property
    def label(self) -> str:
        """Return it as `account_days.reset` keeps it, e.g. `00:00 Europe/Athens`."""
        return f"{self.time} {self.tz}"


class Reset(Table, frozen=True):
    """When the firm's day begins: local time HH:MM in an IANA zone.

    `also` are the other readings of what the firm says; all of them count, each in its stricter way, until one is
    `confirmed` and `also` is empty.
    """

    time: ClockTime
    tz: str
    confirmed: bool
    also: Annotated[tuple[Moment, ...], Meta(max_length=3)]


class Daily(Table, frozen=True):
    """The daily loss limit: `ratio` of `base`, counted down from the reference at the day's start.

    `kind` soft_pause: a breach ends the day; hard: the account; none: there is no such limit (`ratio` is "0").
    """

    kind: Literal["soft_pause", "hard", "none"]
    ratio: Decimal
    base: Literal["initial", "reference"]
    reference: Literal["balance", "higher_of_balance_and_equity"]
    measured_on: MeasuredOn
    breach_at: Literal["reach", "below"]


class Maximum(Table, frozen=True):
    """The maximum loss limit: `ratio` of the initial balance, below the initial balance or below the highest mark.

    `lock_at`: the floor rises no further than to the initial balance, or without end. `checked`: at every moment, or
    at the day's end only; we hold it at every moment either way.
    """

    kind: Literal["hard"]
    mode: Literal["static", "trailing_day_end", "trailing_closed", "trailing_intraday"]
    ratio: Decimal
    lock_at: Literal["initial", "none"]
    measured_on: MeasuredOn
    checked: Literal["live", "day_end"]
    breach_at: Literal["reach", "below"]


class Target(Table, frozen=True):
    """Profit targets as ratios of the initial balance, one per phase."""

    ratios: Annotated[tuple[Decimal, ...], Meta(min_length=1, max_length=5)]


class BestDay(Table, frozen=True):
    """How much of the profit one day may have.

    `cap`: no day above `ratio` of the profit target. `evaluation_share`: no day above `ratio` of the total profit when
    the target is reached. `payout_share`: the same when a payout is asked for. `raises_target`: a day above `ratio` of
    the target raises the target. `none`: no such rule (`ratio` is "0").
    """

    scope: Literal["cap", "evaluation_share", "payout_share", "raises_target", "none"]
    ratio: Decimal


class Days(Table, frozen=True):
    """How many days must be traded, and be profitable by `profitable_ratio` of the initial balance. 0: no such rule."""

    trading_min: Annotated[int, Meta(ge=0, le=366)]
    profitable_min: Annotated[int, Meta(ge=0, le=366)]
    profitable_ratio: Decimal


class Hold(Table, frozen=True):
    """The share of trades held shorter than `seconds_min` must stay below `short_share_max`.

    0 seconds: no such rule (`short_share_max` is "1").
    """

    seconds_min: Annotated[int, Meta(ge=0, le=86_400)]
    short_share_max: Decimal
    trades_min: Annotated[int, Meta(ge=1, le=1_000)]
    history_days: Annotated[int, Meta(ge=1, le=366)]


class Flat(Table, frozen=True):
    """When no position may be open, as local times in the zone of the reset; `none`: no such rule.

    From `daily_by` to `reopen_at` on every day; from `friday_by` on Friday until `reopen_at` on Monday.
    """

    daily_by: ClockTimeOrNone
    reopen_at: ClockTimeOrNone
    friday_by: ClockTimeOrNone


class News(Table, frozen=True):
    """No order within so many minutes before and after high-impact news of its currencies. 0: no such rule."""

    window_minutes: Annotated[int, Meta(ge=0, le=240)]


class Requests(Table, frozen=True):
    """Requests to the broker in one firm's day, all of them and writes alone; the reserves are only for closing."""

    per_day: Annotated[int, Meta(ge=1, le=10_000_000)]
    reserve: Annotated[int, Meta(ge=0, le=1_000_000)]
    writes_per_day: Annotated[int, Meta(ge=1, le=10_000_000)]
    writes_reserve: Annotated[int, Meta(ge=0, le=1_000_000)]


class Positions(Table, frozen=True):
    """How many positions may be open at once, and how many lots they may have together."""

    open_max: Annotated[int, Meta(ge=1, le=1_000)]
    lots_max: Decimal


class Safety(Table, frozen=True):
    """Our margins inside every limit: no new order beyond `stop_ratio`, everything closed beyond `flatten_ratio`."""

    stop_ratio: Decimal
    flatten_ratio: Decimal


class Costs(Table, frozen=True):
    """What a trade costs beside its price. `commission_booked`: when the broker takes it from the balance.

    `unknown` reads it in the stricter way. `swap_per_lot_cents` is what holding one lot may cost until it is closed,
    beyond what is booked already.
    """

    commission_per_lot_cents: Annotated[int, Meta(ge=0, le=1_000_000)]
    commission_booked: Literal["open", "close", "unknown"]
    swap_per_lot_cents: Annotated[int, Meta(ge=0, le=1_000_000)]


class Origin(Table, frozen=True):
    """Where a value comes from, when somebody last looked, and how sure it is."""

    source: Annotated[str, Meta(min_length=1, max_length=500)]
    verified_on: date
    confidence: Literal["high", "medium", "low"]


class RuleSet(Table, frozen=True):
    """All rules of one account type. `sources` has one entry per value, by dotted name.

    `fingerprint` is no key of the file: the sha256 of its bytes, "" when it was not read from a file.
    """

    name: str
    title: str
    account: Account
    reset: Reset
    daily: Daily
    maximum: Maximum
    target: Target
    best_day: BestDay
    days: Days
    hold: Hold
    flat: Flat
    news: News
    requests: Requests
    positions: Positions
    safety: Safety
    costs: Costs
    sources: dict[str, Origin]
    fingerprint: str = ""

    @property
    def zone(self) -> ZoneInfo:
        """Return the zone in which the day begins."""
        return ZoneInfo(self.reset.tz)

    @property
    def reset_label(self) -> str:
        """Return the reset as `account_days.reset` keeps it."""
        return f"{self.reset.time} {self.reset.tz}"

    @property
    def reset_time(self) -> time:
        """Return the local time at which the day begins."""
        return time.fromisoformat(self.reset.time)

    def best_day_cap_cents(self, phase: int = 0) -> int:
        """Return the highest profit one day may have, in cents, rounded down. Source: blueprint section 14."""
        cap = self.best_day.ratio * self.target.ratios[phase] * self.account.initial_balance_cents
        return int(cap.to_integral_value(ROUND_FLOOR))

    @property
    def verified_on(self) -> date:
        """Return the day on which the value checked longest ago was checked."""
        return min(origin.verified_on for origin in self.sources.values())

    def warnings(self, today: date) -> list[str]:
        """Return what somebody should look at before this set is trusted: age, zone, values nobody is sure of."""
        found = []
        age_days = (today - self.verified_on).days
        if age_days > STALE_DAYS:
            found.append(
                f"checked last on {self.verified_on}, {age_days} days ago; allowed: {STALE_DAYS}. "
                "Compare it with the account's dashboard"
            )
        if later := sorted(key for key, origin in self.sources.items() if origin.verified_on > today):
            found.append(f"verified_on lies after today, {today}: {', '.join(later)}")
        if not self.reset.confirmed:
            readings = " and ".join((self.reset_label, *(moment.label for moment in self.reset.also)))
            found.append(f"reset is not confirmed: {readings} count, each in its stricter way")
        unsure = [key for key, origin in self.sources.items() if _decides(key) and origin.confidence == "low"]
        if unsure:
            found.append(f"confidence is low for what decides money: {', '.join(unsure)}")
        return found


def _decides(key: str) -> bool:
    """Return whether a value decides when the account is lost or a day's profit is too much."""
    return key.partition(".")[0] in ("account", "reset", "daily", "maximum", "target", "best_day")


def load(name: str, folder: Path = config_load.RULES) -> RuleSet:
    """Return the rule set of that name, or in the file at that path.

    Raises:
        ConfigError: no such file, not TOML, unknown or missing key, value out of range, values that contradict each
            other, or a value without a source.
    """
    return _rules_in(config_load.rules_file(name, folder))


@functools.lru_cache(maxsize=4)
def _rules_in(file: config_load.RulesFile) -> RuleSet:
    """Return the rule set in these bytes. A spare reads the file again at its turn, but parses only what changed."""
    return msgspec.structs.replace(parse(file.raw, file.path), fingerprint=file.fingerprint)


def parse(raw: dict[str, Any], path: Path) -> RuleSet:
    """Return the rule set in an already read file. Raises ConfigError naming file, key, value found and allowed."""
    for problem in rule_checks.raw_problems(raw):
        raise config_load.ConfigError(f"{path}: {problem}")
    rules = config_load.convert(raw, RuleSet, path)
    for problem in (*rule_checks.problems(rules), *_source_problems(rules)):
        raise config_load.ConfigError(f"{path}: {problem}")
    if rules.name != path.stem:
        raise config_load.ConfigError(f"{path}: name was {rules.name!r}; must be the file's name, {path.stem!r}")
    return rules


def values(rules: RuleSet) -> dict[str, Any]:
    """Return every value that needs a source, by dotted name, in the file's order."""
    return {
        f"{table.name}.{field.name}": getattr(getattr(rules, table.name), field.name)
        for table in msgspec.structs.fields(RuleSet)
        if table.name not in NOT_SOURCED
        for field in msgspec.structs.fields(getattr(rules, table.name))
    }


def _source_problems(rules: RuleSet) -> list[str]:
    """Return which values have no source, and which sources have no value."""
    keys, sourced = values(rules).keys(), rules.sources.keys()
    found = [f"{key} has no entry under [sources]" for key in sorted(keys - sourced)]
    found += [f"sources has an entry for {key}, which is no value" for key in sorted(sourced - keys)]
    found += [f"sources.{key}.source was empty" for key in sorted(sourced) if not rules.sources[key].source.strip()]
    return found
