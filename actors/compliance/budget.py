"""The broker's daily request budget: is there enough for a trade, and how often may the monitor poll. Pure.

Reads and writes count alike. The reserve is for closing positions in an emergency and is never planned with.
"""

from __future__ import annotations

from actors.compliance.rulebook import RuleSet

# Open, read back, set a missing stop, read again, close, read the history: what one more trade may cost from now on.
REQUESTS_PER_TRADE = 6


def left(rules: RuleSet, used: int) -> int:
    """Return the requests left of the firm's day, the reserve taken off. Never negative."""
    return max(0, rules.requests.per_day - rules.requests.reserve - used)


def is_enough(rules: RuleSet, used: int, needed: int = REQUESTS_PER_TRADE) -> bool:
    """Return whether `needed` more requests leave the reserve untouched."""
    return used + needed <= rules.requests.per_day - rules.requests.reserve


def poll_interval_s(
    *, base_s: float, seconds_to_reset: float, requests_per_poll: int, left_requests: int, kept_for_trades: int
) -> float:
    """Return how long to wait until the next poll, so that the budget lasts until the firm's reset.

    max(base, seconds to reset x requests per poll / what may be spent on polling), and never beyond the reset, when a
    new budget begins. `left_requests` is what `left` says. Source: facts on the request budget in docs/decisions.md.
    """
    spendable = max(1, left_requests - kept_for_trades)
    stretched_s = seconds_to_reset * requests_per_poll / spendable
    return max(0.0, min(max(base_s, stretched_s), max(seconds_to_reset, 0.0)))
