"""What a panel leaves behind: who said what, as a record for the audit and as a report for people.

Used by the llm process. Pure. Holds nothing but what the replies said, so that the same replies leave the same record.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from actors.analysts import foreign, verdict
from actors.analysts.answer import Answer, Opinion
from actors.analysts.consult import Call, Consulted, T
from actors.analysts.roles import Role
from actors.console import text
from bus.records import Signal

SHOWN_CHARS_MAX = 1_200


class Voice(Struct, frozen=True, kw_only=True):
    """One answer of one role. Without a valid answer the stance is 0 and the argument says what was wrong."""

    role: Role
    round: int
    stance: float
    argument: str
    call: Call


class _State(Struct, frozen=True, kw_only=True, tag_field="analyst", tag="panel"):
    """How a verdict came about. Goes into `agent_state_json`."""

    side: str | None  # the judge's
    disagreement: float | None
    voices: tuple[_Said, ...]


class _Said(Struct, frozen=True, kw_only=True):
    role: Role
    round: int
    stance: float
    call: Call


def voice(role: Role, number: int, found: Consulted[T], call: Call, chars_max: int) -> Voice:
    """Return what a role said in a round."""
    said = found.answer
    argument, stance = f"(no valid answer: {found.problem})", 0.0
    if isinstance(said, Opinion):
        argument, stance = said.argument, said.stance
    elif isinstance(said, Answer):
        argument = said.reason
    return Voice(
        role=role, round=number, stance=stance, argument=text.clean(argument, chars_max),
        call=call,
    )  # fmt: skip


def line(reason: str) -> str:
    """Return a judge's reason as one clean line."""
    return text.line(reason, verdict.REASON_CHARS_MAX)


def state(voices: list[Voice], *, side: str | None = None, disagreement: float | None = None) -> str:
    """Return the record for the audit as JSON."""
    said = tuple(_Said(role=one.role, round=one.round, stance=one.stance, call=one.call) for one in voices)
    rounded = None if disagreement is None else round(disagreement, 6)
    return msgspec.json.encode(_State(side=side, disagreement=rounded, voices=said)).decode()


def report(signal: Signal, side: str, reason: str, voices: list[Voice]) -> str:
    """Return the report for people, in Markdown. Every word of a model stands in a quotation."""
    lines = [
        f"# {signal.symbol}: {side}",
        "",
        f"Written by a panel of language models. Bars of {signal.source} up to {signal.bar_time}.",
        "",
        foreign.quoted(reason, verdict.REASON_CHARS_MAX, "> "),
    ]
    for one in voices:
        stance = "" if one.role == "judge" else f", stance {one.stance:+.2f}"
        lines += [
            "",
            f"## {one.role}, round {one.round}{stance}",
            "",
            f"From {one.call.model} at {one.call.endpoint}{', after one repair' if one.call.repaired else ''}.",
            "",
            foreign.quoted(one.argument, SHOWN_CHARS_MAX, "> "),
        ]
    return "\n".join(lines) + "\n"
