"""What `agent_state_json` holds of every analyst: its own account of its way to the verdict, and the verdict itself.

Used by the llm process. Pure. Always one JSON object within a limit; what is too large for it is left out by name,
never cut in the middle.
"""

from __future__ import annotations

import msgspec

from actors.analysts.verdict import Refusal, Verdict

BYTES_MAX = 160_000


def of(found: Verdict, refusal: Refusal | None = None, *, bytes_max: int = BYTES_MAX) -> str:
    """Return the final state of a verdict as the analyst gave it, and of the check that refused it.

    Under `verdict` stands what the analyst proposed, with its confidence; under `left_out` the names of what did not
    fit.
    """
    state = object_of(found.state_json)
    state["verdict"] = msgspec.Raw(msgspec.json.encode(proposal(found, refusal)))
    return msgspec.json.encode(fitting(state, bytes_max)).decode()


def proposal(found: Verdict, refusal: Refusal | None) -> dict[str, object]:
    """Return what was proposed, and why it may not become a trade, as plain values."""
    return {
        "side": found.side,
        "sl_pips": found.sl_pips,
        "tp_pips": found.tp_pips,
        "confidence": found.confidence,
        "refused": None if refusal is None else {"rule": refusal.rule, "reason": refusal.reason},
    }


def object_of(state_json: str) -> dict[str, msgspec.Raw]:
    """Return an analyst's state by field, as it was written; text that is no JSON object under `state`."""
    if not state_json:
        return {}
    try:
        return msgspec.json.decode(state_json, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return {"state": msgspec.Raw(msgspec.json.encode(state_json))}


def fitting(state: dict[str, msgspec.Raw], bytes_max: int) -> dict[str, msgspec.Raw]:
    """Return the fields that fit into `bytes_max`: the largest go first, the verdict stays."""
    kept, left_out = dict(state), []
    while len(msgspec.json.encode(kept)) > bytes_max and (names := kept.keys() - {"verdict", "left_out"}):
        # By name, too: which of two equals goes must not depend on chance.
        name = max(names, key=lambda one: (len(bytes(kept[one])), one))
        del kept[name]
        left_out.append(name)
        kept["left_out"] = msgspec.Raw(msgspec.json.encode(left_out))
    return kept
