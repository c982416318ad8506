"""`pilot bundle`: what a bug report needs, in one file, without secrets. Part of the operator's command line.

Reads settings, database and logs; sends nothing anywhere. Every text in it passes the same mask: secrets that are set,
what looks like one, whose account it is. Look into it before you give it away all the same.
Exit codes: those of pilot.
"""

from __future__ import annotations

import io
import os
import platform
import sys
import tarfile
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from actors.console import asking, configured, overview, redacting
from actors.console.redacting import Mask
from bus.clock import SystemClock
from bus.failpoints import reach
from bus.vocabulary import ExitCode
from config import load
from config.load import ConfigError
from config.settings import Settings
from store import past, queries, verify
from store.queries import DatabaseRefused, Reader

OURS = "prop-firm-pilot"
JOURNAL_ROWS_MAX = 2_000
ALERTS_MAX = 500
LOG_BYTES_MAX = 300_000  # of each file, its end
LOGS_MAX = 60

app = typer.Typer(rich_markup_mode=None)
Part = tuple[str, Callable[[], Any]]


@app.command(epilog="Examples: pilot bundle; pilot bundle --to /tmp/report.tar.gz")
def bundle(
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: pilot-bundle-TIME.tar.gz here.")] = None,
) -> None:
    """Write settings, versions, the newest journal, alerts, state and ends of logs into one file, secrets masked.

    What cannot be read is named in it and left out.
    """
    now = SystemClock().now()
    path = to or Path(f"pilot-bundle-{now:%Y%m%dT%H%M%SZ}.tar.gz")
    try:
        settings = load.settings(asking.profile["name"])
        mask = redacting.masker(settings)
    except ConfigError as error:
        asking.fail(str(error), ExitCode.CONFIG)
    packed = _packed(settings, mask, now)
    try:
        reach("pilot.before_bundle")  # writing the file for a bug report; it must not exist
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(packed)
        reach("pilot.after_bundle")
    except OSError as error:
        asking.fail(f"{path}: {error.strerror}", asking.REFUSED)
    sys.stdout.write(f"{path} ({len(packed):,} bytes). Look into it before you give it away.\n")


def _packed(settings: Settings, mask: Mask, now: datetime) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, content in _contents(settings, now):
            data = mask(content).encode(errors="replace")
            entry = tarfile.TarInfo(f"pilot-bundle/{name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(now.timestamp())
            tar.addfile(entry, io.BytesIO(data))
    return raw.getvalue()


def _contents(settings: Settings, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield name and text of each part."""
    yield "versions.json", _json(_versions())
    yield "settings.json", _json(configured.effective(asking.profile["name"], redacted=True))
    try:
        reader = Reader(load.db_path(settings))
    except DatabaseRefused as error:
        yield "database.txt", str(error)
    else:
        try:
            yield from _of_database(reader, settings, now)
        finally:
            reader.close()
    yield from _logs(load.data_folder() / "logs")


def _of_database(reader: Reader, settings: Settings, now: datetime) -> Iterator[tuple[str, str]]:
    parts: tuple[Part, ...] = (
        ("status.json", lambda: overview.read(reader, settings, now)),
        ("journal.json", lambda: past.newest_transitions(reader, JOURNAL_ROWS_MAX)),
        ("alerts.json", lambda: past.alerts(reader, limit=ALERTS_MAX)),
        ("halts.json", lambda: past.recent_halts(reader, ALERTS_MAX)),
        ("verify.json", lambda: [*verify.verify_chain(reader), *verify.verify_orders(reader)]),
        ("schema.json", reader.schema),
    )
    for name, read in parts:
        try:
            yield name, _json(read())
        except queries.UNREADABLE as error:
            yield name, _json({"cannot be read": str(error)})


def _versions() -> dict[str, str]:
    sqlite, needed = queries.sqlite_versions()
    found = {
        "python": sys.version,
        "system": platform.platform(),
        "sqlite": f"{sqlite}, needed {needed}",
    }
    for wanted in (OURS, *sorted({one.split(";")[0] for one in metadata.requires(OURS) or () if "extra" not in one})):
        name = wanted.partition(">")[0].partition("=")[0].partition("<")[0].partition("[")[0].strip()
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _logs(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the end of each log, the newest files first."""
    files = sorted(folder.glob("*.log"), key=lambda path: path.name) if folder.is_dir() else []
    for path in files[:LOGS_MAX]:
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - LOG_BYTES_MAX))
                yield f"logs/{path.name}", file.read().decode(errors="replace")
        except OSError as error:
            yield f"logs/{path.name}", str(error)


def _json(found: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(found), indent=1).decode()
