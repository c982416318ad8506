"""`pilot verify|backup|restore|bundle|config|init`: what is refused, what is kept, and a kill at any of their steps."""

from __future__ import annotations

import contextlib
import json
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from bus import messages, runtime
from bus.clock import SystemClock
from bus.vocabulary import Role, Status
from config import load
from store import backup, connection, restore, verify
from store.owner import Owner
from store.queries import Reader
from tests.kit.builders import a_mark, a_peer, a_propose
from tests.kit.real_store import Ended, pilot
from tests.kit.store import StoreHarness, an_opening

WHY = ("--reason", "disk failed")
EXECUTOR = a_peer(Role.EXECUTOR)
PILOT = a_peer(Role.PILOT)


class Here(StoreHarness):
    """A real store on the file that pilot reads, without its process: the pipeline is stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(connection.open_writer(path))

    def stop(self) -> None:
        self.db.close()


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pk"))
    (folder / "run").mkdir(mode=0o700)
    monkeypatch.setenv("PILOT_DATA", str(folder / "data"))
    monkeypatch.setenv("PILOT_RUN", str(folder / "run"))
    monkeypatch.setenv("PILOT_PROFILE", "paper")
    monkeypatch.setattr(load, "ROOT", folder)  # no .env of this machine
    (folder / "data").mkdir(mode=0o700)
    yield folder / "data"
    shutil.rmtree(folder)


def backed_up(data: Path) -> tuple[Path, dict[str, str]]:
    """Return a backup of a store that traded, after which it traded on, and the intents' ids by what they became."""
    store = Here(data / "decisions.db")
    ids = {"opened": store.opened(EXECUTOR, "p1").id}
    ids["waiting"] = store.ready(symbol="GBPUSD").id
    made = backup.backup(store.path, data / "backups", 3, SystemClock())
    ids["since"] = store.intent(ids["waiting"]).id
    store.beat(EXECUTOR)
    intent = store.intent(ids["waiting"])
    assert intent.status is Status.EXECUTING
    assert store.tell(EXECUTOR, store.reservation(intent)).outcome == "applied"
    store.tell(EXECUTOR, an_opening(store.intent(intent.id), "p2"))
    ids["new"] = store.pending(bar_time="2026-10-31").id
    store.tell(PILOT, messages.Flatten(operator="ann", reason="before the failure"))
    store.tell(a_peer(Role.MONITOR), messages.RaiseMarks(marks=(a_mark(),)))
    store.stop()
    return made, ids


def restored(*arguments: str) -> Ended:
    ended = pilot("restore", *WHY, "--yes", *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended


# ── restore: refused ────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name", ["decisions.db.lock", "executor.lock", "monitor.1.lock", "llm.3.lock", "formation.lock"]
)
def test_nothing_is_restored_while_any_process_runs(data: Path, name: str) -> None:
    made, _ = backed_up(data)
    before = (data / "decisions.db").read_bytes()
    folder = data if name in ("decisions.db.lock", "executor.lock") else load.run_folder()
    with contextlib.closing(_Held(runtime.acquire_lock(folder / name, "somebody"))):
        ended = pilot("restore", str(made), *WHY, "--yes", "--accept-open")
    assert ended.returncode == 75 and "held by somebody" in ended.stderr
    assert (data / "decisions.db").read_bytes() == before


class _Held:
    def __init__(self, lock: runtime.Lock) -> None:
        self.close = lock.release


def test_a_backup_that_is_not_good_is_refused_before_anything_is_touched(data: Path) -> None:
    made, _ = backed_up(data)
    before = (data / "decisions.db").read_bytes()
    changed = data / "changed.db"
    shutil.copy(made, changed)
    db = apsw.Connection(str(changed))
    db.execute("DROP TRIGGER transitions_append_only_update; UPDATE transitions SET reason = 'x' WHERE seq = 2")
    db.close()
    torn = data / "torn.db"
    torn.write_bytes(made.read_bytes()[: made.stat().st_size // 2])
    foreign = data / "foreign.db"
    foreign.write_bytes(b"x" * 5_000)
    for path, why in ((changed, "its hash does not hold"), (torn, "torn.db"), (foreign, "not a SQLite database")):
        ended = pilot("restore", str(path), *WHY, "--yes", "--accept-open")
        assert ended.returncode == 1 and why in ended.stderr, ended.stderr
    assert pilot("restore", str(data / "none.db"), *WHY, "--yes").returncode == 1
    assert (data / "decisions.db").read_bytes() == before
    assert sorted(path.name for path in data.glob("decisions.db.rest*")) == []


def test_over_open_positions_only_when_that_is_said(data: Path) -> None:
    backed_up(data)
    before = (data / "decisions.db").read_bytes()
    ended = pilot("restore", *WHY, "--yes")
    assert ended.returncode == 1 and "--accept-open" in ended.stderr
    shown = " ".join(ended.stderr.split())
    assert "open positions now: p1, p2" in shown and "the backup does not know: p2" in shown
    declined = pilot("restore", *WHY, "--accept-open", given="n\n")
    assert declined.returncode == 1 and "nothing was changed" in declined.stderr
    assert (data / "decisions.db").read_bytes() == before
    assert sorted(path.name for path in data.glob("decisions.db.rest*")) == []


# ── restore: done ───────────────────────────────────────────────────────────


def test_what_waited_is_not_done_again_and_nothing_that_matters_is_forgotten(data: Path) -> None:
    made, ids = backed_up(data)
    restored(str(made), "--accept-open")
    reader = Reader(data / "decisions.db")
    try:
        assert reader.owned_position_ids() == {"p1"}  # p2 is nobody's now: the monitor tells it
        waiting = reader.intent(ids["waiting"])
        assert waiting is not None and waiting.status is Status.CANCELLED
        assert [halt.reason.partition(":")[0] for halt in reader.halts()] == ["flatten", "restored"]
        assert [halt.flatten for halt in reader.halts()] == [True, False]
        assert reader.account_marks("PAPER-1")[0].value_cents == a_mark().value_cents
        assert [*verify.verify_chain(reader), *verify.verify_orders(reader)] == []
        assert "p2" in reader.alerts()[0][3]
    finally:
        reader.close()
    (aside,) = data.glob("aside-*")
    kept = Reader(aside / "decisions.db")
    assert kept.owned_position_ids() == {"p1", "p2"}
    kept.close()

    store = Here(data / "decisions.db")
    store.beat(EXECUTOR)
    again = store.tell(a_peer(Role.SCANNER), _proposal(bar_time="2026-10-31"))
    assert again.outcome == "already"  # proposed since the backup: never a second time
    assert store.tell(PILOT, messages.Resume(operator="ann", reason="looked at it")).outcome == "applied"
    store.beat(EXECUTOR)
    assert store.got(EXECUTOR, messages.Execute) == []
    store.stop()


def _proposal(**changes: object) -> messages.Propose:
    return a_propose(**changes)


def test_requests_of_the_day_stay_used(data: Path) -> None:
    store = Here(data / "decisions.db")
    backup.backup(store.path, data / "backups", 3, SystemClock())
    grant = messages.GrantRequests(day="2026-11-02", reads=90, writes=9)
    assert store.tell(a_peer(Role.MONITOR), grant).outcome == "applied"
    store.stop()
    restored()
    reader = Reader(data / "decisions.db")
    assert reader.requests("2026-11-02") == (90, 9)
    reader.close()


def test_what_was_cleaned_up_since_the_backup_is_cleaned_up_again(data: Path) -> None:
    store = Here(data / "decisions.db")
    gone = store.pending()
    store.tell(PILOT, messages.Cancel(intent_id=gone.id, operator="ann", reason="no"))
    made = backup.backup(store.path, data / "backups", 3, SystemClock())
    store.clock.advance(8 * 86_400)
    store.tell(a_peer(Role.MONITOR), messages.Sweep())
    assert store.read.intent(gone.id) is None
    store.stop()
    restored(str(made))
    store = Here(data / "decisions.db")
    assert store.intent(gone.id).status is Status.CANCELLED
    store.clock.advance(8 * 86_400)
    swept = store.tell(a_peer(Role.MONITOR), messages.Sweep())
    assert (swept.outcome, store.read.intent(gone.id)) == ("applied", None), swept
    assert store.tell(a_peer(Role.SCANNER), _proposal()).outcome == "already"
    store.stop()


def test_without_a_readable_database_it_says_what_is_lost(data: Path) -> None:
    made, _ = backed_up(data)
    for name in ("decisions.db", "decisions.db-wal", "decisions.db-shm"):
        (data / name).unlink(missing_ok=True)
    (data / "decisions.db").write_bytes(b"SQLite format 3\x00" + b"x" * 8_000)
    ended = restored(str(made))
    assert "cannot be read" in ended.stderr
    reader = Reader(data / "decisions.db")
    assert [halt.reason.partition(":")[0] for halt in reader.halts()] == ["restored"]
    reader.close()


POINTS = [
    f"pilot.{side}_restore_{step}"
    for step in ("safe", "mark", "aside", "place", "end")
    for side in ("before", "after")
]  # fmt: skip


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_step_leaves_the_old_database_or_a_restore_that_goes_on(
    data: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    made, _ = backed_up(data)

    class Killed(BaseException):
        pass

    def reach(name: str) -> bool:
        if name == point:
            raise Killed
        return False

    with monkeypatch.context() as patch:
        patch.setattr(restore, "reach", reach)
        with pytest.raises(Killed):
            _restore(made, data)
    marked = restore.is_cut_off(data / "decisions.db")
    if marked:
        with pytest.raises(connection.DatabaseRefused, match="cut off"):
            connection.open_writer(data / "decisions.db")
        ended = restored()
        assert "ended the restore" in ended.stdout
    reader = Reader(data / "decisions.db")
    found = reader.owned_position_ids()
    reader.close()
    is_new = marked or point == "pilot.after_restore_end"
    assert found == ({"p1"} if is_new else {"p1", "p2"})
    if not is_new:
        restored(str(made), "--accept-open")
    connection.open_writer(data / "decisions.db").close()
    (aside,) = data.glob("aside-*")
    kept = Reader(aside / "decisions.db")
    assert kept.owned_position_ids() == {"p1", "p2"}
    kept.close()


def _restore(made: Path, data: Path) -> None:
    path = data / "decisions.db"
    prepared = restore.prepare(made, path, Owner("paper", "PAPER-1"))
    restore.finish(prepared, path, operator="ann", reason="x", by=PILOT, wall=SystemClock())


def test_backup_of_another_account_is_refused_by_settings_and_by_what_is_there(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = backed_up(data)  # of PAPER-1
    profile = data.parent / "another.toml"
    profile.write_text('[broker]\naccount_id = "PAPER-2"\n')
    monkeypatch.setenv("PILOT_PROFILE", str(profile))
    ended = pilot("restore", str(made), *WHY, "--yes", "--accept-open")
    assert ended.returncode == 1
    assert "belongs to account PAPER-1; broker.account_id is PAPER-2 of the paper broker" in one_line(ended.stderr)
    monkeypatch.setenv("PILOT_PROFILE", "paper")
    db = connection.open_writer(data / "decisions.db")
    db.execute("UPDATE meta SET value = 'firm ACC-2' WHERE key = 'owner'")
    db.close()
    ended = pilot("restore", str(made), *WHY, "--yes", "--accept-open")
    assert ended.returncode == 1
    assert "belongs to account ACC-2, the backup to PAPER-1: set PILOT_DATA" in one_line(ended.stderr)
    assert list(data.glob("aside-*")) == []


def one_line(text: str) -> str:
    return " ".join(text.split())


# ── verify and backup ───────────────────────────────────────────────────────


def test_verify_says_that_all_holds_and_names_what_does_not(data: Path) -> None:
    assert pilot("verify").returncode == 3
    made, ids = backed_up(data)
    assert pilot("verify").returncode == 0
    assert pilot("verify", "--file", str(made)).returncode == 0
    db = apsw.Connection(str(data / "decisions.db"))
    for name in ("orders_position_once", "orders_resolved_once", "orders_plan_stands"):
        db.execute(f"DROP TRIGGER {name}")
    db.execute("UPDATE orders SET position_id = 'p9' WHERE position_id = 'p1'")
    db.execute("UPDATE decisions SET status = 'closed' WHERE intent_id = ?", (ids["new"],))
    db.close()
    ended = pilot("verify", "--json")
    assert ended.returncode == 1
    found = json.loads(ended.stdout)
    assert found["chain"] == [] and found["file"] == []
    assert found["orders"] == [
        f"intent {ids['opened']} has position p1, its order p9",
        f"intent {ids['new']} is pending, its decision closed",
    ]


def test_a_backup_is_made_checked_and_private(data: Path) -> None:
    assert pilot("backup").returncode == 3
    backed_up(data)
    ended = pilot("backup", "--to", str(data / "safe"))
    assert ended.returncode == 1 and "is the disk not mounted?" in ended.stderr
    assert not (data / "safe").exists(), "the place of a disk that is not there is not written to"
    (data / "safe").mkdir()
    ended = pilot("backup", "--to", str(data / "safe"))
    assert ended.returncode == 0, ended.stderr
    (made,) = (data / "safe").glob("decisions-*.db")
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert pilot("verify", "--file", str(made)).returncode == 0


def test_a_file_that_is_not_there_is_called_so(data: Path) -> None:
    backed_up(data)
    for command in (("verify", "--file", "nowhere.db"), ("restore", "nowhere.db", "--reason", "lost", "--yes")):
        ended = pilot(*command)
        assert ended.returncode == 1 and "nowhere.db: there is no such file; backups lie in" in ended.stderr, command


# ── bundle and config ───────────────────────────────────────────────────────

PLANTED = {
    "PILOT_BROKER_PASSWORD": 'hunter2-"is\\my-password',
    "PILOT_LLM_API_KEY": "key-abcdefgh-12345678",
    "PILOT_TELEGRAM_TOKEN": "123456789:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr",
    "PILOT_TELEGRAM_CHAT": "-1009988776655",
}
LOOKS = ("Bearer abcdef0123456789abcdef", "sk-proj0123456789abcdefgh", "987654321:ZZyyXXwwVVuuTTssRRqqPPooNNmmLLkkJJi")


@pytest.fixture
def planted(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the profile of a live account whose secrets stand wherever a careless program might have put them."""
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    profile = data.parent / "mine.toml"
    profile.write_text(
        '[broker]\nkind = "platform"\nbase_url = "https://mtr.example.com"\n'
        'email = "anna@secret.example"\naccount_id = "ACC-778899"\n[llm]\nanalyst = "openai"\nmodel = "m"\n'
        'base_url = "http://user:inaddress@127.0.0.1:8000/v1"\n'
    )
    return profile


def test_a_bundle_holds_what_is_needed_and_no_secret(data: Path, planted: Path) -> None:
    backed_up(data)
    store = Here(data / "decisions.db")
    careless = " ".join((*PLANTED.values(), *LOOKS, "anna@secret.example", "ACC-778899", 'password="inreport9"'))
    store.tell(a_peer(Role.MONITOR), messages.Report(level="error", event="x", text=careless))
    store.tell(PILOT, messages.Cancel(intent_id=store.pending(bar_time="2026-01-01").id, operator="a", reason=careless))
    store.stop()
    (data / "logs").mkdir()
    (data / "logs" / "executor.1.log").write_text(f"a line\n{careless}\nCookie: a=session99; b=second77\n")
    to = data / "bundle.tar.gz"
    ended = pilot("--profile", str(planted), "bundle", "--to", str(to))
    assert ended.returncode == 0, ended.stderr
    assert stat.S_IMODE(to.stat().st_mode) == 0o600
    with tarfile.open(to) as tar:
        files = {one.name.removeprefix("pilot-bundle/"): tar.extractfile(one) for one in tar}
        parts = {name: file.read().decode() for name, file in files.items() if file is not None}
    wanted = ("versions", "settings", "status", "journal", "alerts", "schema", "verify", "halts")
    assert {*(f"{name}.json" for name in wanted), "logs/executor.1.log"} == set(parts)
    everything = "\n".join(parts.values())
    looks = (look.split()[-1] for look in LOOKS)
    others = ("my-password", "anna@secret.example", "ACC-778899", "inaddress", "inreport9", "session99", "second77")
    for secret in (*PLANTED.values(), *looks, *others):
        assert secret not in everything, secret
    assert "decide_trade" in parts["journal.json"] and "a line" in parts["logs/executor.1.log"]
    assert "CREATE TABLE orders" in parts["schema.json"] and json.loads(parts["verify.json"]) == []
    again = pilot("--profile", str(planted), "bundle", "--to", str(to))
    assert again.returncode == 1 and "exists" in again.stderr


def test_config_show_says_where_each_value_comes_from_and_shows_no_secret(data: Path, planted: Path) -> None:
    plain = pilot("--profile", str(planted), "config", "show", "--json").stdout
    found = {one["name"]: one for one in json.loads(plain)}
    assert (found["llm.model"]["value"], found["llm.model"]["origin"]) == ("m", "mine.toml")
    assert (found["llm.slots"]["value"], found["llm.slots"]["origin"]) == (1, "default")
    assert (found["PILOT_PROFILE"]["value"], found["PILOT_PROFILE"]["origin"]) == ("paper", "environment")
    assert found["broker.email"]["value"] == "anna@secret.example"
    redacted = pilot("--profile", str(planted), "config", "show", "--redacted").stdout
    for secret in (*PLANTED.values(), "inaddress"):
        assert secret not in plain + redacted
    assert "anna@" not in redacted and "ACC-778899" not in redacted
    only = pilot("--profile", str(planted), "config", "show", "--only", "broker.", "--changed").stdout
    assert {line.partition(" ")[0] for line in only.splitlines() if " = " in line} == {
        "broker.kind", "broker.base_url", "broker.email", "broker.account_id"
    }  # fmt: skip


# ── init ────────────────────────────────────────────────────────────────────

FLAGS = ("--url", "https://mtr.example.com", "--email", "me@example.com", "--account", "4711", "--rules", "ftmo-2step")


def test_init_writes_two_private_files_that_are_read_back_and_overwrites_none(data: Path) -> None:
    to, env = data.parent / "live.toml", data.parent / ".env"
    secret = 'it\'s a "pass\\word" #1 $x'
    ended = pilot(
        "init", *FLAGS, "--to", str(to), "--yes", "--secrets-stdin", given=f"PILOT_BROKER_PASSWORD={secret}\n"
    )
    assert ended.returncode == 0, ended.stderr
    assert {stat.S_IMODE(path.stat().st_mode) for path in (to, env)} == {0o600}
    settings = load.settings(str(to))
    assert (settings.broker.kind, settings.broker.account_id, settings.compliance.rules) == (
        "platform",
        "4711",
        "ftmo-2step",
    )
    assert load.env_file() == {"PILOT_BROKER_PASSWORD": secret}
    assert secret not in ended.stdout + ended.stderr + to.read_text()
    before = (to.read_text(), env.read_text())
    for arguments in (("--to", str(data / "other.toml")), ("--to", str(to), "--settings-only")):
        again = pilot("init", *FLAGS, *arguments, "--yes", "--secrets-stdin", given="PILOT_BROKER_PASSWORD=other\n")
        assert again.returncode == 1 and "exists" in again.stderr and "Nothing was written" in again.stderr
    assert (to.read_text(), env.read_text()) == before and not (data / "other.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "given", "code", "why"),
    [
        (FLAGS[:2], "", 64, "missing: --account, --rules"),
        ((*FLAGS[:6], "--rules", "none-such"), "PILOT_BROKER_PASSWORD=x", 78, "none-such"),
        ((*FLAGS, "--api", "fix"), "PILOT_BROKER_PASSWORD=x", 64, "allowed: platform, trader"),
        (FLAGS, "", 64, "secret PILOT_BROKER_PASSWORD is missing"),
        (FLAGS, "PATH=/tmp", 64, "standard input names 'PATH'"),
        ((*FLAGS, "--llm-url", "https://x"), "PILOT_BROKER_PASSWORD=x", 64, "missing: --llm-model"),
        ((*FLAGS, "--account", ""), "PILOT_BROKER_PASSWORD=x", 64, "missing: --account"),
    ],
)
def test_init_that_cannot_be_right_writes_nothing(
    data: Path, arguments: tuple[str, ...], given: str, code: int, why: str
) -> None:
    to = data.parent / "live.toml"
    ended = pilot("init", *arguments, "--to", str(to), "--yes", "--secrets-stdin", given=given)
    assert (ended.returncode, why in ended.stderr) == (code, True), ended.stderr
    assert not to.exists() and not (data.parent / ".env").exists()


def test_init_asks_step_by_step(data: Path) -> None:
    to = data.parent / "live.toml"
    said = ["", "trader", "https://trader.example.com", "", "", "4711", "ftmo-1step", "", "the-token-123", "", ""]
    ended = pilot("init", "--to", str(to), given="\n".join([*said, "y", ""]))
    assert ended.returncode == 0, ended.stderr
    assert load.settings(str(to)).broker.kind == "trader"
    assert load.env_file() == {"PILOT_BROKER_TOKEN": "the-token-123"}
