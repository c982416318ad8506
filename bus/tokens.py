"""The messages about what calls of language models cost. Parts of `bus.messages`, which every process imports."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from bus.frame import Day, Id, Message

Tokens = Annotated[int, Meta(ge=0, le=10**12)]
Micros = Annotated[int, Meta(ge=0, le=10**15)]  # millionths of a US dollar


class ReserveTokens(Message, frozen=True, kw_only=True, tag=True):
    """Ask to call a language model: the most that the call may cost counts as used from now on, whatever happens.

    `day` is the date in UTC; `cost_micros` are millionths of a US dollar. Refused as a whole when it does not fit.
    """

    day: Day
    endpoint: Id
    tokens: Tokens
    cost_micros: Micros


class SettleTokens(Message, frozen=True, kw_only=True, tag=True):
    """What a call did cost, in the place of what was reserved for it."""

    day: Day
    endpoint: Id
    reserved_tokens: Tokens
    reserved_micros: Micros
    tokens: Tokens
    cost_micros: Micros
