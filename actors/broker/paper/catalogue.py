"""Every misbehaviour of the paper broker by name: what it does, and on which requests it makes sense. Pure data.

Used by `faults` (which request suffers), `twists` (what becomes of an order) and `answers` (what is said about it).
docs/misbehaviours.md is this table beside what the pipeline then does.
"""

from __future__ import annotations

from typing import Literal, get_args

from msgspec import Struct

Call = Literal["login", "read", "balance", "instruments", "quotes", "positions", "history", "open", "edit", "close"]
CALLS: tuple[Call, ...] = get_args(Call)

OPEN: tuple[Call, ...] = ("open",)
EDIT: tuple[Call, ...] = ("edit",)
CLOSE: tuple[Call, ...] = ("close",)
LOGIN: tuple[Call, ...] = ("login",)
WRITES: tuple[Call, ...] = ("open", "edit", "close")
NAMED_READS: tuple[Call, ...] = ("balance", "instruments", "quotes", "positions", "history")
READS: tuple[Call, ...] = ("read", *NAMED_READS)
LISTS: tuple[Call, ...] = ("positions", "history", "quotes", "instruments")
ANY: tuple[Call, ...] = ("open", *(call for call in CALLS if call != "open"))


class Misbehaviour(Struct, frozen=True):
    """One entry. `on` are the requests it fits, the first by default; `seconds` is used where a fault gives none.

    `is_lie` marks a broker that says the opposite of what it did: only looking afterwards can show it.
    """

    text: str
    on: tuple[Call, ...]
    seconds: float = 0.0
    is_lie: bool = False


# What becomes of the order, edit or close itself.
TWISTS: dict[str, Misbehaviour] = {
    "place_late": Misbehaviour("resets the connection at once, carries the order out `seconds` later", OPEN, 1.0),
    "place_late_unanswered": Misbehaviour("never answers, carries the order out `seconds` later", OPEN, 1.0),
    "hide_position": Misbehaviour("carries the order out, shows the position only after `seconds`", OPEN, 5.0),
    "ignore_stop": Misbehaviour("opens without stop and target and says OK", OPEN),
    "naked": Misbehaviour("opens without stop and target and refuses every edit of that position", OPEN),
    "round_stop": Misbehaviour("opens with a stop one point farther away than asked", OPEN),
    "partial_fill": Misbehaviour("opens half of the volume and says OK", OPEN),
    "close_at_once": Misbehaviour("closes the new position by its stop before it is ever shown", OPEN),
    "place_twice": Misbehaviour("opens two positions for one order and names the first", OPEN, is_lie=True),
    "overfill": Misbehaviour("opens twice the volume and says OK", OPEN, is_lie=True),
    "edit_ignored": Misbehaviour("says OK to an edit and changes nothing", EDIT),
    "close_ignored": Misbehaviour("says OK to a close and closes nothing", CLOSE),
    "close_half": Misbehaviour("closes half of the position and says OK", CLOSE),
}

# Carried out; what is said about it is lost or of no use.
PLACED: dict[str, Misbehaviour] = {
    "lose_answer_reset": Misbehaviour("carries it out, resets the connection instead of an answer", ANY),
    "lose_answer_timeout": Misbehaviour("carries it out, does not answer until the client gives up", ANY),
    "empty_200": Misbehaviour("carries it out, answers 200 with an empty body", ANY),
    "html_200": Misbehaviour("carries it out, answers 200 with a page", ANY),
    "html_502": Misbehaviour("carries it out, answers with the proxy's 502 page", ANY),
    "json_500": Misbehaviour("carries it out, answers 500 in JSON", ANY),
    "redirect": Misbehaviour("carries it out, answers 307 to the same path: who follows doubles the order", ANY),
    "401_placed": Misbehaviour("carries it out, answers 401", WRITES),
    "huge_200": Misbehaviour("carries it out, answers with a body without end", ANY),
    "truncated_json": Misbehaviour("carries it out, answers half of the JSON as if it were all", ANY),
    "deep_json": Misbehaviour("carries it out, answers brackets within brackets, thousands deep", ANY),
    "cut_body": Misbehaviour("carries it out, resets the connection in the middle of the body", ANY),
    "slow": Misbehaviour("carries it out, answers `seconds` later", ANY, 0.2),
    "slow_body": Misbehaviour("carries it out, drips the body over `seconds`", ANY, 0.2),
    "fields_missing": Misbehaviour("carries it out, answers JSON without the fields that matter", ANY),
    "odd_types": Misbehaviour("answers numbers as strings, strings as numbers, and fields nobody knows", ANY),
    "status_pending": Misbehaviour("carries it out, answers 200 with status PENDING", WRITES),
    "ok_without_order_id": Misbehaviour("carries it out, answers OK without an orderId", OPEN),
    "wrong_order_id": Misbehaviour("carries it out, answers OK with the id of something else", OPEN),
    "reject_placed": Misbehaviour("carries it out, answers REJECTED", OPEN, is_lie=True),
    "restart_placed": Misbehaviour("carries it out, dies before answering", WRITES),
}

# Not carried out.
UNPLACED: dict[str, Misbehaviour] = {
    "drop_unplaced": Misbehaviour("does nothing, resets the connection", ANY),
    "hang_unplaced": Misbehaviour("does nothing, does not answer until the client gives up", ANY),
    "ok_unplaced": Misbehaviour("does nothing, answers OK with an orderId that never comes to exist", OPEN),
    "reject_200": Misbehaviour("does nothing, answers 200 with status REJECTED", WRITES),
    "reject_400": Misbehaviour("does nothing, answers 400 in JSON", WRITES),
    "market_closed": Misbehaviour("does nothing, answers REJECTED: the session closed after the look", WRITES),
    "status_503": Misbehaviour("does nothing, answers 503 in JSON", ANY),
    "html_403": Misbehaviour("does nothing, answers with the content network's 403 page", ANY),
    "html_400": Misbehaviour("does nothing, answers with a proxy's 400 page", ANY),
    "401_once": Misbehaviour("does nothing, answers 401", ANY),
    "token_revoked": Misbehaviour("forgets all tokens, answers 401 until a new login", (*WRITES, *READS)),
    "429": Misbehaviour("does nothing, answers 429 with Retry-After 7", ANY),
    "429_bare": Misbehaviour("does nothing, answers 429 without Retry-After", ANY),
    "restart_unplaced": Misbehaviour("dies before it does anything", ANY),
    "login_refused": Misbehaviour("refuses the login with 401", LOGIN),
}

# Reads that show something else than what is.
VIEWS: dict[str, Misbehaviour] = {
    "other_account": Misbehaviour("lets us in, but lists only another account", LOGIN),
    "odd_cookie": Misbehaviour("lets us in, and sets a cookie that is no ASCII", LOGIN),
    "stale_read": Misbehaviour("answers with what it said the last time", READS),
    "duplicate_rows": Misbehaviour("lists every row twice", ("positions", "history", "quotes", "instruments")),
    "reorder_rows": Misbehaviour("lists the rows backwards", ("positions", "history", "quotes", "instruments")),
    "positions_vanish": Misbehaviour("shows no open position at all", ("positions",)),
    "history_vanishes": Misbehaviour("shows no closed row at all", ("history",)),
    "history_late": Misbehaviour("shows a closed row only `seconds` after the close", ("history",), 5.0),
    "quotes_missing": Misbehaviour("has no price", ("quotes",)),
    "quotes_stale": Misbehaviour("shows prices `seconds` old", ("quotes",), 3_600.0),
    "quotes_crossed": Misbehaviour("shows an ask below the bid", ("quotes",)),
    "instruments_missing": Misbehaviour("lists no instrument", ("instruments",)),
    "session_closed": Misbehaviour("says that no session is open", ("instruments",)),
    "nan_numbers": Misbehaviour(
        "answers NaN for every amount and price", ("balance", "positions", "history", "quotes")
    ),
    "close_between": Misbehaviour("closes every position right after it showed them", READS),
    "stop_out": Misbehaviour("closes every position by margin call before it answers", READS),
}

ALL: dict[str, Misbehaviour] = TWISTS | PLACED | UNPLACED | VIEWS
ANSWERS: dict[str, Misbehaviour] = PLACED | VIEWS  # may follow a twist: `then`
