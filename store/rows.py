"""Rows to records: a record's fields are the columns of its table. Used by the store and by whoever reads it. Pure."""

from __future__ import annotations

import functools
import json
from typing import Any, TypeVar

import msgspec

from bus.records import Order, OrderPlan, Record

R = TypeVar("R", bound=Record)


def columns(kind: type[Record]) -> str:
    """Return the column list of a record: its field names."""
    return ", ".join(kind.__struct_fields__)


@functools.lru_cache(maxsize=128)  # one text a query, whose hash Python remembers: apsw finds the prepared one by it
def selecting(kind: type[Record], tail: str) -> str:
    """Return the query for whole records: `tail` is what follows FROM."""
    return f"SELECT {columns(kind)} FROM {tail}"


def record_of(kind: type[R], row: tuple[Any, ...]) -> R:
    """Return a row, selected with `columns(kind)`, as record."""
    # Not strict: SQLite keeps a truth as 0 or 1.
    return msgspec.convert(dict(zip(kind.__struct_fields__, row, strict=True)), kind, strict=False)


def order_of(row: tuple[Any, ...]) -> Order:
    """Return a row of orders, selected with `columns(Order)`, as record."""
    found = dict(zip(Order.__struct_fields__, row, strict=True))
    found["plan"] = msgspec.json.decode(found["plan"], type=OrderPlan)
    found["baseline"] = tuple(json.loads(found["baseline"]))
    return msgspec.convert(found, Order)
