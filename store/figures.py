"""The few figures of a decision that stay in the journal when its papers are gone: what was proposed, and on what.

Used by the store when it records a verdict, and by whoever measures verdicts. Pure. Reads what an analyst wrote about
itself, so it takes nothing for granted: what is no figure is left out, and never keeps a verdict from being recorded.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec
from msgspec import Struct

from bus.records import Record, Signal
from bus.vocabulary import DecisionSide

NAME_CHARS_MAX = 100
TOKENS_MAX = 1_000_000_000  # more of one decision is nonsense
COST_MICROS_MAX = 1_000_000_000_000
PRICE_MAX = 1_000_000


class Opinion(Record, frozen=True, kw_only=True):
    """What one analyst proposed, before the checks. `refused` is the check that made HOLD of it."""

    analyst: str = ""
    model: str = ""
    side: DecisionSide | None = None  # None: it gave no verdict
    sl_pips: float | None = None
    tp_pips: float | None = None
    confidence: float | None = None
    refused: str = ""
    tokens_in: int | None = None  # None: nobody counted
    tokens_out: int | None = None
    cost_micros: int | None = None  # millionths of a dollar; None: the price is not known


class Figures(Record, frozen=True, kw_only=True):
    """One decision: the signal it was about, the analyst that decided, and its shadow, if it had one."""

    symbol: str
    bar_time: str
    close: float
    side_hint: DecisionSide
    told: Opinion
    shadow: Opinion | None = None


def of(signal_json: str, state_json: str) -> dict[str, Any]:
    """Return the figures of a decision as plain values for the journal; nothing when its papers are unreadable."""
    try:
        signal = msgspec.json.decode(signal_json, type=Signal)
        state = msgspec.json.decode(state_json, type=_State)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    shadow = state.shadow
    found = Figures(
        symbol=signal.symbol[:NAME_CHARS_MAX],
        bar_time=signal.bar_time[:NAME_CHARS_MAX],
        close=signal.close,
        side_hint=signal.side_hint,
        told=_opinion(state, state.verdict, state.analyst),
        shadow=None if shadow is None else _opinion(shadow.state, shadow, shadow.state.analyst or shadow.analyst),
    )
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain


def read(payload: str) -> Figures | None:
    """Return the figures in a row of the journal; None when there are none."""
    try:
        return msgspec.json.decode(payload, type=Figures)
    except (msgspec.DecodeError, RecursionError):
        return None


class _Usage(Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Refused(Struct, frozen=True):
    rule: str = ""


class _Call(Struct, frozen=True, kw_only=True):
    """What a model was asked for, and at what price."""

    usage: _Usage | None = None
    price_in: str | None = None  # dollars per million tokens
    price_out: str | None = None
    cost_micros: int | None = None


class _Voice(Struct, frozen=True, kw_only=True):
    """One answer of an analyst that asks several models."""

    call: _Call = _Call()


class _Account(_Call, frozen=True, kw_only=True):
    """What is measured of an analyst's own account of a verdict."""

    analyst: str = ""
    model: str = ""
    voices: tuple[_Voice, ...] = ()


class _Proposal(Struct, frozen=True, kw_only=True):
    """`verdict` of a final state."""

    side: DecisionSide | None = None
    sl_pips: float | None = None
    tp_pips: float | None = None
    confidence: float | None = None
    refused: _Refused | None = None


class _Shadow(_Proposal, frozen=True, kw_only=True):
    """`shadow` of a final state."""

    analyst: str = ""
    state: _Account = _Account()


class _State(_Account, frozen=True, kw_only=True):
    """`agent_state_json`."""

    verdict: _Proposal = _Proposal()
    shadow: _Shadow | None = None


def _opinion(account: _Account, said: _Proposal, analyst: str) -> Opinion:
    calls = [voice.call for voice in account.voices] or [account]
    counted = [found for call in calls if (found := _tokens(call)) is not None]
    costs = [_cost_micros(call) for call in calls]
    return Opinion(
        analyst=analyst[:NAME_CHARS_MAX],
        model=account.model[:NAME_CHARS_MAX],
        side=said.side,
        sl_pips=said.sl_pips,
        tp_pips=said.tp_pips,
        confidence=said.confidence,
        refused=said.refused.rule[:NAME_CHARS_MAX] if said.refused is not None else "",
        tokens_in=sum(tokens_in for tokens_in, _ in counted) if counted else None,
        tokens_out=sum(tokens_out for _, tokens_out in counted) if counted else None,
        cost_micros=None if None in costs else sum(cost or 0 for cost in costs),
    )


def _tokens(call: _Call) -> tuple[int, int] | None:
    """Return the tokens in and out; None when nobody counted: an answer costs at least one."""
    usage = call.usage or _Usage()
    found = (_count(usage.prompt_tokens), _count(usage.completion_tokens))
    return found if sum(found) else None


def _count(given: int | None) -> int:
    return given if given is not None and 0 <= given <= TOKENS_MAX else 0


def _cost_micros(call: _Call) -> int | None:
    """Return what the analyst says, else tokens times prices: dollars per million tokens are millionths per token."""
    if call.cost_micros is not None:
        return call.cost_micros if 0 <= call.cost_micros <= COST_MICROS_MAX else None
    price_in, price_out, counted = _price(call.price_in), _price(call.price_out), _tokens(call)
    if price_in is None or price_out is None or counted is None:
        return None
    return int((price_in * counted[0] + price_out * counted[1]).to_integral_value(ROUND_CEILING))


def _price(given: str | None) -> Decimal | None:
    try:
        found = Decimal(given) if given is not None else None
    except ArithmeticError:
        return None
    return found if found is not None and found.is_finite() and 0 <= found <= PRICE_MAX else None
