"""What the pipeline does about every misbehaviour of a broker: the table behind the tests and docs/misbehaviours.md.

`python -m tests.kit.misbehaviours > docs/misbehaviours.md` writes the page; a test compares the two.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from actors.broker.paper import catalogue

Order = dict[str, Any]  # the body of POST /paper/faults
# Requests of the first look and of the two before an order (one finds what the days started with, one has it kept):
# what comes after them follows the order.
BEFORE_ORDER = {"positions": 3, "history": 3}


@dataclass(frozen=True)
class Case:
    """Some faults, and where the one intent of the test ends. `said` must be in its journal.

    `later` is the end after the monitor has polled, if another one; `halted` is in the reason of the halt it raised.
    """

    faults: tuple[Order, ...]
    end: str
    does: str
    said: str = ""
    halted: str = ""
    later: str = ""

    @property
    def name(self) -> str:
        return ", ".join(_named(one) for one in self.faults)


def _named(one: Order) -> str:
    on = f" on {one['on']}" if "on" in one else ""
    seconds = f" {one['seconds']:g} s" if "seconds" in one else ""
    then = f", then {one['then']}" if "then" in one else ""
    times = f" x{one['times']}" if one.get("times", 1) > 1 else ""
    return f"{one['fault']}{on}{seconds}{then}{times}"


def after(fault: str, on: str, **more: Any) -> Order:
    """Return a fault on reads that come after the order."""
    return {"fault": fault, "on": on, "skip": BEFORE_ORDER[on], **more}


LOST = {"fault": "lose_answer_reset"}
LOOKS = "finds the position by its fingerprint and records it"
QUIET = "looks until the quiet period is over, then records that there is no order; never sends again"
HALTS = "cannot tell, keeps the order unknown and halts the account for `pilot resolve`"
REFUSED = "records the refusal; never sends again"

# On the order itself: carried out, and the answer lost or of no use.
CARRIED_OUT = tuple(
    Case(({"fault": name},), "opened", LOOKS, "lose_answer")
    for name in (
        "lose_answer_reset", "lose_answer_timeout", "empty_200", "html_200", "html_502", "json_500", "redirect",
        "401_placed", "huge_200", "truncated_json", "deep_json", "cut_body", "fields_missing", "status_pending",
        "ok_without_order_id",
    )
)  # fmt: skip
# Not carried out, and no certain answer.
NOTHING_DONE = tuple(
    Case(({"fault": name},), "failed", QUIET, "quiet period")
    for name in (
        "drop_unplaced", "hang_unplaced", "status_503", "html_403", "html_400", "401_once", "token_revoked", "429",
        "429_bare",
    )
)  # fmt: skip
ORDERS = (
    *CARRIED_OUT,
    *NOTHING_DONE,
    *(Case(({"fault": name},), "failed", REFUSED, said) for name, said in (
        ("reject_200", "TRADE_DISABLED"), ("reject_400", "TRADE_DISABLED"), ("market_closed", "MARKET_CLOSED"),
    )),
    *(Case(({"fault": name},), "opened", "records the position as if nothing had been", "open: position") for name in (
        "slow", "slow_body", "odd_types",
    )),
    Case(({"fault": "ok_unplaced"},), "halted", HALTS, "neither open nor closed"),
    Case(({"fault": "wrong_order_id"},), "halted", HALTS, "neither open nor closed"),
    Case(({"fault": "place_late", "seconds": 2.0},), "opened", LOOKS, "lose_answer"),
    Case(({"fault": "place_late_unanswered", "seconds": 2.0},), "opened", LOOKS, "lose_answer"),
    Case(({"fault": "place_late", "seconds": 2.0, "then": "html_502"},), "opened", LOOKS, "lose_answer"),
    Case(({"fault": "hide_position", "seconds": 0.5},), "opened", "waits until the broker shows the id it gave"),
    Case(({"fault": "hide_position", "seconds": 3.0},), "opened", "waits until the broker shows the id it gave"),
    Case(({"fault": "hide_position", "seconds": 3.0, "then": "lose_answer_reset"},), "opened", LOOKS, "lose_answer"),
    Case(({"fault": "hide_position", "seconds": 600.0},), "halted", HALTS, "accepted"),
    Case(({"fault": "ignore_stop"},), "opened", "sets stop and target, reads them back, then records the position"),
    Case(({"fault": "ignore_stop", "then": "lose_answer_reset"},), "opened", "finds it by side, volume and time, "
         "sets the stop, then records it", "lose_answer"),
    Case(({"fault": "ignore_stop"}, {"fault": "edit_ignored", "times": 2}), "opened",
         "reads back after each edit and tries again, three times at most"),
    Case(({"fault": "ignore_stop"}, {"fault": "edit_ignored", "times": 9}), "closed",
         "closes the position: without a stop is worse than none", "close: MANUAL"),
    Case(({"fault": "ignore_stop"}, {"fault": "reject_200", "on": "edit", "times": 9}), "closed",
         "closes the position: without a stop is worse than none", "close: MANUAL"),
    Case(({"fault": "ignore_stop"}, {"fault": "lose_answer_reset", "on": "edit"}), "opened",
         "reads back: the stop is there"),
    Case(({"fault": "ignore_stop"}, {"fault": "401_once", "on": "edit"}), "opened",
         "reads back with a new login, and sets the stop again"),
    Case(({"fault": "ignore_stop"}, {"fault": "restart_unplaced", "on": "edit"}), "opened",
         "reads back when the broker is there again, and sets the stop again"),
    Case(({"fault": "naked"},), "closed", "closes the position: without a stop is worse than none", "close: MANUAL"),
    Case(({"fault": "naked"}, {"fault": "close_ignored", "times": 2}), "closed",
         "reads back after each close and closes again", "close: MANUAL"),
    Case(({"fault": "naked"}, {"fault": "close_half"}), "closed",
         "reads back, and closes the rest; the result adds both rows up", "close: MANUAL"),
    Case(({"fault": "naked"}, {"fault": "close_half"}, {"fault": "positions_vanish", "skip": 7}), "closed",
         "takes the row of a part for no end: looks again, and closes the rest", "close: MANUAL"),
    Case(({"fault": "naked"}, {"fault": "lose_answer_reset", "on": "close"}), "closed",
         "reads back: it is gone", "close: MANUAL"),
    Case(({"fault": "naked"}, {"fault": "429", "on": "close"}), "closed", "closes again", "close: MANUAL"),
    Case(({"fault": "round_stop"},), "opened", "sets the stop as planned: looser than planned is not allowed"),
    Case(({"fault": "round_stop", "then": "lose_answer_reset"},), "halted", HALTS, "are like it"),
    Case(({"fault": "partial_fill"},), "opened", "records the volume that was filled"),
    Case(({"fault": "partial_fill", "then": "lose_answer_reset"},), "opened", LOOKS, "lose_answer"),
    Case(({"fault": "close_at_once"},), "closed", "finds it in the history and records opening and end", "close: SL"),
    Case(({"fault": "close_at_once", "then": "lose_answer_reset"},), "closed",
         "finds it in the history and records opening and end", "close: SL"),
    Case(({"fault": "restart_placed"},), "opened", LOOKS, "lose_answer"),
    Case(({"fault": "restart_unplaced"},), "failed", QUIET, "quiet period"),
)  # fmt: skip

# Reads after the order, while its outcome is being found out or read back.
AFTERWARDS = (
    Case((LOST, after("duplicate_rows", "positions", times=5)), "opened", "counts equal rows once", "lose_answer"),
    Case((LOST, after("reorder_rows", "positions", times=5)), "opened", LOOKS, "lose_answer"),
    Case((LOST, after("stale_read", "positions", times=3)), "opened", "goes on looking", "lose_answer"),
    Case((LOST, after("positions_vanish", "positions", times=3)), "opened", "goes on looking", "lose_answer"),
    Case((after("positions_vanish", "positions", times=3),), "opened", "waits until the broker shows the id it gave"),
    Case((after("stale_read", "positions", times=3),), "opened", "waits until the broker shows the id it gave"),
    Case((after("odd_types", "positions", times=2),), "opened", "reads numbers in both forms, ignores other fields"),
    Case((after("nan_numbers", "positions", times=2),), "opened", "calls the answer unreadable and looks again"),
    Case((LOST, after("close_between", "positions")), "opened", "records what it saw; the monitor finds the end",
         "lose_answer", later="closed"),
    Case((LOST, after("stop_out", "positions")), "closed", "finds it in the history and records opening and end",
         "close: STOP_OUT"),
    Case(({"fault": "close_at_once"}, after("history_late", "history", seconds=2.0, times=99)), "closed",
         "waits for the row", "close: SL"),
    Case(({"fault": "close_at_once"}, after("history_vanishes", "history", times=3)), "closed", "waits for the row",
         "close: SL"),
    Case(({"fault": "close_at_once"}, after("duplicate_rows", "history", times=9)), "closed",
         "counts equal rows once", "close: SL"),
    Case(({"fault": "close_at_once"}, after("reorder_rows", "history", times=9)), "closed",
         "finds it in the history and records opening and end", "close: SL"),
    Case(({"fault": "close_at_once", "then": "lose_answer_reset"}, after("duplicate_rows", "history", times=9)),
         "closed", "counts equal rows once", "close: SL"),
    Case((LOST, after("token_revoked", "positions")), "opened", "logs in again and looks", "lose_answer"),
    Case((LOST, after("restart_unplaced", "positions")), "opened", "waits for the broker, looks again", "lose_answer"),
    Case(({"fault": "drop_unplaced"}, after("html_502", "positions", times=4)), "failed",
         "concludes nothing from a look that failed; " + QUIET, "quiet period"),
)  # fmt: skip

# Reads before the order: nothing is reserved, so nothing can be lost.
BEFOREHAND = (
    *(Case(({"fault": name, "on": "quotes", "skip": 1},), "rejected", "refuses to trade on it", said)
      for name, said in (
        ("quotes_missing", "quote_missing"), ("quotes_stale", "quote"),
    )),
    Case(({"fault": "quotes_crossed"},), "opened", "calls the answer unreadable, gives the intent back, tries later",
         "return: could not read the account"),
    Case(({"fault": "stale_read", "on": "quotes"},), "opened", "takes prices that are fresh enough"),
    Case(({"fault": "session_closed", "times": 9},), "rejected", "does not trade while the session is closed",
         "session"),
    Case(({"fault": "instruments_missing", "times": 9},), "rejected", "does not trade what the broker does not list",
         "symbol"),
    Case(({"fault": "nan_numbers", "on": "balance"},), "opened",
         "calls the answer unreadable, gives the intent back, tries later", "return: could not read the account"),
    Case(({"fault": "401_once", "on": "balance"},), "opened", "logs in again and asks once more"),
    Case(({"fault": "token_revoked", "on": "balance"},), "opened", "logs in again and asks once more"),
    Case(({"fault": "odd_types", "on": "login"}, {"fault": "odd_types", "on": "balance", "times": 2},
          {"fault": "odd_types", "on": "instruments"}, {"fault": "odd_types", "on": "quotes"},
          {"fault": "odd_types", "on": "history"}), "opened", "reads numbers in both forms, ignores other fields"),
    Case(({"fault": "odd_cookie"},), "opened", "leaves out a cookie that no header can carry"),
    Case(({"fault": "restart_unplaced", "on": "balance"},), "opened", "gives the intent back, tries later",
         "return: could not read the account"),
)  # fmt: skip

# The monitor's polls of an open position (its look comes after four of the executor's).
WATCHING = (
    Case(({"fault": "stop_out", "on": "positions", "skip": 4},), "opened", "the monitor records the end", "",
         later="closed"),
    Case(({"fault": "close_between", "on": "balance", "skip": 4},), "opened", "the monitor records the end", "",
         later="closed"),
    Case(({"fault": "positions_vanish", "skip": 4, "times": 2},), "opened",
         "the monitor believes no end without a row of the history"),
    Case(({"fault": "duplicate_rows", "on": "positions", "skip": 4},), "opened", "the monitor counts equal rows once"),
)  # fmt: skip

# The broker says the opposite of what it did, or does it when nobody waits for it any more. No protocol shows that at
# once; the monitor does.
HALTED_LATER = "the monitor finds a position that belies it, and halts the account"
LIES = (
    Case(({"fault": "reject_placed"},), "failed", "records the refusal; " + HALTED_LATER, "TRADE_DISABLED",
         halted="belied_order"),
    Case(({"fault": "place_twice"},), "opened", "records the position it was told; " + HALTED_LATER,
         halted="belied_order"),
    Case(({"fault": "place_twice", "then": "lose_answer_reset"},), "halted", HALTS, "2 positions fit"),
    Case(({"fault": "overfill"},), "opened", "records it and halts: more is at risk than the guard allowed",
         halted="more is at risk"),
    Case(({"fault": "overfill", "then": "lose_answer_reset"},), "halted", HALTS, "are like it"),
    Case(({"fault": "hide_position", "seconds": 60.0, "then": "lose_answer_reset"},), "failed",
         "believes in an absence that lasts beyond the quiet period; " + HALTED_LATER, "quiet period",
         halted="belied_order"),
    Case(({"fault": "place_late", "seconds": 60.0},), "failed",
         "believes in an absence that lasts beyond the quiet period; " + HALTED_LATER, "quiet period",
         halted="belied_order"),
)  # fmt: skip

ALL = (*ORDERS, *AFTERWARDS, *BEFOREHAND, *WATCHING, *LIES)

# Answers to a read that bring nothing, and what the pipeline does about each: tried again, nothing lost.
USELESS_READS = (
    "lose_answer_reset", "lose_answer_timeout", "empty_200", "html_200", "html_502", "json_500", "redirect", "huge_200",
    "truncated_json", "deep_json", "cut_body", "fields_missing", "drop_unplaced", "hang_unplaced", "status_503",
    "html_403", "html_400", "429", "429_bare",
)  # fmt: skip
USELESS_LOGINS = (
    "login_refused", "other_account", "html_502", "empty_200", "429", "drop_unplaced", "truncated_json", "deep_json",
)  # fmt: skip


def covered() -> set[str]:
    """Return the names that a case or a sequence has."""
    in_cases = {str(one[key]) for case in ALL for one in case.faults for key in ("fault", "then") if key in one}
    return in_cases | {*USELESS_READS, *USELESS_LOGINS}


HEAD = """# Misbehaviours of the paper broker

Made by `python -m tests.kit.misbehaviours > docs/misbehaviours.md`; a test compares. Every line of the second and third
table is a test in `tests/integration/test_misbehaviour.py`: the real executor, monitor, store and paper broker.
After each one, broker, ledger and store are compared: never two orders for one intent, every position is known to the
store or the account is halted over it, every open position carries its stop, failed means that nothing was opened.

Order one with `POST /paper/faults` (`PILOT_PAPER_FAULTS=1`), for the next requests or by chance:

```
{"fault": "lose_answer_reset", "on": "open", "times": 2, "skip": 1}
{"fault": "partial_fill", "then": "lose_answer_timeout"}
{"fault": "hide_position", "seconds": 0.5, "seconds_max": 10, "probability": 0.05, "seed": 7}
```

or begin with them: `PILOT_PAPER_FAULTS=/path/of/faults.json`, a list of the same. Those of the file begin anew when the
broker restarts, those ordered over HTTP are forgotten. `GET /paper/faults` shows what waits and how often each was
suffered, `DELETE /paper/faults` forgets all. What was received, placed, edited and closed, and every fault suffered,
stands in `paper/ledger.jsonl`; its format is in `actors/broker/paper/ledger.py`.
"""


def page() -> str:
    """Return docs/misbehaviours.md."""
    lines = [HEAD, f"## What the broker can do: {len(catalogue.ALL)} misbehaviours\n"]
    lines += ["| name | what it does | on (first: default) |", "|---|---|---|"]
    lines += [f"| `{name}` | {one.text} | {', '.join(one.on)} |" for name, one in catalogue.ALL.items()]
    for title, cases in (
        ("The order and its answer", ORDERS), ("Reads after the order", AFTERWARDS),
        ("Reads before the order", BEFOREHAND), ("While a position is open", WATCHING),
        ("Lies, and absence beyond the quiet period", LIES),
    ):  # fmt: skip
        lines += [f"\n## {title}: what the pipeline does\n", "| misbehaviour | the pipeline | end |", "|---|---|---|"]
        lines += [f"| {case.name} | {case.does} | {case.later or case.end} |" for case in cases]
    lines += ["\n## Answers that bring nothing: what the pipeline does\n"]
    lines += [
        f"One after the other, on a read before the order: {', '.join(USELESS_READS)}. The intent is given back and"
    ]
    lines += ["tried again later, with a delay that grows, until its `expires_at`; then it is opened once."]
    lines += [
        f"\nOn the login: {', '.join(USELESS_LOGINS)}. As above; a refused login is repeated after two minutes only."
    ]
    lines += ["\nOn reads while an outcome is unknown: the same list. Nothing is concluded from a look that failed."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
