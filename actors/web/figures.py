"""The numbers of the first page as gauges, counts and curves. Reads the database for curves only; decides nothing.

Library of the dashboard.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec
from markupsafe import Markup
from msgspec import Struct

from actors.compliance.rulebook import RuleSet
from actors.console.room import LimitRoom
from actors.web import chart, words
from actors.web.chart import Dot, Level
from actors.web.picture import Picture
from actors.web.words import Tone
from bus import clock
from config import dollars
from config.settings import Settings
from store.board import Board

POINTS = 160
LONG_DAYS = 30


class Gauge(Struct, frozen=True, kw_only=True):
    """One limit with what is left of it."""

    name: str
    left: str
    detail: str
    word: str  # what is so bad or good about it, in words: colour alone says nothing
    tone: Tone
    bar: Markup


class Curve(Struct, frozen=True, kw_only=True):
    """One chart with its heading and what it says in words."""

    name: str
    text: str
    picture: Markup


def gauges(found: Picture, rules: RuleSet) -> tuple[Gauge, ...]:
    """Return a gauge for each loss limit that is known, and one for the most that a day may earn."""
    marks = ((float(rules.safety.stop_ratio), "stop"), (float(rules.safety.flatten_ratio), "flat"))
    shown = [_gauge(found, limit, marks) for limit in found.room.limits]
    best = found.room.best_day
    if best is not None and best.stop_cents is not None and best.cap_cents:
        part = max(0, best.profit_cents) / best.cap_cents
        tone: Tone = "warn" if best.room_cents == 0 else "good"
        said, left, cap = (
            words.money(cents, found.currency) for cents in (best.profit_cents, best.room_cents or 0, best.cap_cents)
        )
        shown.append(
            Gauge(
                name="Best day", left=left, detail=f"{said} of {cap} earned today", tone=tone,
                word="no new orders" if best.room_cents == 0 else "within limits",
                bar=chart.gauge("Best day", part, marks, description=f"{said} of {cap}", tone=tone),
            )
        )  # fmt: skip
    return tuple(shown)


def counts(found: Picture, rules: RuleSet, settings: Settings) -> tuple[Gauge, ...]:
    """Return a gauge for each thing that is counted: positions, lots, requests, and what the models cost."""
    volume = sum((held.plan.volume for held in found.holdings), Decimal(0))
    spent = found.room.budget
    gauges = [
        _count("Open positions", len(found.holdings), rules.positions.open_max),
        _count("Lots", volume, rules.positions.lots_max),
        _count("Requests to the broker", spent.reads + spent.writes, spent.per_day - spent.reserve),
    ]
    tokens = found.models.tokens + found.models.reserved_tokens
    micros = found.models.cost_micros + found.models.reserved_micros
    if settings.llm.day_tokens_max:
        gauges.append(_count("Tokens of language models", tokens, settings.llm.day_tokens_max))
    if settings.llm.day_cost_max and (limit := dollars.micros(settings.llm.day_cost_max)):
        gauges.append(
            _share(
                "Cost of language models", micros / limit, f"${dollars.text(micros)} of ${settings.llm.day_cost_max}"
            )
        )
    return tuple(gauges)


def curves(board: Board, found: Picture, rules: RuleSet) -> tuple[Curve, ...]:
    """Return the account's course today, and over the last weeks with floor and target."""
    if found.account is None:
        return ()
    return (_today(board, found), _weeks(board, found, rules))


def fields_of(raw: str) -> dict[str, str]:
    """Return the fields of a JSON object as text; empty for none."""
    try:
        found = msgspec.json.decode(raw, type=dict[str, msgspec.Raw]) if raw else {}
    except (msgspec.DecodeError, RecursionError):
        return {}
    return {name: bytes(value).decode().strip('"') for name, value in found.items()}


def _end(found: Picture) -> datetime:
    """Return where the curves end: the next full minute, so that they move once a minute and with a new reading."""
    return found.now.replace(second=0, microsecond=0) + timedelta(minutes=1)


def _gauge(found: Picture, limit: LimitRoom, marks: tuple[tuple[float, str], ...]) -> Gauge:
    left, floor, used, whole = (
        words.money(cents, found.currency)
        for cents in (limit.room_cents, limit.floor_cents, limit.loss_cents, limit.limit_cents)
    )
    tone = words.tone_of_level(limit.level)
    name = words.name_of(limit)
    return Gauge(
        name=name[:1].upper() + name[1:], left=left, detail=f"{used} of {whole} used; floor at {floor}",
        word=words.LEVELS[limit.level], tone=tone,
        bar=chart.gauge(
            name, limit.loss_cents / max(1, limit.limit_cents), marks,
            description=f"{limit.used_percent}% used, {left} left", tone=tone,
        ),
    )  # fmt: skip


def _count(name: str, used: int | Decimal, limit: int | Decimal) -> Gauge:
    return _share(name, float(used / limit) if limit else 1.0, f"{used:,} of {limit:,}")


def _share(name: str, part: float, detail: str) -> Gauge:
    tone: Tone = "warn" if part >= 0.8 else "good"
    return Gauge(
        name=name, left=f"{max(0, 100 - int(100 * part))}% left", detail=detail, word="", tone=tone,
        bar=chart.gauge(name, part, (), description=f"{detail}", tone=tone),
    )  # fmt: skip


def _today(board: Board, found: Picture) -> Curve:
    assert found.account is not None
    began = min((clock.parse(day.starts_at) for day in found.account.days), default=found.now - timedelta(days=1))
    first = clock.parse(board.first_sample_at() or found.account.sample.at)
    since = min(max(began, first), found.now - timedelta(hours=1))
    dots = _dots(board, found, since=since)
    levels = [
        Level(cents=one.floor_cents, name="floor", kind="floor") for one in found.room.limits if one.kind == "daily"
    ][:1]
    levels += [Level(cents=day.start_balance_cents, name="start", kind="start") for day in found.account.days[:1]]
    return _curve("Equity today", found, dots, levels, since, is_close=True)


def _weeks(board: Board, found: Picture, rules: RuleSet) -> Curve:
    assert found.account is not None
    first = clock.parse(board.first_sample_at() or found.account.sample.at)
    since = max(min(first, found.now - timedelta(days=1)), found.now - timedelta(days=LONG_DAYS))
    initial_cents = rules.account.initial_balance_cents
    levels = [
        Level(cents=one.floor_cents, name="floor", kind="floor") for one in found.room.limits if one.kind == "maximum"
    ]
    levels.append(Level(cents=initial_cents, name="start", kind="start"))
    levels.append(
        Level(cents=initial_cents + int(rules.target.ratios[0] * initial_cents), name="target", kind="target")
    )
    return _curve("Equity, last weeks", found, _dots(board, found, since=since), levels, since)


def _dots(board: Board, found: Picture, *, since: datetime) -> list[Dot]:
    rows = board.curve(since, _end(found), POINTS)
    return [
        Dot(at=clock.parse(row.at), cents=row.equity_cents, low_cents=row.low_cents, high_cents=row.high_cents)
        for row in rows
    ]


def _curve(
    name: str, found: Picture, dots: list[Dot], levels: list[Level], since: datetime, *, is_close: bool = False
) -> Curve:
    text = "No reading of the account in this time."
    if dots:
        low, high = min(dot.low_cents for dot in dots), max(dot.high_cents for dot in dots)
        last, lowest, highest = (words.money(cents, found.currency) for cents in (dots[-1].cents, low, high))
        text = f"Now {last}; between {lowest} and {highest}."
    shown = chart.curve(name, dots, levels, since=since, until=_end(found), description=text, is_close=is_close)
    return Curve(name=name, text=text, picture=shown)
