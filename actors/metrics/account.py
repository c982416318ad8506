"""The account's metrics: equity, room to each limit, requests and what language models cost. Library of the dashboard.

Money is whole cents, or millionths of a dollar where models cost less. Computes by the same pure functions as the
monitor; decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric

from actors.compliance import day as firm_day
from actors.compliance.rulebook import RuleSet
from actors.watch import ladder
from bus.clock import iso, parse
from bus.records import EquitySample
from config import dollars
from config.settings import Settings
from store.queries import Reader


def metrics(read: Reader, settings: Settings, rules: RuleSet, now: datetime) -> Iterator[Metric]:
    """Yield what is known of the account. Without a reading of it there is no figure, rather than a zero."""
    sample = read.last_equity()
    if sample is not None:
        yield from _figures(sample, now)
        yield from _limits(read, settings, rules, sample, now)
    yield from _requests(read, rules, now)
    yield from _models(read, settings, now)


def _figures(sample: EquitySample, now: datetime) -> Iterator[Metric]:
    for name, text, value in (
        ("pilot_account_balance_cents", "Balance at the newest reading.", sample.balance_cents),
        ("pilot_account_equity_cents", "Equity at the newest reading.", sample.equity_cents),
        ("pilot_account_margin_cents", "Margin in use at the newest reading.", sample.margin_cents),
        ("pilot_account_positions", "Open positions at the newest reading.", sample.positions),
        ("pilot_account_daily_loss_cents", "Loss of the day, by the worst reading of it.", sample.daily_loss_cents),
        ("pilot_account_maximum_loss_cents", "Loss against the maximum limit.", sample.max_loss_cents),
    ):
        yield GaugeMetricFamily(name, text, value=value)
    age_s = max(0.0, (now - parse(sample.at)).total_seconds())
    yield GaugeMetricFamily("pilot_account_age_seconds", "Age of the newest reading of the account.", value=age_s)


def _limits(
    read: Reader, settings: Settings, rules: RuleSet, sample: EquitySample, now: datetime
) -> Iterator[Metric]:  # fmt: skip
    account_id = settings.broker.account_id
    days = (read.account_day_at(account_id, one.label, iso(now)) for one in firm_day.readings(rules))
    standings = ladder.standings(
        rules,
        days=tuple(day for day in days if day is not None),
        marks=tuple(read.account_marks(account_id)),
        balance_cents=sample.balance_cents,
        equity_cents=sample.equity_cents,
    )
    room = GaugeMetricFamily("pilot_limit_room_cents", "What may be lost before a limit's floor.", labels=["limit"])
    whole = GaugeMetricFamily("pilot_limit_cents", "A loss limit's whole amount.", labels=["limit"])
    level = GaugeMetricFamily(
        "pilot_limit_level", "0 ok, 1 and 2 warnings, 3 no new orders, 4 all is closed, 5 breach.", labels=["limit"]
    )
    for standing in standings:
        room.add_metric([standing.limit.name], standing.limit.room_cents(standing.value_cents))
        whole.add_metric([standing.limit.name], int(standing.limit.amount_cents))
        level.add_metric([standing.limit.name], int(standing.level))
    yield from (room, whole, level)


def _requests(read: Reader, rules: RuleSet, now: datetime) -> Iterator[Metric]:
    used = GaugeMetricFamily(
        "pilot_requests_used", "Requests granted in the firm's day, by each reading of it.", labels=["reading", "kind"]
    )
    for index, day in enumerate(firm_day.firm_days(rules, now)):
        # As `store.account` counts them: under the date of the usual reading, and under date and label of the others.
        reads, writes = read.requests(day.day if index == 0 else f"{day.day} {day.reset}")
        used.add_metric([day.reset, "all"], reads + writes)
        used.add_metric([day.reset, "write"], writes)
    yield used
    allowed = GaugeMetricFamily("pilot_requests_allowed", "Requests allowed in the firm's day.", labels=["kind"])
    allowed.add_metric(["all"], rules.requests.per_day)
    allowed.add_metric(["write"], rules.requests.writes_per_day)
    yield allowed
    kept = GaugeMetricFamily("pilot_requests_reserve", "Requests of these kept for closing.", labels=["kind"])
    kept.add_metric(["all"], rules.requests.reserve)
    kept.add_metric(["write"], rules.requests.writes_reserve)
    yield kept


def _models(read: Reader, settings: Settings, now: datetime) -> Iterator[Metric]:
    spent = read.llm_day(now.date().isoformat())
    for name, text, value in (
        ("pilot_llm_day_calls", "Calls of language models today (UTC).", spent.calls),
        ("pilot_llm_day_refusals", "Calls of today that a budget refused.", spent.refusals),
        ("pilot_llm_day_tokens", "Tokens of today, settled.", spent.tokens),
        ("pilot_llm_day_reserved_tokens", "Tokens of today, reserved and not settled.", spent.reserved_tokens),
        ("pilot_llm_day_cost_micros", "Millionths of a dollar of today, settled.", spent.cost_micros),
        ("pilot_llm_day_reserved_micros", "Millionths of a dollar of today, reserved.", spent.reserved_micros),
    ):
        yield GaugeMetricFamily(name, text, value=value)
    if settings.llm.day_tokens_max is not None:
        yield GaugeMetricFamily(
            "pilot_llm_day_tokens_allowed", "Tokens allowed in a day.", value=settings.llm.day_tokens_max
        )
    if settings.llm.day_cost_max is not None:
        yield GaugeMetricFamily(
            "pilot_llm_day_micros_allowed",
            "Millionths of a dollar allowed in a day.",
            value=dollars.micros(settings.llm.day_cost_max),
        )
