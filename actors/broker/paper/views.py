"""The paper account in Match-Trader's JSON. Pure.

Used by `routes`. Account, positions and history say their numbers as strings, instruments and candles as numbers: both
occur at real brokers, and a client must read both.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from actors.broker.paper import book
from actors.broker.paper.access import Access, Login
from actors.broker.paper.bars import Bar
from actors.broker.paper.values import Book, Holding, Market, Operation, Rules, Terms, Waiting
from bus import clock

BROKER_NAME = "Paper (simulated prices)"


def money(amount_cents: int) -> str:
    """Return cents as the broker writes money: "12.34"."""
    return format(Decimal(amount_cents) / 100, ".2f")


def time_text(epoch_ms: int) -> str:
    """Return epoch milliseconds as RFC 3339 in UTC."""
    return clock.iso(datetime.fromtimestamp(epoch_ms / 1_000, UTC))


def login(access: Access, made: Login, currency: str) -> dict[str, Any]:
    """Return the answer to a login: one account, demo."""
    account = {
        "tradingAccountId": access.account_id,
        "uuid": access.system_uuid,
        "tradingApiToken": made.token,
        "branchUuid": access.system_uuid,
        "offer": {
            "uuid": access.system_uuid,
            "name": BROKER_NAME,
            "currency": currency,
            "demo": True,
            "system": {"uuid": access.system_uuid, "name": BROKER_NAME, "demo": True, "active": True},
        },
    }
    return {"email": access.email, "token": made.cookie, "accounts": [account], "selectedAccount": account}


def balance(kept: Book, rules: Rules, market: Market, currency: str) -> dict[str, Any]:
    """Return the account's worth."""
    worth = book.account(kept, rules, market)
    level = Decimal(100 * worth.equity_cents) / worth.margin_cents if worth.margin_cents else Decimal(0)
    return {
        "balance": money(worth.balance_cents),
        "equity": money(worth.equity_cents),
        "freeMargin": money(worth.free_margin_cents),
        "margin": money(worth.margin_cents),
        "marginLevel": format(level, ".2f"),
        "credit": "0.00",
        "profit": money(worth.profit_cents),
        "netProfit": money(worth.net_profit_cents),
        "currency": currency,
        "currencyPrecision": 2,
    }


def instrument(terms: Terms, is_open: bool, hours: list[dict[str, int]]) -> dict[str, Any]:
    """Return one row of effective-instruments. `hours` are the running week's."""
    return {
        "symbol": terms.symbol,
        "alias": f"{terms.base_currency}{terms.quote_currency} (simulated)",
        "type": "FOREX",
        "baseCurrency": terms.base_currency,
        "quoteCurrency": terms.quote_currency,
        "pricePrecision": terms.price_precision,
        "volumePrecision": 2,
        "volumeMin": terms.volume_min,
        "volumeMax": terms.volume_max,
        "volumeStep": terms.volume_step,
        "contractSize": terms.contract_size,
        "sizeOfOnePoint": terms.point,
        "sessionOpen": is_open,
        "tradingHours": hours,
        "leverage": terms.leverage,
        "askMarkup": 0,
        "bidMarkup": 0,
        "swapType": "POINTS",
        "swapBuy": terms.swap_buy,
        "swapSell": terms.swap_sell,
        "freezeLevel": terms.freeze_level,
        "stopsLevel": terms.stops_level,
    }


def quotation(terms: Terms, market: Market, day: Bar) -> dict[str, Any]:
    """Return bid and ask with the day's change, high and low."""
    price = market.prices[terms.symbol]
    return {
        "symbol": terms.symbol,
        "bid": price.bid,
        "ask": price.ask,
        "change": (100 * (price.bid - day.open) / day.open).quantize(Decimal("0.01")),
        "high": day.high,
        "low": day.low,
        "timestampMs": market.at_ms,
    }


def candles(symbol: str, interval: str, bars: Iterable[Bar]) -> dict[str, Any]:
    """Return bars, oldest first; the last one may be unfinished."""
    return {"symbol": symbol, "interval": interval, "candles": list(bars)}


def position(held: Holding, rules: Rules, market: Market) -> dict[str, Any]:
    """Return one open position. A stop that is not set is 0."""
    price = book.closing_price(held, market)
    profit_cents = book.profit_cents(held, rules, market, price)
    return {
        "id": held.id,
        "symbol": held.symbol,
        "alias": held.symbol,
        "volume": held.volume,
        "side": held.side,
        "openTime": time_text(held.opened_ms),
        "openTimeMillis": held.opened_ms,
        "openPrice": held.open_price,
        "stopLoss": held.sl_price,
        "takeProfit": held.tp_price,
        "currentPrice": price,
        "swap": money(held.swap_cents),
        "commission": money(held.commission_cents),
        "profit": money(profit_cents),
        "netProfit": money(profit_cents + held.commission_cents + held.swap_cents),
    }


def order(waiting: Waiting) -> dict[str, Any]:
    """Return one order that waits for its price."""
    return {
        "id": waiting.id,
        "symbol": waiting.symbol,
        "alias": waiting.symbol,
        "volume": waiting.volume,
        "type": waiting.kind,
        "side": waiting.side,
        "creationTime": time_text(waiting.created_ms),
        "activationPrice": waiting.activation_price,
        "stopLoss": waiting.sl_price,
        "takeProfit": waiting.tp_price,
    }


def operation(done: Operation) -> dict[str, Any]:
    """Return one row of the history. It says neither stop nor target, as the real one."""
    return {
        "id": done.id,
        "uid": f"{done.id}-{done.closing_order_id}",
        "closingOrderID": done.closing_order_id,
        "symbol": done.symbol,
        "volume": done.volume,
        "side": done.side,
        "openTime": time_text(done.opened_ms),
        "time": time_text(done.closed_ms),
        "openPrice": done.open_price,
        "closePrice": done.close_price,
        "profit": money(done.profit_cents),
        "netProfit": money(done.net_profit_cents),
        "swap": money(done.swap_cents),
        "commission": money(done.commission_cents),
        "closeReason": done.reason,
    }
