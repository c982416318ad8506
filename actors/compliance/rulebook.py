"""A firm's rules as data: the structs of `config/rules/*.toml` and their checks. Pure but for `load`.

Holds no number of any firm. Every value of a file must name where it comes from, when that was checked and how sure
it is. Only `load` touches a file, through `config.load`.
"""

from __future__ import annotations

from datetime import date, time
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta, Struct

from config import load as config_load

Cents = Annotated[int, Meta(ge=1, le=10_000_000_000)]
MeasuredOn = Literal["equity", "lower_of_balance_and_equity"]
NOT_SOURCED = ("name", "title", "sources")


class Table(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all tables: immutable, keyword-only, unknown keys refused."""


class Account(Table, frozen=True):
    """Which account the set is for. Currencies with two decimals only."""

    currency: Literal["USD", "EUR", "GBP"]
    initial_balance_cents: Cents


class Reset(Table, frozen=True):
    """When the firm's day begins: local time HH:MM in an IANA zone."""

    time: Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    tz: str


class Daily(Table, frozen=True):
    """The daily loss limit: `ratio` of the reference at the day's start, counted down from that reference."""

    kind: Literal["soft_pause", "hard"]
    ratio: Decimal
    base: Literal["reference"]
    reference: Literal["balance"]
    measured_on: MeasuredOn


class Maximum(Table, frozen=True):
    """The maximum loss limit: `ratio` of the initial balance, counted down from it."""

    kind: Literal["hard"]
    mode: Literal["static"]
    ratio: Decimal
    measured_on: MeasuredOn


class Target(Table, frozen=True):
    """Profit targets as ratios of the initial balance, one per phase."""

    ratios: Annotated[tuple[Decimal, ...], Meta(min_length=1, max_length=5)]


class BestDay(Table, frozen=True):
    """`cap`: no day's profit above `ratio` of the profit target."""

    scope: Literal["cap"]
    ratio: Decimal


class Hold(Table, frozen=True):
    """The share of trades held shorter than `seconds_min` must stay below `short_share_max`."""

    seconds_min: Annotated[int, Meta(ge=1, le=86_400)]
    short_share_max: Decimal
    trades_min: Annotated[int, Meta(ge=1, le=1_000)]
    history_days: Annotated[int, Meta(ge=1, le=366)]


class Requests(Table, frozen=True):
    """Requests to the broker in one firm's day; `reserve` of them only for closing."""

    per_day: Annotated[int, Meta(ge=1, le=10_000_000)]
    reserve: Annotated[int, Meta(ge=0, le=1_000_000)]


class Positions(Table, frozen=True):
    """How many positions may be open at once."""

    open_max: Annotated[int, Meta(ge=1, le=1_000)]


class Safety(Table, frozen=True):
    """Our margins inside every limit: no new order beyond `stop_ratio`, everything closed beyond `flatten_ratio`."""

    stop_ratio: Decimal
    flatten_ratio: Decimal


class Costs(Table, frozen=True):
    """What a trade costs beside its price. `commission_booked`: when the broker takes it from the balance.

    `unknown` reads it in the stricter way.
    """

    commission_per_lot_cents: Annotated[int, Meta(ge=0, le=1_000_000)]
    commission_booked: Literal["open", "close", "unknown"]


class Origin(Table, frozen=True):
    """Where a value comes from, when somebody last looked, and how sure it is."""

    source: Annotated[str, Meta(min_length=1, max_length=500)]
    verified_on: date
    confidence: Literal["high", "medium", "low"]


class RuleSet(Table, frozen=True):
    """All rules of one account type. `sources` has one entry per value, by dotted name."""

    name: str
    title: str
    account: Account
    reset: Reset
    daily: Daily
    maximum: Maximum
    target: Target
    best_day: BestDay
    hold: Hold
    requests: Requests
    positions: Positions
    safety: Safety
    costs: Costs
    sources: dict[str, Origin]

    @property
    def zone(self) -> ZoneInfo:
        """Return the zone in which the day begins."""
        return ZoneInfo(self.reset.tz)

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


def load(name: str, folder: Path = config_load.RULES) -> RuleSet:
    """Return the rule set of that name, or in the file at that path.

    Raises:
        ConfigError: no such file, not TOML, unknown or missing key, value out of range, or a value without a source.
    """
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in folder.glob("*.toml"))) or "none"
        raise config_load.ConfigError(f"compliance.rules was {name!r}; there is no file {path}; known sets: {known}")
    return parse(config_load.read_toml(path), path)


def parse(raw: dict[str, Any], path: Path) -> RuleSet:
    """Return the rule set in an already read file. Raises ConfigError naming file, key, value found and allowed."""
    rules = config_load.convert(raw, RuleSet, path)
    for problem in _problems(rules):
        raise config_load.ConfigError(f"{path}: {problem}")
    if rules.name != path.stem:
        raise config_load.ConfigError(f"{path}: name was {rules.name!r}; must be the file's name, {path.stem!r}")
    return rules


def _problems(rules: RuleSet) -> list[str]:
    """Return what is wrong although each type is right: ratios out of range, unknown zone, values without a source."""
    ratios = {
        "daily.ratio": rules.daily.ratio,
        "maximum.ratio": rules.maximum.ratio,
        "best_day.ratio": rules.best_day.ratio,
        "hold.short_share_max": rules.hold.short_share_max,
        "safety.stop_ratio": rules.safety.stop_ratio,
        "safety.flatten_ratio": rules.safety.flatten_ratio,
        **{f"target.ratios[{index}]": ratio for index, ratio in enumerate(rules.target.ratios)},
    }
    found = [
        f"{key} was {value}; allowed: above 0, at most 1"
        for key, value in ratios.items()
        if not (value.is_finite() and 0 < value <= 1)
    ]
    if found:
        return found
    if rules.safety.stop_ratio >= rules.safety.flatten_ratio:
        found.append(f"safety.stop_ratio was {rules.safety.stop_ratio}; must be below safety.flatten_ratio")
    if rules.requests.reserve >= rules.requests.per_day:
        found.append(f"requests.reserve was {rules.requests.reserve}; must be below requests.per_day")
    try:
        ZoneInfo(rules.reset.tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        found.append(f"reset.tz was {rules.reset.tz!r}; allowed: a zone of the IANA database, such as Europe/Athens")
    values = _dotted(rules)
    found += [f"{key} has no entry under [sources]" for key in sorted(values - rules.sources.keys())]
    found += [f"sources has an entry for {key}, which is no value" for key in sorted(rules.sources.keys() - values)]
    return found


def _dotted(rules: RuleSet) -> set[str]:
    """Return the dotted names of all values that need a source."""
    return {
        f"{table.name}.{field.name}"
        for table in msgspec.structs.fields(RuleSet)
        if table.name not in NOT_SOURCED
        for field in msgspec.structs.fields(getattr(rules, table.name))
    }
