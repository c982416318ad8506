"""Symbols, prices and volumes as the broker wants them: mapping of names, rounding, steps. Pure.

Used by executor and monitor. Never assumes a contract size, a step or a suffix: the broker's list says them.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

import msgspec

from actors.broker import raw, wire
from actors.broker.wire import Hours, Instrument

DAY_S = 86_400


def our_symbol(said: raw.Instrument) -> str:
    """Return our name of an instrument: base and quote currency of a pair, else the name without its suffix."""
    pair = said.base_currency + said.quote_currency
    return pair if len(pair) == 6 and said.symbol.startswith(pair) else without_suffix(said.symbol)


def without_suffix(broker_symbol: str) -> str:
    """Return the name without a suffix such as `.` or `.pro`. For symbols that the broker's list does not hold."""
    return broker_symbol.partition(".")[0]


def by_our_symbol(rows: Iterable[msgspec.Raw]) -> tuple[dict[str, Instrument], tuple[str, ...]]:
    """Return the instruments by our name, and why others were left out.

    Left out are rows that lack a field or say something absurd (one odd row must not hide the rest), and names of ours
    that two of the broker's instruments claim: which was meant would be a guess, and their contracts may differ.
    """
    found: dict[str, Instrument] = {}
    twice: set[str] = set()
    left_out: list[str] = []
    for row in rows:
        try:
            made = _instrument(msgspec.json.decode(row, type=raw.Instrument, strict=False))
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors, too
            left_out.append(f"{_name_of(row)}: {error}")
            continue
        if made.symbol in found and found[made.symbol].broker_symbol != made.broker_symbol:
            twice.add(made.symbol)
            left_out.append(f"{made.broker_symbol}: {found[made.symbol].broker_symbol} is a {made.symbol}, too")
        found[made.symbol] = made
    return {name: made for name, made in found.items() if name not in twice}, tuple(left_out)


def _hours(said: msgspec.Raw) -> tuple[Hours, ...] | None:
    """Return the week's sessions, or None when they are not said or make no sense."""
    try:
        rows = msgspec.json.decode(said, type=tuple[raw.Hours, ...] | None, strict=False)
    except raw.UNDECODABLE:
        return None
    if not rows:
        return None
    found = tuple(
        Hours(
            weekday=row.day_number,
            opens_s=3_600 * row.open_hours + 60 * row.open_minutes + row.open_seconds,
            closes_s=3_600 * row.close_hours + 60 * row.close_minutes + row.close_seconds,
        )
        for row in rows
    )
    is_sane = all(0 <= one.weekday <= 6 and 0 <= one.opens_s <= one.closes_s <= DAY_S for one in found)
    return found if is_sane else None


def _name_of(row: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(row, type=raw.Named).symbol
    except raw.UNDECODABLE:
        return "a row without a symbol"


def _instrument(said: raw.Instrument) -> Instrument:
    if not 0 <= said.price_precision <= 10:
        raise ValueError(f"{said.symbol} pricePrecision was {said.price_precision}; expected 0..10")
    return Instrument(
        symbol=our_symbol(said),
        broker_symbol=said.symbol,
        base_currency=said.base_currency,
        quote_currency=said.quote_currency,
        price_precision=said.price_precision,
        volume_min=wire.positive(said.volume_min, f"{said.symbol} volumeMin"),
        volume_max=wire.positive(said.volume_max, f"{said.symbol} volumeMax"),
        volume_step=wire.positive(said.volume_step, f"{said.symbol} volumeStep"),
        contract_size=wire.positive(said.contract_size, f"{said.symbol} contractSize"),
        leverage=None if said.leverage is None else wire.positive(said.leverage, f"{said.symbol} leverage"),
        session_open=said.session_open,
        stops_level=wire.finite(said.stops_level, f"{said.symbol} stopsLevel"),
        hours=_hours(said.trading_hours),
    )


def round_price(price: Decimal, instrument: Instrument) -> Decimal:
    """Return the price with the instrument's decimals, half to even."""
    return price.quantize(instrument.point, rounding=ROUND_HALF_EVEN)


def floor_volume(volume: Decimal, instrument: Instrument) -> Decimal:
    """Return the largest tradable volume not above `volume`, at most `volume_max`; 0 when it is below `volume_min`."""
    wanted = min(volume, instrument.volume_max)
    steps = (wanted / instrument.volume_step).to_integral_value(ROUND_FLOOR)
    floored = steps * instrument.volume_step
    return floored if floored >= instrument.volume_min else Decimal(0)
