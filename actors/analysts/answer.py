"""The answer that a language model must give: its fields, its JSON schema, and the strict reading of what came back.

Used by the llm process. Pure. One JSON object with exactly one meaning, or no answer: nothing is searched for in prose,
nothing is guessed.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

# Neither goes over the same text twice: a hostile answer of a megabyte must not stop the worker's clock.
FENCE = re.compile(r"```[a-zA-Z]*[ \t\r]*\n(.*)```", re.DOTALL)
THOUGHT = re.compile(r"\s*<think(?:ing)?>.*?</think(?:ing)?>", re.IGNORECASE | re.DOTALL)

T = TypeVar("T")


class Schema(Struct, frozen=True):
    """The shape of an answer as an endpoint is told: a name and a JSON schema in its strict dialect."""

    name: str
    body: dict[str, Any]


class Answer(Struct, frozen=True):
    """The fields in the order in which they are written: a model that states its reason first decides better."""

    reason: str
    side: Literal["BUY", "SELL", "HOLD"]
    sl_pips: float | None
    tp_pips: float | None
    confidence: float


class Opinion(Struct, frozen=True):
    """What a role of a panel thinks: -1 is certainly sell, 1 certainly buy. Its argument comes first, too."""

    argument: str
    stance: float


class Unreadable(Struct, frozen=True):
    """Text that is no answer, and what is wrong with it, in words that the model can act on."""

    problem: str


def read(text: str) -> Answer | Unreadable:
    """Return the answer in a model's text. Think blocks before it and one code fence around it are taken off."""
    return _decode(text, Answer)


def read_opinion(text: str) -> Opinion | Unreadable:
    """Return the opinion in a model's text, read as `read` does."""
    found = _decode(text, Opinion)
    if isinstance(found, Opinion) and not -1 <= found.stance <= 1:
        return Unreadable(f"stance was {found.stance:g}; allowed: -1 to 1")
    return found


def _decode(text: str, kind: type[T]) -> T | Unreadable:
    bare = _without_thoughts(text).strip()
    # A fence with words around it may hold a draft or an example: it must be all that is left.
    if fenced := FENCE.fullmatch(bare):
        bare = fenced[1].strip()
        if "```" in bare:
            return Unreadable("it holds several code blocks; exactly one JSON object is allowed")
    if not bare:
        return Unreadable("it is empty")
    if not bare.startswith("{"):
        return Unreadable("it is not a JSON object")
    try:
        # The standard parser sees what msgspec does not: a field that stands twice, whose last value would win.
        json.loads(bare, object_pairs_hook=_once_each)
        return msgspec.json.decode(bare, type=kind)
    except (ValueError, RecursionError) as error:
        # It goes on with what was found: text of others, which would stand among our own words.
        if str(error).startswith("Invalid enum value"):
            return Unreadable("side must be BUY, SELL or HOLD")
        return Unreadable(str(error) or "it is nested too deeply")


def _without_thoughts(text: str) -> str:
    """Return text without the thoughts before the answer. A thought without an end or a beginning stays: no answer."""
    at = 0
    while thought := THOUGHT.match(text, at):
        at = thought.end()
    return text[at:]


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands twice in the JSON object")
    return found


def schema_of(name: str, kind: type[Struct]) -> Schema:
    """Return the shape of a struct under a name."""
    return Schema(name, strict_schema(kind))


def strict_schema(kind: type[Struct]) -> dict[str, Any]:
    """Return the JSON schema of a struct in the strict dialect of chat completion endpoints.

    The root `$ref` is inlined and other `$defs` are kept; every property is required and no other is allowed; enums
    carry a type; no `title` and no `default`. Source: OpenAI, Structured Outputs, supported schemas.
    """
    raw = msgspec.json.schema(kind)
    definitions = raw.pop("$defs", {})
    root = definitions.pop(raw["$ref"].rsplit("/", 1)[1]) if "$ref" in raw else raw
    found: dict[str, Any] = _strict(root)
    if definitions:
        found["$defs"] = {name: _strict(value) for name, value in definitions.items()}
    return found


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: _strict(value) for key, value in node.items() if key not in ("title", "default", "properties")}
    if "properties" in node:
        # The names in here are ours: a field called `title` or `default` is no keyword.
        found["properties"] = {name: _strict(value) for name, value in node["properties"].items()}
        found["required"] = list(node["properties"])
        found["additionalProperties"] = False
    if "enum" in found and all(isinstance(value, str) for value in found["enum"]):
        found["type"] = "string"
    return found
