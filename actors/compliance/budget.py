"""The broker's daily request budget: is there enough for a trade, and how often may the monitor look. Pure.

Reads and writes count alike. The reserve is for closing positions in an emergency and is never planned with.
"""

from __future__ import annotations

from msgspec import Struct

from actors.compliance.rulebook import RuleSet

# Open, read back, set a missing stop, read again, close, read the history: what one more trade may cost from now on.
REQUESTS_PER_TRADE = 6
WRITES_PER_TRADE = 3
NEAR_FROM, NEAR_TO = 0.5, 0.8  # parts of the way to a limit's flatten level between which polling tightens
SPARE_SPENT_S = 3_600.0  # what is to spare is spent as if it had to last this long
SLOW_PART = 0.75  # of the flat cadence: the pace that stays affordable until the reset
CUSHION = 20  # requests that restarts cost; spent at the flat cadence when it comes to that
LOGIN_EVERY_S = 840.0  # a token lasts 15 minutes and is renewed a minute before its end
DAY_S = 86_400.0
KEPT_LEAST = 40  # for trades that come late, their reading back and the history
CLOSE_AGAIN_S = 1.0
CLOSE_AGAIN_S_MAX = 30.0
CLOSE_SPENT_S = 3_600.0
TRIES_IN_HASTE = 8  # about two minutes


def left(rules: RuleSet, used: int) -> int:
    """Return the requests left of the firm's day, the reserve taken off. Never negative."""
    return max(0, rules.requests.per_day - rules.requests.reserve - used)


def is_enough(rules: RuleSet, used: int, needed: int = REQUESTS_PER_TRADE) -> bool:
    """Return whether `needed` more requests leave the reserve untouched."""
    return used + needed <= rules.requests.per_day - rules.requests.reserve


class Pace(Struct, frozen=True, kw_only=True):
    """How often the account is looked at, in seconds between two polls."""

    flat_s: float  # nothing is open; also the slowest that is kept affordable for the rest of the day
    base_s: float  # something is open, far from every floor
    near_s: float  # near a floor


def urgency(*, room_cents: int, path_cents: int, stake_cents: int | None) -> float:
    """Return how much faster than usual to look, 0 to 1: both near the floor, and able to reach it.

    `path_cents` leads from the limit's reference to its flatten level, `room_cents` is what is left of it. Near: from
    half of the path on, fully from 80%. Able: `stake_cents`, what the open positions lose until their stops, is more
    than half of the room, fully when it is all of it; None: no known bound. Source: our choice, docs/decisions.md.
    """
    if room_cents <= 0 or path_cents <= 0:
        return 1.0
    near = (1 - room_cents / path_cents - NEAR_FROM) / (NEAR_TO - NEAR_FROM)
    able = 1.0 if stake_cents is None else 2 - room_cents / stake_cents if stake_cents > 0 else 0.0
    return max(0.0, min(near, able, 1.0))


def poll_interval_s(
    pace: Pace, *, is_watching: bool, urgency: float, seconds_to_reset: float, requests_per_poll: int,
    left_requests: int, kept_for_trades: int,
) -> float:  # fmt: skip
    """Return how long to wait until the next poll, so that the budget lasts until the firm's reset.

    `left_requests` is what `left` says, `is_watching` whether a position is open or may appear. At rest: max(usual
    pace, seconds to reset x requests per poll / what may be spent). With urgency the pace tightens towards `near_s` and
    spends what a poll every `flat_s` until the reset does not need, at most a part of it an hour: near a floor for
    hours, the account is watched less and less often, but never not at all. Never beyond the reset, when a new budget
    begins. The reserve, logins and what is kept for the trades still to come are never planned with; `kept_for_trades`
    is what a whole day needs. Only when nothing else is left does a look at an open position take of the latter, at
    `flat_s` at most. Source: docs/decisions.md, "Polling".
    """
    kept = max(kept_for_trades * min(1.0, seconds_to_reset / DAY_S), min(kept_for_trades, KEPT_LEAST))
    spendable = left_requests - kept - seconds_to_reset / LOGIN_EVERY_S
    even_s = _even_s(spendable, left_requests if is_watching else spendable, pace, seconds_to_reset, requests_per_poll)
    usual_s = max(pace.base_s if is_watching else pace.flat_s, even_s)
    slow_s = max(SLOW_PART * pace.flat_s, pace.base_s)
    interval_s = usual_s
    to_spare = spendable - seconds_to_reset * requests_per_poll / slow_s
    if is_watching and urgency > 0 and to_spare > 0:
        near_s = min(pace.near_s, pace.base_s)
        wanted_s = pace.base_s * (near_s / pace.base_s) ** min(1.0, urgency)
        interval_s = min(usual_s, max(wanted_s, SPARE_SPENT_S * requests_per_poll / to_spare))
    return max(0.0, min(interval_s, seconds_to_reset))


def _even_s(
    spendable: float, in_need: float, pace: Pace, seconds_to_reset: float, requests_per_poll: int
) -> float:  # fmt: skip
    """Return the interval at which polls last until the reset: with a cushion, else at most every `flat_s`."""
    needed = seconds_to_reset * requests_per_poll
    if spendable > CUSHION and needed / (spendable - CUSHION) < pace.flat_s:
        return needed / (spendable - CUSHION)
    # Before a new trade comes what is open already; the reserve is left alone all the same.
    return max(pace.flat_s, needed / in_need) if in_need >= requests_per_poll else seconds_to_reset


def close_again_s(tries: int, *, seconds_to_reset: float, requests_per_try: int, left_requests: int) -> float:
    """Return how long to wait before trying again to close or to find what must be closed, after `tries` tries.

    `left_requests` are all that are left of the day, the reserve too: this is what it is for. Doubling from 1 s to
    30 s; after that no faster than would spend what is left in an hour: it never runs out, however long it takes.
    """
    doubled_s = min(CLOSE_AGAIN_S * 2.0 ** min(tries, 16), CLOSE_AGAIN_S_MAX)
    if tries < TRIES_IN_HASTE:
        return doubled_s
    lasting_s = min(max(0.0, seconds_to_reset), CLOSE_SPENT_S) * requests_per_try / max(1, left_requests)
    return max(doubled_s, lasting_s)
