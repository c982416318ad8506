"""Whose database this is: the one account that everything in it is about. Written once, asked wherever work begins.

Part of the store process, which writes it with the first word that names an account; whoever reads may ask. An account
is the paper broker's or a firm's, and its id there: an address or an API may change, and it is the same account.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import apsw
from msgspec import Struct

from config.settings import Broker
from store import connection
from store.connection import DatabaseRefused

Kind = Literal["paper", "firm", ""]


class Owner(Struct, frozen=True):
    """One account. `kind` is "" where it is not known: in a database of a version that wrote no owner."""

    kind: Kind
    account_id: str

    def __str__(self) -> str:
        return f"{self.account_id} of the paper broker" if self.kind == "paper" else self.account_id

    def is_other_than(self, other: Owner) -> bool:
        """Return whether these are certainly two accounts."""
        return self.account_id != other.account_id or bool(self.kind and other.kind and self.kind != other.kind)


def of_settings(broker: Broker) -> Owner:
    """Return the account that the settings name. A login goes to no other, or fails."""
    return Owner("firm" if broker.is_live else "paper", broker.account_id)


def owner_of(db: apsw.Connection) -> Owner | None:
    """Return whose database this is; None: nobody's yet."""
    return _written(db) or _of_the_newest_day(db)


def refusal(found: Owner | None, ours: Owner) -> str:
    """Return why whoever speaks for `ours` must leave a database of `found` alone, or ""."""
    if found is None or not found.is_other_than(ours):
        return ""
    return (
        f"this database belongs to account {found}; broker.account_id is {ours}: set PILOT_DATA to a folder of its own "
        "for each account"
    )


def keep(db: apsw.Connection, ours: Owner) -> None:
    """Write whose database this is, unless it is written. Inside the writer's transaction."""
    if _written(db) is None:
        db.execute("INSERT INTO meta VALUES ('owner', ?)", (f"{ours.kind} {ours.account_id}",))


def learn(db: apsw.Connection, ours: Owner) -> None:
    """Write it in a database of a version that wrote no owner, if its days are ours. Inside a transaction."""
    found = owner_of(db)
    if found is not None and not found.is_other_than(ours):
        keep(db, ours)


def require(db: apsw.Connection, path: Path, ours: Owner) -> None:
    """Raise DatabaseRefused unless the database is this account's or nobody's. It is as it was."""
    if why := refusal(_found(db, path), ours):
        raise DatabaseRefused(f"{path}: {why}")


def refuse_older(path: Path, ours: Owner) -> None:
    """Raise DatabaseRefused for a database of an older version that is another account's: before it is upgraded."""
    db = connection.open_reader(path, older=True)
    try:
        if why := refusal(_found(db, path), ours):
            raise DatabaseRefused(f"{path}: {why}")
    finally:
        db.close()


def _found(db: apsw.Connection, path: Path) -> Owner | None:
    try:
        return owner_of(db)
    except apsw.Error as error:
        raise DatabaseRefused(f"{path}: damaged: {error}; restore a backup (docs/operations.md)") from error


def _written(db: apsw.Connection) -> Owner | None:
    said = db.execute("SELECT value FROM meta WHERE key = 'owner'").get
    if said is None:
        return None
    kind, _, account_id = str(said).partition(" ")
    return Owner(cast(Kind, kind), account_id)


def _of_the_newest_day(db: apsw.Connection) -> Owner | None:
    """Return the account whose day was written last: days are never deleted, and nobody else's was written since."""
    account_id = db.execute("SELECT account_id FROM account_days ORDER BY created_at DESC LIMIT 1").get
    return None if account_id is None else Owner("", str(account_id))
