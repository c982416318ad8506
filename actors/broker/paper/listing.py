"""What the paper broker lists, and the rules of its house. Pure.

Used by `venue` at its start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from actors.broker.paper.values import Rules, Terms
from config import settings
from config.load import ConfigError


def listed(paper: settings.Paper, symbols: Sequence[str]) -> list[Terms]:
    """Return the terms of all pairs: FX contracts of 100,000, five decimals, three when quoted in JPY."""
    return [_terms(paper, symbol) for symbol in symbols]


def rules(paper: settings.Paper, terms: Mapping[str, Terms]) -> Rules:
    """Return the rules. Raises ConfigError for levels that contradict each other."""
    if paper.stop_out_level > paper.margin_call_level:
        raise ConfigError(
            f"paper.stop_out_level was {paper.stop_out_level}; allowed up to paper.margin_call_level = "
            f"{paper.margin_call_level}"
        )
    return Rules(
        terms=terms,
        commission_per_lot=Decimal(str(paper.commission_per_lot)),
        margin_call_level=Decimal(str(paper.margin_call_level)),
        stop_out_level=Decimal(str(paper.stop_out_level)),
    )


def _terms(paper: settings.Paper, symbol: str) -> Terms:
    usual = (paper.swap_buy_points, paper.swap_sell_points)
    swap_buy, swap_sell = paper.swap_points_by_symbol.get(symbol, usual)
    return Terms(
        symbol=symbol + paper.symbol_suffix,
        base_currency=symbol[:3],
        quote_currency=symbol[3:],
        price_precision=3 if symbol[3:] == "JPY" else 5,
        volume_min=Decimal("0.01"),
        volume_max=Decimal(50),
        volume_step=Decimal("0.01"),
        contract_size=Decimal(100_000),
        leverage=paper.leverage,
        stops_level=paper.stops_level_points,
        freeze_level=paper.freeze_level_points,
        swap_buy=Decimal(str(swap_buy)),
        swap_sell=Decimal(str(swap_sell)),
    )
