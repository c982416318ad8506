"""The paper account on disk: events in `account.jsonl`, replayed at the start, and now and then begun anew.

Run by the paper broker through `venue`. Every event is on disk before it counts. Never decides on one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct, structs

from actors.broker.paper import book as books
from actors.broker.paper import journal
from actors.broker.paper.values import Book, Event
from bus import failpoints
from config import settings
from config.load import ConfigError


class Began(Struct, frozen=True, tag=True):
    """The first line of an account."""

    balance_cents: int
    currency: str


class Kept(Struct, frozen=True, tag=True):
    """The first line of a file whose older ones were put aside: the account as its first `events` had made it."""

    currency: str
    book: Book
    events: int


Line = Began | Kept | Event


class AccountFile:
    """The account. `book` is what it has come to, `events` how many made it so."""

    def __init__(self, path: Path, paper: settings.Paper) -> None:
        """Read the account, or begin one.

        Raises:
            ConfigError: the file is none of ours; it is left as it was.
        """
        self._currency = paper.currency
        self._bytes_max, self._parts_max = paper.file_bytes_max, paper.file_parts_kept
        self._journal: journal.Journal[Line] = journal.Journal(path, Line)
        self.path = path
        lines = self._journal.read()
        if not lines:
            lines = [Began(100 * paper.initial_balance, paper.currency)]
            self._journal.append(*lines)
        first, self.recent = self._checked(lines)
        self.before = first.events if isinstance(first, Kept) else 0  # events that are no longer in the file
        self.events = self.before + len(self.recent)
        self.book = self._replayed(first, paper.history_kept)

    @property
    def failed(self) -> bool:
        """Whether the disk refused a line."""
        return self._journal.failed

    def close(self) -> None:
        """Close the file."""
        self._journal.close()

    def record(self, event: Event) -> None:
        """Let an event happen. Raises OSError: it did not, or only a restart knows."""
        # On disk first: what was answered must survive a kill.
        failpoints.reach("paper.before_record")  # an event on disk, then in memory
        self._journal.append(event)
        try:
            failpoints.reach("paper.after_record")
        except failpoints.FailpointError:  # on disk and not in memory: the next one would get the same number
            self._journal.failed = True
            raise
        self.book = books.apply(self.book, event)
        self.events += 1

    def put_aside_if_full(self) -> None:
        """Begin a new file when this one is too large. The ledger must have every event by now."""
        if self._journal.is_full(self._bytes_max):
            self._journal.rotate(Kept(self._currency, self.book, self.events), self._parts_max)

    def forget_recent(self) -> None:
        """Drop the events that were read: the ledger has them."""
        self.recent = []

    def _checked(self, lines: Sequence[Line]) -> tuple[Began | Kept, list[Event]]:
        first, *others = lines
        if not isinstance(first, (Began, Kept)) or first.currency != self._currency:
            raise ConfigError(
                f"{self.path}: it is no account in {self._currency}; set paper.currency back, "
                f"or move the folder {self.path.parent} away to start afresh"
            )
        found: list[Event] = []
        for number, event in enumerate(others, start=2):
            if isinstance(event, (Began, Kept)):
                raise ConfigError(f"{self.path}: line {number} does not fit those before it")
            found.append(event)
        return first, found

    def _replayed(self, first: Began | Kept, history_max: int) -> Book:
        begun = Book(balance_cents=first.balance_cents) if isinstance(first, Began) else first.book
        kept = structs.replace(begun, history_max=history_max, history=begun.history[-history_max:])
        for number, event in enumerate(self.recent, start=2):
            try:
                kept = books.apply(kept, event)
            except KeyError as error:
                raise ConfigError(f"{self.path}: line {number} does not fit those before it") from error
        return kept
