"""`pilot verify|backup|restore`: is the record whole, and keeping copies of it. Part of the operator's command line.

`verify` and `backup` only read the database. `restore` works on a stopped pipeline: it holds the locks of all its
processes meanwhile. Exit codes: those of pilot; `verify` ends with 1 when anything is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from actors.console import asking, tables, text
from actors.console.options import AsJson, Reason, Yes
from bus import runtime
from bus.clock import SystemClock
from bus.errors import LockHeld
from bus.failpoints import reach
from bus.messages import Peer
from bus.vocabulary import ExitCode, Role
from config import load
from config.load import ConfigError
from store import archived, owner
from store import backup as backups
from store import restore as restoring
from store import verify as proofs
from store.queries import DatabaseRefused, Reader
from store.restore import Prepared, RestoreRefused

OWNER = "pilot restore"
ALWAYS_LOCKED = ("formation.lock", "store.1.lock", "executor.1.lock", "monitor.1.lock")
NAMED_MAX = 10

app = typer.Typer(rich_markup_mode=None)


class Verified(Struct, frozen=True, kw_only=True):
    """What was proved of a database. Each list holds what is wrong; all empty: nothing."""

    database: str
    file: list[str]
    chain: list[str]
    orders: list[str]
    archives: list[str]  # what of the journal was moved, and whether it was gone through


@app.command(
    epilog="Examples: pilot verify; pilot verify --file data/backups/decisions-20261102T060000Z.db; pilot verify --json"
)
def verify(
    file: Annotated[Path | None, typer.Option(help="Another database, such as a backup. Default: the store's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prove the file whole, every hash of the journal, every state against it, every order against its intent."""
    path = _there(file) or load.db_path(asking.settings())
    try:
        reader = Reader(path, older=True)
    except DatabaseRefused as error:
        asking.fail(str(error), ExitCode.CONFIG if path.exists() else asking.NO_DATABASE)
    try:
        verdict = backups.integrity(path)
        chain = proofs.verify_chain(reader) if verdict == "ok" else []
        found = Verified(
            database=str(path),
            file=[] if verdict == "ok" else [verdict],
            chain=chain,
            orders=proofs.verify_orders(reader) if verdict == "ok" else [],
            archives=_archives(reader, chain) if verdict == "ok" else [],
        )
    finally:
        reader.close()
    wrong = [*found.file, *found.chain, *found.orders]
    if as_json:
        asking.print_json(found)
    else:
        out = tables.console(sys.stdout)
        for one in wrong:
            out.print(tables.cell(f"WRONG: {one}", "bold red"))
        if not wrong:
            out.print(tables.cell(f"{path}: the file, the journal, the states and the orders hold"), soft_wrap=True)
        for one in found.archives:
            out.print(tables.cell(one), soft_wrap=True)
    if wrong:
        raise typer.Exit(asking.REFUSED)


def _archives(reader: Reader, chain: list[str]) -> list[str]:
    """Return what was moved out of the database, as sentences. `chain`: what is wrong with the journal."""
    known = archived.anchors(reader)
    unread = dict.fromkeys(archived.missing(reader), "not here")
    unread |= {one.file: "cannot be read" for one in known if any(found.startswith(one.file) for found in chain)}
    return [
        f"{one.file}: {one.arrows:,} arrows of the journal up to {one.through_seq} and {one.intents:,} intents, "
        + (f"{unread.get(one.file, 'not gone through')}: checked from its anchor on" if unread else "gone through")
        for one in known
    ]


@app.command(epilog="Examples: pilot backup; pilot backup --to /mnt/safe")
def backup(
    to: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Default: backups in the data folder.")] = None,
) -> None:
    """Copy the database, in use or not, and prove the copy good. Of the copies in a folder the newest are kept."""
    settings = asking.settings()
    path = load.db_path(settings)
    if not path.exists():
        asking.fail(f"{path}: there is no database yet; start the pipeline first", asking.NO_DATABASE)
    if to is not None and not to.is_dir():
        asking.fail(f"{to}: there is no such folder; make it, or is the disk not mounted?", asking.REFUSED)
    reach("pilot.before_backup")  # copying the database and checking the copy
    try:
        made = backups.backup(path, to or _folder(), settings.monitor.backups_kept, SystemClock())
    except backups.BackupFailed as error:
        asking.fail(str(error), asking.REFUSED)
    reach("pilot.after_backup")
    sys.stdout.write(f"{made} ({made.stat().st_size:,} bytes), checked\n")


@app.command(
    epilog='Examples: pilot restore --reason "disk failed"; '
    'pilot restore data/backups/decisions-20261102T060000Z.db --reason "disk failed" --accept-open'
)
def restore(
    reason: Reason,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A backup. Default: the newest of both folders.")
    ] = None,
    accept_open: Annotated[
        bool, typer.Option("--accept-open", help="Also when positions are open or orders not settled.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Put a backup in the place of the database. The pipeline must be stopped, and is halted until `pilot resume`.

    The backup is proved good first. The present database is moved aside. What waits in the backup is cancelled; halts,
    days, marks, used requests and the keys of all that was proposed since are taken over. Positions opened since belong
    to no intent then: see docs/pilot.md.
    """
    why = asking.need(reason, "--reason")
    settings = asking.settings()
    path = load.db_path(settings)
    with _stopped(path):
        try:
            if restoring.is_cut_off(path):
                aside = restoring.go_on(path)
                sys.stdout.write(f"ended the restore that was cut off; the former database is in {aside}\n")
                return
            source = _there(file) or _newest(settings.monitor.backup_second_folder)
            prepared = restoring.prepare(source, path, owner.of_settings(settings.broker))
        except RestoreRefused as error:
            asking.fail(str(error), asking.REFUSED)
        try:
            _consent(prepared, settings.executor.orphans, accept_open=accept_open, yes=yes)
            aside = restoring.finish(
                prepared, path, operator=asking.operator(), reason=why,
                by=Peer(Role.PILOT, 1, runtime.new_incarnation()), wall=SystemClock(),
            )  # fmt: skip
        except RestoreRefused as error:
            asking.fail(str(error), asking.REFUSED)
        finally:
            if not restoring.is_cut_off(path):
                restoring.discard(prepared.copy)
    sys.stdout.write(
        f"restored {prepared.source}; the former database is in {aside}\n"
        "The account is halted. Start the pipeline, look at `pilot alerts` and `pilot status`, then `pilot resume`.\n"
    )


def _consent(prepared: Prepared, orphans: str, *, accept_open: bool, yes: bool) -> None:
    """Say what a restore means here, and return when the operator agrees."""
    out = tables.console(sys.stderr)
    made = prepared.made_at or "before any trade"
    out.print(tables.cell(f"{prepared.source}: proved good; its newest entry is of {made}"), soft_wrap=True)
    for said, ids in (
        ("open positions now", prepared.open_now),
        ("orders not settled now", prepared.unresolved_now),
        ("of these, the backup does not know", prepared.forgotten),
        ("waiting in the backup, will be cancelled", prepared.waiting),
    ):
        more = f" and {len(ids) - NAMED_MAX} more" if len(ids) > NAMED_MAX else ""
        out.print(tables.cell(f"  {said}: {', '.join(ids[:NAMED_MAX]) or 'none'}{more}"))
    for one in prepared.archives:
        out.print(tables.cell(f"  archives: {one}: checked from its anchor on", "bold red"), soft_wrap=True)
    if prepared.present:
        what = "what is open now is not known, and its keys, halts, days, marks and requests are not taken over"
        out.print(tables.cell(f"  the present database cannot be read ({prepared.present}): {what}", "bold red"))
    if orphans == "close":
        what = "executor.orphans is close: the monitor will close every position that the backup does not know"
        out.print(tables.cell(f"  {what}", "bold red"))
    if (prepared.open_now or prepared.unresolved_now) and not accept_open:
        asking.fail(
            "positions are open or orders not settled: a backup knows them as they were, or not at all. Nothing was "
            "changed; give --accept-open when you mean it",
            asking.REFUSED,
        )
    asking.consent("Restore it, and halt the account until `pilot resume`?", yes=yes, otherwise="nothing was changed")


def _there(file: Path | None) -> Path | None:
    """Return a file that the operator named, or end when it is not there."""
    if file is not None and not file.is_file():
        asking.fail(f"{file}: there is no such file; backups lie in {_folder()}", asking.REFUSED)
    return file


def _folder() -> Path:
    return load.data_folder() / "backups"


def _newest(second: str) -> Path:
    """Return the newest backup of both folders; the first folder's where they are the same."""
    folders = (*([Path(second)] if second else ()), _folder())
    made = backups.newest(SystemClock().now(), *folders)
    if made is None:
        asking.fail(f"{' and '.join(str(one) for one in folders)}: there is no backup", asking.REFUSED)
    return made[1]


@contextmanager
def _stopped(path: Path) -> Iterator[None]:
    """Hold the locks of every process of the pipeline, or end: a process that runs would go on with the old file."""
    held = []
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        run = load.run_folder()
        locks = {run / name for name in ALWAYS_LOCKED} | set(run.glob("*.lock"))
        mine = (path.with_name(path.name + ".lock"), load.data_folder() / "executor.lock")
        for lock in (*mine, *sorted(locks)):
            held.append(runtime.acquire_lock(lock, OWNER))
        yield
    except LockHeld as error:
        asking.fail(f"{text.line(str(error), 300)}; stop the pipeline first: supervisor stop", ExitCode.LOCKED)
    except ConfigError as error:
        asking.fail(str(error), ExitCode.CONFIG)
    finally:
        for one in held:
            one.release()
