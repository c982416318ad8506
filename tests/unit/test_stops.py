"""A stop may become tighter, never looser, and never nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.broker.errors import Refused
from actors.desk import stops
from tests.kit.compliance import D, a_position

prices = st.decimals(min_value="0.5", max_value="2", places=5)


class Recorder:
    """A client that only notes what it was asked to set."""

    def __init__(self) -> None:
        self.edits: list[tuple[Decimal, Decimal]] = []

    async def edit_position(self, position: object, sl_price: Decimal, tp_price: Decimal) -> None:
        self.edits.append((sl_price, tp_price))


@pytest.mark.parametrize(
    ("side", "found", "wanted", "why"),
    [
        ("BUY", "1.0975", "1.09749", "looser than 1.0975"),
        ("SELL", "1.1025", "1.10251", "looser than 1.1025"),
        ("BUY", "1.0975", "0", "must have one"),
        ("BUY", None, "0", "must have one"),
        ("SELL", "1.1025", "-1", "must have one"),
        ("BUY", "1.0975", "NaN", "must have one"),
        ("SELL", "1.1025", "Infinity", "must have one"),
    ],
)
async def test_looser_stop_is_refused_and_nothing_is_sent(side: str, found: str | None, wanted: str, why: str) -> None:
    client = Recorder()
    position = a_position(side=side, sl_price=None if found is None else D(found))
    with pytest.raises(Refused, match=why):
        await stops.edit(cast(Any, client), position, D(wanted), D("0"))
    assert client.edits == []


@pytest.mark.parametrize(
    ("side", "found", "wanted"),
    [
        ("BUY", "1.0975", "1.0975"),  # only the target changes
        ("BUY", "1.0975", "1.09751"),
        ("SELL", "1.1025", "1.10249"),
        ("BUY", None, "1.0900"),
        ("SELL", "0", "1.2000"),
    ],
)
async def test_tighter_or_first_stop_is_sent(side: str, found: str | None, wanted: str) -> None:
    client = Recorder()
    position = a_position(side=side, sl_price=None if found is None else D(found))
    await stops.edit(cast(Any, client), position, D(wanted), D("1.2"))
    assert client.edits == [(D(wanted), D("1.2"))]


@given(first=prices, changes=st.lists(prices, max_size=20), side=st.sampled_from(["BUY", "SELL"]))
def test_no_sequence_of_changes_ends_looser_than_it_began(first: Decimal, changes: list[Decimal], side: str) -> None:
    stop = first
    for wanted in changes:
        if not stops.loosening(a_position(side=side, sl_price=stop), wanted):
            stop = wanted
    assert stop >= first if side == "BUY" else stop <= first
