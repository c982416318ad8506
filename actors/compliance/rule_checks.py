"""What is wrong with a rule set although each of its types is right: out of range, incomplete, contradictory. Pure.

Used by `rulebook.parse` alone. Every sentence names the key, what was found and what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import combinations
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from actors.compliance.rulebook import Moment, RuleSet

DECIMALS_MAX = 6
LOTS_MAX = Decimal(10_000)
NONE = "none"
# What closing may need, per position that can be open: the close and one more try; each is looked up once. One more
# position than allowed may turn up from an order whose answer was lost. Four reads: list and balance, before and after.
CLOSE_WRITES = 2
CLOSE_READS = 2
LOOKS = 4


def raw_problems(raw: dict[str, Any]) -> Iterator[str]:
    """Yield what may not stand in a file at all: binary fractions, and keys that are computed."""
    if "fingerprint" in raw:
        yield "fingerprint is not a setting: it is computed from the file's bytes"
    for table, content in raw.items():
        if not isinstance(content, dict):
            continue
        for key, value in content.items():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, float):
                    yield f'{table}.{key} was {one}, a binary fraction; write it as text: "{one}"'


def problems(rules: RuleSet) -> Iterator[str]:
    """Yield every problem, the plainest first. With a number that is none, nothing else is compared."""
    numbers = list(_number_problems(rules))
    yield from numbers
    if numbers:
        return
    yield from _reset_problems(rules)
    yield from _limit_problems(rules)
    yield from _profit_problems(rules)
    yield from _flat_problems(rules)
    yield from _request_problems(rules)


def flatten_needs(open_max: int) -> tuple[int, int]:
    """Return (requests, writes) that closing and verifying so many positions may need, one unknown order on top."""
    writes = CLOSE_WRITES * (open_max + 1)
    return writes + CLOSE_READS * (open_max + 1) + LOOKS, writes


def _number_problems(rules: RuleSet) -> Iterator[str]:
    """Yield decimals that are no numbers, out of range, or finer than exact arithmetic carries them."""
    above_zero = {
        "maximum.ratio": rules.maximum.ratio,
        "hold.short_share_max": rules.hold.short_share_max,
        "safety.stop_ratio": rules.safety.stop_ratio,
        "safety.flatten_ratio": rules.safety.flatten_ratio,
        **{f"target.ratios[{index}]": ratio for index, ratio in enumerate(rules.target.ratios)},
    }
    optional = {  # "0" says that there is no such rule
        "daily.ratio": (rules.daily.ratio, f"daily.kind is {rules.daily.kind!r}", rules.daily.kind == NONE),
        "best_day.ratio": (
            rules.best_day.ratio, f"best_day.scope is {rules.best_day.scope!r}", rules.best_day.scope == NONE,
        ),
        "days.profitable_ratio": (
            rules.days.profitable_ratio, f"days.profitable_min is {rules.days.profitable_min}",
            rules.days.profitable_min == 0,
        ),
    }  # fmt: skip
    for key, value in above_zero.items():
        if not (value.is_finite() and 0 < value <= 1):
            yield f"{key} was {value}; allowed: above 0, at most 1"
    for key, (value, because, is_absent) in optional.items():
        if is_absent and not (value.is_finite() and value == 0):
            yield f'{key} was {value}; must be "0", because {because}'
        elif not is_absent and not (value.is_finite() and 0 < value <= 1):
            yield f"{key} was {value}; allowed: above 0, at most 1, because {because}"
    lots = rules.positions.lots_max
    if not (lots.is_finite() and 0 < lots <= LOTS_MAX):
        yield f"positions.lots_max was {lots}; allowed: above 0, at most {LOTS_MAX}"
    decimals = {**above_zero, **{key: value for key, (value, _, _) in optional.items()}, "positions.lots_max": lots}
    for key, value in decimals.items():
        exponent = value.as_tuple().exponent
        if isinstance(exponent, int) and not -DECIMALS_MAX <= exponent <= DECIMALS_MAX:
            yield f"{key} was {value}; allowed: at most {DECIMALS_MAX} decimals"


def _reset_problems(rules: RuleSet) -> Iterator[str]:
    """Yield unknown zones, and readings that contradict what is said to be confirmed."""
    reset = rules.reset
    places = {"reset.tz": reset.tz, **{f"reset.also[{index}].tz": moment.tz for index, moment in enumerate(reset.also)}}
    unknown = [
        f"{key} was {tz!r}; allowed: a zone of the IANA database, such as Europe/Athens"
        for key, tz in places.items()
        if not _is_zone(tz)
    ]
    yield from unknown
    if reset.confirmed and reset.also:
        yield "reset.also was not empty although reset.confirmed is true; leave one reading, or confirm none"
    if not reset.confirmed and not reset.also:
        yield (
            "reset.also was empty although reset.confirmed is false; name the other readings of the reset, "
            "or confirm this one after comparing the dashboard"
        )
    if unknown:
        return
    origin = rules.sources.get("reset.tz")
    since = origin.verified_on if origin else date(2026, 1, 1)
    readings = {"reset": (reset.time, reset.tz), **{f"reset.also[{i}]": _read(one) for i, one in enumerate(reset.also)}}
    for (one, first), (other, second) in combinations(readings.items(), 2):
        if _moments(*first, since) == _moments(*second, since):
            yield f"{other} was {' '.join(second)}, the same moments as {one}, {' '.join(first)}; must differ"


def _limit_problems(rules: RuleSet) -> Iterator[str]:
    """Yield loss limits that contradict each other or themselves, and margins that leave no room to act."""
    daily, maximum, safety = rules.daily, rules.maximum, rules.safety
    if maximum.mode == "static" and maximum.lock_at != NONE:
        yield f'maximum.lock_at was {maximum.lock_at!r}; must be "none", because a static floor does not move'
    if daily.kind != NONE and daily.ratio > maximum.ratio:
        yield f"daily.ratio was {daily.ratio}; must not be above maximum.ratio = {maximum.ratio}"
    if safety.stop_ratio >= safety.flatten_ratio:
        yield (
            f"safety.stop_ratio was {safety.stop_ratio}; must be below safety.flatten_ratio = {safety.flatten_ratio}"
        )
    if safety.flatten_ratio >= 1:
        yield f"safety.flatten_ratio was {safety.flatten_ratio}; must be below 1: at the floor it is too late"


def _profit_problems(rules: RuleSet) -> Iterator[str]:
    """Yield rules on days and holding that say two things at once."""
    days, hold = rules.days, rules.hold
    if days.trading_min < days.profitable_min:
        yield (
            f"days.trading_min was {days.trading_min}; must be at least days.profitable_min = {days.profitable_min}: "
            "a profitable day is a day of trading"
        )
    if hold.seconds_min == 0 and hold.short_share_max != 1:
        yield f'hold.short_share_max was {hold.short_share_max}; must be "1", because hold.seconds_min is 0'
    if hold.seconds_min > 0 and hold.short_share_max == 1:
        yield "hold.short_share_max was 1, which limits nothing; for no such rule, hold.seconds_min must be 0"


def _flat_problems(rules: RuleSet) -> Iterator[str]:
    """Yield times to be flat without an end, ends without a beginning, and spans of no length."""
    flat = rules.flat
    is_daily, is_weekly = flat.daily_by != NONE, flat.friday_by != NONE
    if (is_daily or is_weekly) and flat.reopen_at == NONE:
        named = "flat.daily_by" if is_daily else "flat.friday_by"
        yield f'flat.reopen_at was "none"; allowed: HH:MM, because {named} is set'
    if flat.reopen_at != NONE and not (is_daily or is_weekly):
        yield f'flat.reopen_at was {flat.reopen_at!r}; must be "none", because nothing has to be flat'
    if is_daily and flat.daily_by == flat.reopen_at:
        yield f"flat.reopen_at was {flat.reopen_at!r}; must differ from flat.daily_by"


def _request_problems(rules: RuleSet) -> Iterator[str]:
    """Yield budgets that contradict each other, and reserves too small to close everything."""
    budget, open_max = rules.requests, rules.positions.open_max
    if budget.writes_per_day > budget.per_day:
        yield f"requests.writes_per_day was {budget.writes_per_day}; must not be above requests.per_day"
    if budget.reserve >= budget.per_day:
        yield f"requests.reserve was {budget.reserve}; must be below requests.per_day = {budget.per_day}"
    if budget.writes_reserve >= budget.writes_per_day:
        yield f"requests.writes_reserve was {budget.writes_reserve}; must be below requests.writes_per_day"
    if budget.writes_reserve > budget.reserve:
        yield f"requests.writes_reserve was {budget.writes_reserve}; must not be above requests.reserve"
    requests, writes = flatten_needs(open_max)
    if budget.reserve < requests:
        yield f"requests.reserve was {budget.reserve}; closing {open_max} positions may need {requests}"
    if budget.writes_reserve < writes:
        yield f"requests.writes_reserve was {budget.writes_reserve}; closing {open_max} positions may need {writes}"


def _is_zone(tz: str) -> bool:
    try:
        ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _read(moment: Moment) -> tuple[str, str]:
    return moment.time, moment.tz


def _moments(at: str, tz: str, since: date) -> frozenset[datetime]:
    """Return the resets of a year, in UTC. Two readings that share all but the edges of the year are one."""
    local, zone = time.fromisoformat(at), ZoneInfo(tz)
    first = datetime.combine(since, time(12), tzinfo=UTC)
    days = (since + timedelta(days=number) for number in range(-2, 369))
    found = (datetime.combine(day, local, tzinfo=zone).astimezone(UTC) for day in days)
    return frozenset(moment for moment in found if first <= moment < first + timedelta(days=365))
