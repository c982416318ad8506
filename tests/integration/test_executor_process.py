"""The executor as a process, beside a real store and a real paper broker: frozen, doubled, killed, started again.

No supervisor: what happens to the executor happens by the test's hand.
"""

from __future__ import annotations

import os
import signal
import subprocess

import apsw
import pytest

from bus.vocabulary import ExitCode
from tests.kit.rig import LICENCE_S, Rig, is_stopped, rig

# ── refusals first ──────────────────────────────────────────────────────────


def test_executor_frozen_past_its_licence_sends_nothing_and_a_second_one_cannot_run_meanwhile() -> None:
    with rig() as found:
        found.run.arm("executor.before_post", "stop")
        first = found.start()
        found.run.eventually(lambda: found.run.fired("executor.before_post") and is_stopped(first.pid))
        other = found.run.folder / "other"
        other.mkdir(mode=0o700)
        for env in ({"PILOT_SLOT": "1"}, {"PILOT_SLOT": "2"}, {"PILOT_RUN": str(other)}):
            assert found.start(**env).wait(20) == ExitCode.LOCKED
        assert f"is held by executor.1 (pid {first.pid})" in found.run.console()
        assert found.status() == "executing"
        os.kill(first.pid, signal.SIGCONT)
        found.until("failed")
        assert found.reason().startswith("not sent: the licence was")
        assert (found.received(), found.run.positions()) == (0, [])


def test_executor_that_sleeps_past_its_licence_sends_nothing() -> None:
    with rig() as found:
        found.run.arm("executor.before_post", f"sleep {LICENCE_S + 0.1}")
        found.start()
        found.until("failed")
        assert found.reason().startswith("not sent: the licence was 0.")
        assert (found.received(), found.run.positions()) == (0, [])


def test_executor_without_its_password_ends_with_a_configuration_error() -> None:
    with rig() as found:
        text = found.run.profile.read_text().replace("[broker]", '[broker]\nkind = "platform"')
        found.run.profile.write_text(text)
        assert found.start().wait(20) == ExitCode.CONFIG
        assert "PILOT_BROKER_PASSWORD is not set" in found.run.console()


@pytest.mark.parametrize("module", ["actors.executor", "actors.monitor"])
def test_database_of_another_account_ends_executor_and_monitor_with_78_before_they_look(module: str) -> None:
    with rig() as found:
        executor = found.start()
        found.until("opened")
        executor.terminate()
        assert executor.wait(10) == ExitCode.OK
        use(found, account_id="ACC-2")
        looked = found.run.console().count("Looked at the account")
        assert found.start(module).wait(20) == ExitCode.CONFIG
        assert "this database belongs to account PAPER-1 of the paper broker; broker.account_id is ACC-2 of the" in (
            found.run.console()
        )
        assert found.run.console().count("Looked at the account") == looked
        assert (found.status(), found.read("halts")) == ("opened", [])


def test_token_of_another_account_judges_no_order_of_this_one() -> None:
    with rig() as found:
        found.run.arm("executor.before_post", "kill")
        assert found.start().wait(20) == -signal.SIGKILL
        forget_the_owner(found)
        use(found, account_id="ACC-2", paper_api="trader")
        found.start()
        found.run.eventually(lambda: "'ACC-2' is not among the accounts of this token" in found.run.console())
        assert "Looked at the account" not in found.run.console().rpartition("Waiting for the broker")[2]
        assert found.status() == "executing"


def use(found: Rig, **broker: str) -> None:
    """Have what is started from now on use these settings of the broker."""
    lines = "".join(f'{name} = "{value}"\n' for name, value in broker.items())
    found.run.profile.write_text(found.run.profile.read_text().replace("[broker]\n", f"[broker]\n{lines}"))


def forget_the_owner(found: Rig) -> None:
    db = apsw.Connection(str(found.run.data / "decisions.db"))
    db.set_busy_timeout(5_000)
    db.execute("DELETE FROM meta WHERE key = 'owner'")
    db.execute("DROP TRIGGER account_days_keep")
    db.execute("DELETE FROM account_days")
    db.close()


def test_broker_that_does_not_listen_is_waited_for() -> None:
    with rig() as found:
        paper = found.processes[1]
        paper.kill()
        paper.wait()
        executor = found.start()
        found.run.eventually(lambda: "Waiting for the broker" in found.run.console())
        assert found.status() == "ready_for_exec"
        found.start("actors.paper")
        found.until("opened")
        executor.terminate()
        assert executor.wait(10) == ExitCode.OK


# ── killed and started again ────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("point", "end", "received"),
    [
        ("broker.before_write", "failed", 0),
        ("broker.after_write", "opened", 1),
        ("executor.before_look", "opened", 1),
    ],
)
def test_executor_killed_with_a_reserved_order_is_followed_by_one_that_looks_and_never_sends(
    point: str, end: str, received: int
) -> None:
    with rig() as found:
        found.run.arm(point, "kill")
        assert found.start().wait(20) == -signal.SIGKILL
        assert found.status() == "executing"
        assert len(found.read("unresolved_orders")) == 1
        before = found.received()
        found.start()
        found.until(end)
        assert found.received() == before == received
        assert len(found.run.positions()) == received


def test_executor_stopped_while_it_looks_for_an_order_ends_in_order_and_the_next_one_finds_it() -> None:
    with rig(quiet_s=30.0) as found:
        found.run.broker("/paper/faults", fault="place_late", seconds=2.0)
        first = found.start()
        found.run.eventually(lambda: found.read("unresolved_orders") and "Outcome unknown" in found.run.console())
        first.terminate()
        assert first.wait(10) == ExitCode.OK
        found.start()
        found.until("opened")
        assert found.received() == len(found.run.positions()) == 1


# ── the operator ────────────────────────────────────────────────────────────


def test_operator_resolves_what_the_executor_cannot_tell_and_other_work_is_judged_again() -> None:
    with rig("EURUSD", "GBPUSD") as found:
        found.run.broker("/paper/faults", fault="hide_position", seconds=3_600)
        found.start()
        found.run.eventually(lambda: found.read("halts"))
        assert found.status(1) == "ready_for_exec"
        position_id = str(found.run.positions()[0]["position_id"])

        def pilot(*arguments: str) -> subprocess.CompletedProcess[str]:
            return found.run.run(
                "resolve", found.ids[0][:10], *arguments, "--reason", "seen in the terminal", command="pilot"
            )

        ended = pilot("--position", position_id, "--yes")
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout == f"applied: {found.ids[0]} EURUSD\n"
        assert "operator" in found.reason() and found.reason().endswith("seen in the terminal")
        assert found.read("halts") == []
        # The broker shows that position neither open nor closed: the next intent is judged, and not let through.
        found.until("rejected", 1)
        assert "Let go of the order" in found.run.console()
        assert found.received() == 1
