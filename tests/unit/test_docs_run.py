"""Every reading command that the documents show is run once, in this process, on the folder of a stopped pipeline."""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import messages
from bus.vocabulary import Role
from store import backup, connection
from tests.kit import documents
from tests.kit.builders import a_peer, a_result, a_sample
from tests.kit.gate import keep_days
from tests.kit.real_store import pilot
from tests.kit.store import StoreHarness, an_opening

EXECUTOR, PILOT, MONITOR = a_peer(Role.EXECUTOR), a_peer(Role.PILOT), a_peer(Role.MONITOR)
READING = {
    "status", "positions", "account", "intents", "show", "why", "alerts", "halts", "stats", "journal", "export",
    "rules", "analysts", "verify", "backup", "config", "models list", "bundle", "--version",
}  # fmt: skip
NOT_HERE = {
    "top": "runs until Ctrl-C", "doctor": "asks the broker", "scan": "ranks in a child process, seconds",
    "restore": "writes", "init": "asks questions", "models": "there is no model to choose",
    "pause": "the store's", "resume": "the store's", "flatten": "the store's", "close": "the store's",
    "cancel": "the store's", "submit": "the store's", "resolve": "the store's", "day": "the store's",
    "attest": "the store's",
}  # fmt: skip
SOMEBODYS = re.compile(r"^(?=\w*\d)[0-9a-f]{4,16}$|^(INTENT|ID)$")  # an intent of whoever wrote the page


@pytest.fixture(scope="module")
def home() -> Iterator[tuple[Path, str]]:
    """A stopped pipeline that traded: one closed, one open position, a halt, a backup. Yields folder and an intent."""
    folder = Path(tempfile.mkdtemp(prefix="pd"))
    (folder / "data" / "backups").mkdir(parents=True, mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PILOT_DATA", str(folder / "data"))
        patch.setenv("PILOT_RUN", str(folder / "run"))
        patch.setenv("PILOT_PROFILE", "paper")
        patch.chdir(folder)
        store = StoreHarness(connection.open_writer(folder / "data" / "decisions.db"))
        keep_days(store.db, store.gate, store.clock.now())
        closed = store.reserved(EXECUTOR).id
        store.tell(EXECUTOR, an_opening(store.intent(closed), "p1"))
        store.tell(MONITOR, messages.PositionClosed(intent_id=closed, position_id="p1", result=a_result()))
        opened = store.reserved(EXECUTOR, symbol="GBPUSD").id
        store.tell(EXECUTOR, an_opening(store.intent(opened), "p2"))
        store.tell(MONITOR, messages.SampleEquity(sample=a_sample(equity_cents=4_875_000, daily_loss_cents=125_000)))
        store.tell(PILOT, messages.Pause(operator="anna", reason="holiday"))
        store.tick()
        store.db.close()
        backup.backup(folder / "data" / "decisions.db", folder / "data" / "backups", 8, store.clock)
        yield folder, opened
    shutil.rmtree(folder)


def shown() -> dict[tuple[str, ...], str]:
    """Return every reading command of the documents' blocks, each once, with the page that shows it."""
    found: dict[tuple[str, ...], str] = {}
    for one in documents.commands():
        if one.program == "pilot" and not one.is_inline and len(one.words) > 1:
            name = " ".join(one.words[1:3]) if one.words[1] == "models" else one.words[1]
            if name in READING and not any(re.fullmatch(r"[A-Z]+\|[A-Z]+", word) for word in one.words):
                found.setdefault(one.words[1:], one.page)
    return found


def here(words: tuple[str, ...], folder: Path, intent: str) -> list[str]:
    """Return a command with this pipeline's intent, and with folders of the scratch folder for those of the page."""
    newest = max((folder / "data" / "backups").glob("*.db"))
    mine = []
    for word, before in zip(words, ("", *words), strict=False):
        if before == "--file":
            mine.append(str(newest))
        elif before in ("--to", "--parquet") or (before == "--csv" and words[0] == "export"):
            mine.append(str(folder / "written" / re.sub(r"\W", "-", shlex.join(words)) / Path(word).name))
        else:
            mine.append(intent if SOMEBODYS.match(word) else word)
    for word in mine:
        if word.startswith(str(folder / "written")):
            (Path(word).parent if words[0] != "backup" else Path(word)).mkdir(parents=True, exist_ok=True)
    return mine


def test_every_reading_command_runs(home: tuple[Path, str]) -> None:
    folder, intent = home
    commands = shown()
    assert len(commands) > 20
    wrong = {}
    for words, page in commands.items():
        ended = pilot(*here(words, folder, intent))
        if ended.returncode != 0 or not (ended.stdout or any("--out" in word for word in words)):
            wrong[f"{page}: pilot {shlex.join(words)}"] = (ended.returncode, ended.stderr[-300:])
    assert wrong == {}


def test_every_command_is_run_here_or_has_a_reason() -> None:
    named = {one.words[1] for one in documents.commands() if one.program == "pilot" and not one.is_inline}
    assert {name.split()[0] for name in READING} | set(NOT_HERE) | {"--profile"} >= named  # of an account
