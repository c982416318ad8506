"""What a process measures of itself, counted into fixed buckets and sent as totals with each beat.

Used by every process that beats, and by the store. Starts no thread, keeps no sample and never grows: names and buckets
are a closed set. Totals, not changes, are sent, so that a lost beat loses nothing; each new process counts from zero.
Decides nothing: whatever is counted here may be wrong without a trade being wrong.
"""

from __future__ import annotations

from bisect import bisect_left
from enum import StrEnum
from time import perf_counter
from typing import Annotated

from msgspec import Meta, Struct

BUCKETS_MAX = 32
TALLIES_MAX = 32  # of one beat

_BROKER_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LLM_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_COMMIT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Name(StrEnum):
    """Everything that is counted. `ok`: a 2xx came; `refused`: another answer came; `none`: no answer came."""

    __hash__ = str.__hash__  # an enumeration's own is several times slower, and this is called for every request

    BROKER_READ_OK = "broker_read_ok"
    BROKER_READ_REFUSED = "broker_read_refused"
    BROKER_READ_NONE = "broker_read_none"
    BROKER_WRITE_OK = "broker_write_ok"
    BROKER_WRITE_REFUSED = "broker_write_refused"
    BROKER_WRITE_NONE = "broker_write_none"
    LLM_OK = "llm_ok"
    LLM_REFUSED = "llm_refused"
    LLM_NONE = "llm_none"
    STORE_COMMIT = "store_commit"
    # What the store refused of other hosts: a key, a word of another role or process, a frame, one name too many.
    HOST_KEY = "host_key"
    HOST_ROLE = "host_role"
    HOST_FRAME = "host_frame"
    HOST_LIMIT = "host_limit"


BOUNDS_S: dict[str, tuple[float, ...]] = {
    str(name): _COMMIT_S if name is Name.STORE_COMMIT else _LLM_S if name.startswith("llm") else _BROKER_S
    for name in Name
}
"""The upper bounds of each name's buckets, in seconds; one more bucket holds what is above the last."""

Count = Annotated[int, Meta(ge=0, le=2**53)]


class Tally(Struct, frozen=True, kw_only=True):
    """One name's total since the process began: how many fell into each bucket, and all their time together.

    `name` is text, not `Name`: a beat of a newer version must not be dropped for a name that the store does not know.
    """

    name: Annotated[str, Meta(min_length=1, max_length=40)]
    counts: Annotated[tuple[Count, ...], Meta(max_length=BUCKETS_MAX)]
    sum_us: Count  # microseconds


class _Cell:
    """One name's buckets while they are counted."""

    __slots__ = ("bounds_s", "counts", "sum_s")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self.bounds_s = bounds_s
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0


class Tallies:
    """The totals of one process, or of one part of it."""

    def __init__(self) -> None:
        self._cells: dict[str, _Cell] = {}

    def observe(self, name: Name, seconds: float) -> None:
        """Count one measurement. A negative one counts as zero."""
        cell = self._cells.get(name)
        if cell is None:
            cell = self._cells[name] = _Cell(BOUNDS_S[name])
        cell.counts[bisect_left(cell.bounds_s, seconds)] += 1
        if seconds > 0:
            cell.sum_s += seconds

    def told(self) -> tuple[Tally, ...]:
        """Return the totals of what was counted at all, in the order of `Name`."""
        return tuple(
            Tally(name=str(name), counts=tuple(cell.counts), sum_us=round(cell.sum_s * 1_000_000))
            for name in Name
            if (cell := self._cells.get(name)) is not None
        )


PROCESS = Tallies()  # what this process tells in its beats


def began_s() -> float:
    """Return what `since` wants to know: a moment of the monotonic clock. Never the wall clock."""
    return perf_counter()


def since(name: Name, began: float) -> None:
    """Count for this process how long it took from `began` until now."""
    PROCESS.observe(name, perf_counter() - began)


def is_known(tally: Tally) -> bool:
    """Return whether this version knows the name and has as many buckets for it."""
    bounds = BOUNDS_S.get(tally.name)
    return bounds is not None and len(tally.counts) == len(bounds) + 1
