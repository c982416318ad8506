"""What calls of language models may cost: reserved at the store before each call, settled after it.

Used by the llm process. A call is reserved with the most that it can cost, all its retries included, and nothing is
asked of a model without a reservation. What a call leaves open (a kill, a withdrawal) stays counted: never too little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
from loguru import logger
from msgspec import Struct

from actors.analysts import chat
from actors.analysts.analyst import AnalysisError, Ask, Unavailable
from actors.analysts.answer import Schema
from actors.analysts.chat import CallFailed, Completer, Reply
from actors.analysts.prompts import ChatMessage
from bus import messages
from bus.clock import Clock
from bus.errors import NoAnswer, PilotError
from bus.vocabulary import Outcome
from config import dollars
from config.load import ConfigError
from config.settings import Llm, LlmEndpoint

BYTES_A_TOKEN = 2  # of prompts in English and figures there are more; fewer would make the estimate too low
TOKENS_AROUND = 64  # what an endpoint wraps around the messages
DAYS_ASKED_MAX = 3  # ours, the store's, and the next one when midnight comes in between
SETTLE_S = 1.0  # at the stop: for what is still to be settled


class BudgetSpent(PilotError):
    """A budget of the decision or of the day lets no further call through."""


class Amount(Struct, frozen=True):
    """Tokens, and money in millionths of a US dollar."""

    tokens: int = 0
    micros: int = 0

    def plus(self, other: Amount) -> Amount:
        return Amount(self.tokens + other.tokens, self.micros + other.micros)

    def minus(self, other: Amount) -> Amount:
        return Amount(self.tokens - other.tokens, self.micros - other.micros)

    def times(self, number: int) -> Amount:
        return Amount(self.tokens * number, self.micros * number)


class Budget:
    """The budgets of one worker. `specs` are the endpoints' settings by name, `ask` reaches the store."""

    def __init__(self, settings: Llm, specs: Mapping[str, LlmEndpoint], clock: Clock, ask: Ask) -> None:
        """Check that money can be counted where it is limited. Raises ConfigError when it cannot."""
        self.settings = settings
        self.specs = specs
        self.clock = clock
        self._ask = ask
        self._settling: set[asyncio.Task[None]] = set()  # at most one for each call under way: no call without an ack
        if settings.day_cost_max is None and settings.decision_cost_max is None:
            return
        if unpriced := [name for name, one in specs.items() if one.price_in is None or one.price_out is None]:
            raise ConfigError(
                f"llm.day_cost_max or llm.decision_cost_max is set, but {', '.join(unpriced)} has no price: "
                "set price_in and price_out, in dollars per million tokens (0 for a model of your own)"
            )

    def open(self) -> Purse:
        """Return the budget of one decision."""
        return Purse(self)

    async def close(self) -> None:
        """Settle what is under way for at most `SETTLE_S`. What stays open counts as reserved."""
        if self._settling:
            await asyncio.wait(tuple(self._settling), timeout=SETTLE_S)
        for task in tuple(self._settling):
            task.cancel()

    async def reserve(self, name: str, day: str, most: Amount, deadline_s: float) -> str:
        """Have the store count `most` as used; return for which day: its own, where another host's clock differs.

        Raises:
            BudgetSpent: a limit of the day refuses it.
            AnalysisError: the store did not answer in time, or its day changed meanwhile.
        """
        try:
            async with asyncio.timeout(max(0.0, deadline_s)):
                for _ in range(DAYS_ASKED_MAX):
                    ack = await self._ask(
                        messages.ReserveTokens(day=day, endpoint=name, tokens=most.tokens, cost_micros=most.micros)
                    )
                    if ack.outcome is Outcome.APPLIED:
                        return day
                    if not ack.allowed:
                        raise BudgetSpent(ack.reason)
                    day = ack.allowed[0]  # no budget has spoken: these are the days that the store takes for today
        except (TimeoutError, NoAnswer) as error:
            raise AnalysisError("the store reserved no tokens: no answer") from error
        raise AnalysisError(f"the store reserved no tokens: {ack.reason}")

    def settle(self, name: str, day: str, reserved: Amount, used: Amount) -> None:
        """Tell the store what a call did cost, beside what we do."""
        command = messages.SettleTokens(
            day=day, endpoint=name, reserved_tokens=reserved.tokens, reserved_micros=reserved.micros,
            tokens=used.tokens, cost_micros=used.micros,
        )  # fmt: skip
        task = asyncio.create_task(self._tell(command), name="settle tokens")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _tell(self, command: messages.SettleTokens) -> None:
        try:
            ack = await self._ask(command)
        except NoAnswer:
            logger.debug("The store does not know yet what a call did cost")
            return
        if ack.outcome is not Outcome.APPLIED:
            logger.warning("The store did not take our count of tokens: {}", ack.reason)


class Purse:
    """The budget of one decision. All its calls go through `complete`."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._counted = Amount()  # settled, and reserved for what is under way or was broken off

    async def complete(
        self, name: str, endpoint: Completer, asked: list[ChatMessage], schema: Schema, deadline_s: float
    ) -> Reply:
        """Return the endpoint's reply, after a reservation and within `deadline_s` for both.

        A call that is not metered needs none at the store; it counts in the decision's budget as it did once.

        Raises:
            BudgetSpent: the decision's or the day's budget does not cover the most that the call may cost.
            Unavailable: the endpoint is known to be away; nothing was reserved.
            AnalysisError: no reply, as `chat.Completer.complete` says, or no answer of the store.
        """
        budget, clock = self._budget, self._budget.clock
        began, day = clock.monotonic(), clock.now().date().isoformat()
        each = most_of(budget.specs[name], asked, schema)
        held = each.times(chat.RETRIES_MAX + 1)
        if not endpoint.is_available():
            raise Unavailable(f"{endpoint.host} is known to be away")
        self._require(held)
        self._counted = self._counted.plus(held)
        try:
            if endpoint.is_metered:
                day = await budget.reserve(name, day, held, deadline_s)
        except BudgetSpent:
            self._counted = self._counted.minus(held)
            raise
        try:
            reply = await endpoint.complete(asked, schema, deadline_s - (clock.monotonic() - began))
        except (CallFailed, Unavailable) as failed:
            used = each.times(failed.unmetered if isinstance(failed, CallFailed) else 0)
            self._settle(name, endpoint, day, held, used)
            raise
        self._settle(name, endpoint, day, held, cost_of(budget.specs[name], reply, each))
        return reply

    def _settle(self, name: str, endpoint: Completer, day: str, held: Amount, used: Amount) -> None:
        self._counted = self._counted.minus(held).plus(used)
        if endpoint.is_metered:
            self._budget.settle(name, day, held, used)

    def _require(self, most: Amount) -> None:
        limits, after = self._budget.settings, self._counted.plus(most)
        if limits.decision_tokens_max is not None and after.tokens > limits.decision_tokens_max:
            raise BudgetSpent(
                f"the decision's budget of {limits.decision_tokens_max} tokens is used up: {self._counted.tokens} are "
                f"counted, the next call needs up to {most.tokens}"
            )
        if limits.decision_cost_max is not None and after.micros > dollars.micros(limits.decision_cost_max):
            raise BudgetSpent(
                f"the decision's budget of ${limits.decision_cost_max} is used up: "
                f"${dollars.text(self._counted.micros)} are counted, the next call needs up to "
                f"${dollars.text(most.micros)}"
            )


def most_of(spec: LlmEndpoint, asked: list[ChatMessage], schema: Schema) -> Amount:
    """Return the most that one request may cost: its prompt by its size, and an answer of full length."""
    size = len(msgspec.json.encode(asked)) + len(msgspec.json.encode(schema.body))
    prompt = -(-size // BYTES_A_TOKEN) + TOKENS_AROUND
    micros = dollars.cost_micros(spec.price_in, spec.price_out, prompt, spec.max_tokens)
    return Amount(prompt + spec.max_tokens, micros)


def cost_of(spec: LlmEndpoint, reply: Reply, each: Amount) -> Amount:
    """Return what a call cost. A request whose tokens nobody counted is taken for the most that it may have cost."""
    used = reply.usage
    uncounted = each.times(reply.unmetered)
    tokens_in, tokens_out = used.prompt_tokens, used.completion_tokens
    if tokens_in is None or tokens_out is None:
        return uncounted.plus(each)
    micros = dollars.cost_micros(spec.price_in, spec.price_out, tokens_in, tokens_out)
    return uncounted.plus(Amount(tokens_in + tokens_out, micros))
