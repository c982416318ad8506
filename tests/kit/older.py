"""Databases of older versions: the tables that the old migrations make, with the rows of a database of today.

    older.rewrite(path, schema=1)

What a later migration added is left out; the triggers of that version stand again when the rows are in.
"""

from __future__ import annotations

from pathlib import Path

import apsw

from store import connection, states

META = {2: "account_version"}  # rows that a migration writes itself, by the schema that has them


def rewrite(path: Path, schema: int) -> None:
    """Turn the database at `path` into one of version `schema`, as that version would have left it at a stop."""
    old = path.with_name(path.name + ".older")
    fresh = apsw.Connection(str(old))
    with fresh:
        for script in connection._migrations()[:schema]:
            fresh.execute(script.read_text())
        for name, body in states.triggers().items():
            fresh.execute(f"CREATE TRIGGER {name} {body}")
    triggers = dict(fresh.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall())
    fresh.pragma("foreign_keys", False)
    fresh.execute("ATTACH ? AS new", (str(path),))
    with fresh:
        for name in triggers:
            fresh.execute(f'DROP TRIGGER "{name}"')
        for (table,) in fresh.execute(
            "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        ).fetchall():
            _copy(fresh, str(table))
        for since, key in META.items():
            if schema < since:
                fresh.execute("DELETE FROM main.meta WHERE key = ?", (key,))
        for sql in triggers.values():
            fresh.execute(str(sql))
        fresh.pragma("application_id", connection.APPLICATION_ID)
        fresh.pragma("user_version", schema)
    fresh.execute("DETACH new")
    fresh.pragma("journal_mode", "wal")
    fresh.close()
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    old.rename(path)
    path.chmod(0o600)


def _copy(db: apsw.Connection, table: str) -> None:
    """Copy the columns that both have. What only the older one has, it got by hand: the columns of `account_days`."""
    columns = [[str(row[1]) for row in db.execute(f"PRAGMA {where}.table_info({table})")] for where in ("main", "new")]
    both = ", ".join(name for name in columns[0] if name in columns[1])
    if not both:
        return
    db.execute(f"DELETE FROM main.{table}")
    db.execute(f"INSERT OR IGNORE INTO main.{table} ({both}) SELECT {both} FROM new.{table}")
