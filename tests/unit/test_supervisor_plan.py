"""The plan replays histories: what was seen at which second, and what the supervisor does about it."""

from __future__ import annotations

import signal

import pytest

from bus.vocabulary import ExitCode, Role
from supervisor import formation, plan
from supervisor.plan import Dump, Finish, Kill, Plan, Say, Start, Terminate
from supervisor.slots import Limits, Phase, SlotId, backoff_s, describe
from supervisor.start import alone

STORE, EXECUTOR, MONITOR, SCANNER, LLM = (
    (role, 1) for role in (Role.STORE, Role.EXECUTOR, Role.MONITOR, Role.SCANNER, Role.LLM)
)
LLM_2 = (Role.LLM, 2)
ALERTS = (Role.ALERTS, 1)
SIGKILLED = -signal.SIGKILL


class History:
    """A plan with a clock in the hand."""

    def __init__(self, *wanted: SlotId, jitter: float = 0.0, limits: Limits | None = None) -> None:
        self.now = 100.0
        self.plan = Plan(wanted, limits=limits or Limits(), jitter=lambda: jitter, now=self.now)
        self.said: list[str] = []

    def due(self, after_s: float = 0.0) -> list[plan.Action]:
        """Let time pass and return what is to be done, without the words."""
        self.now += after_s
        actions = self.plan.due(self.now)
        self.said += [action.text for action in actions if isinstance(action, Say)]
        return [action for action in actions if not isinstance(action, Say)]

    def ready(self, *slots: SlotId) -> None:
        for slot in slots:
            self.plan.beat(slot, self.now)
            self.plan.ready(slot, self.now)

    def beat_on(self, seconds: float, *slots: SlotId) -> list[plan.Action]:
        """Let these beat every second for a while; return all that was to be done."""
        actions: list[plan.Action] = []
        for _ in range(int(seconds)):
            self.now += 1.0
            for slot in slots:
                self.plan.beat(slot, self.now)
            actions += self.due()
        return actions

    def exit(self, slot: SlotId, returncode: int = 1) -> None:
        self.plan.exited(slot, returncode, self.now)

    def run(self, *slots: SlotId) -> None:
        """Bring these from nothing to ready."""
        self.due()
        if STORE in slots:
            self.ready(STORE)
            self.due()
        self.ready(*(slot for slot in slots if slot != STORE))

    def phase(self, slot: SlotId) -> Phase:
        return self.plan.slots[slot].phase


def running(*slots: SlotId, **options: object) -> History:
    history = History(*slots, **options)  # type: ignore[arg-type]
    history.run(*slots)
    history.due()
    return history


# ── what must not be ──


def test_a_dead_executor_is_started_again_only_after_it_was_waited_for() -> None:
    history = running(STORE, EXECUTOR)
    assert history.beat_on(5, STORE) == [Dump(EXECUTOR)]
    assert history.beat_on(20, STORE) == [Kill(EXECUTOR)]
    history.exit(EXECUTOR, SIGKILLED)
    assert history.due() == [Start(EXECUTOR)]


@pytest.mark.parametrize("role", [Role.STORE, Role.EXECUTOR, Role.MONITOR, Role.PAPER])
def test_fifth_death_of_one_that_must_live_drains_everything_and_exits_70(role: Role) -> None:
    slot = (role, 1)
    history = running(*dict.fromkeys([STORE, slot, LLM]))
    for _ in range(4):
        history.exit(slot)
        assert history.due(2.1) == [Start(slot)]
        for beating in (STORE, LLM):
            history.plan.beat(beating, history.now)
    history.exit(slot)
    actions = history.due()
    assert Start(slot) not in actions
    assert Terminate(LLM) in actions
    history.exit(LLM, 0)
    history.due()
    if role is not Role.STORE:
        history.exit(STORE, 0)
    assert history.due() == [Finish(ExitCode.GAVE_UP)]
    assert any("5 deaths in" in text and "nothing can go on without it" in text for text in history.said)


@pytest.mark.parametrize("role", [Role.LLM, Role.SCANNER, Role.ALERTS, Role.DASHBOARD])
def test_fifth_death_of_one_that_is_not_vital_gives_it_up_while_the_rest_runs_on(role: Role) -> None:
    slot = (role, 1)
    history = running(STORE, EXECUTOR, slot)
    for _ in range(4):
        history.exit(slot)
        assert history.due(2.1) == [Start(slot)]
        for beating in (STORE, EXECUTOR):
            history.plan.beat(beating, history.now)
    history.exit(slot)
    assert history.beat_on(1_000, STORE, EXECUTOR) == []
    assert history.phase(slot) is Phase.GIVEN_UP
    assert history.plan.exit_code is None
    assert any(f"supervisor restart {role}.1" in text for text in history.said)


def test_one_that_was_given_up_in_a_daily_cycle_ends_the_cycle_with_70() -> None:
    history = running(STORE, SCANNER, limits=Limits(may_give_up=False, restarts_max=1))
    history.exit(SCANNER)
    assert history.due() == [Terminate(STORE)]
    assert history.plan.exit_code == ExitCode.GAVE_UP


@pytest.mark.parametrize("code", [1, ExitCode.LOCKED, ExitCode.CONFIG])
def test_alerts_end_nothing_however_they_end_and_people_are_told_of_it(code: int) -> None:
    alerts = (Role.ALERTS, 1)
    history = History(STORE, alerts, limits=Limits(may_give_up=False, restarts_max=1))
    history.due()
    history.ready(STORE)
    assert history.due() == [Start(alerts)]
    history.exit(alerts, code)
    events = [action.event for action in history.plan.due(history.now) if isinstance(action, Say)]
    assert events.count("process_given_up") == 1
    assert history.phase(alerts) is Phase.GIVEN_UP
    assert history.plan.exit_code is None


def test_configuration_error_at_start_drains_everything_and_is_not_tried_again() -> None:
    history = History(STORE, LLM)
    history.due()
    history.ready(STORE)
    assert history.due() == [Start(LLM)]
    history.exit(LLM, ExitCode.CONFIG)
    assert history.due() == [Terminate(STORE)]
    history.exit(STORE, 0)
    assert history.due() == [Finish(ExitCode.CONFIG)]


@pytest.mark.parametrize("may_give_up", [True, False])
def test_page_that_cannot_have_its_port_ends_nothing_even_at_the_start(may_give_up: bool) -> None:
    page = (Role.DASHBOARD, 1)
    history = History(STORE, page, limits=Limits(may_give_up=may_give_up))
    history.due()
    history.ready(STORE)
    assert history.due() == [Start(page)]
    history.exit(page, ExitCode.CONFIG)
    assert history.due() == []
    assert history.phase(page) is Phase.GIVEN_UP
    assert history.plan.exit_code is None


def test_configuration_error_of_an_analyst_added_later_does_not_end_a_pipeline_that_runs() -> None:
    history = running(STORE, EXECUTOR, LLM)
    history.plan.want([STORE, EXECUTOR, LLM, LLM_2], history.now)
    assert history.due() == [Start(LLM_2)]
    history.exit(LLM_2, ExitCode.CONFIG)
    assert history.due() == []
    assert history.phase(LLM_2) is Phase.GIVEN_UP


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("is_taken_out", [True, False])
def test_nor_does_it_where_alerts_were_given_up_or_taken_out_before_they_were_ever_ready(
    is_first: bool, is_taken_out: bool
) -> None:
    history = History(STORE, EXECUTOR, LLM, ALERTS)
    history.due()
    history.ready(STORE)
    history.due()
    if not is_first:
        history.ready(EXECUTOR, LLM)
    history.exit(ALERTS, 1 if is_taken_out else ExitCode.CONFIG)
    if is_first:
        history.ready(EXECUTOR, LLM)
    history.plan.want([STORE, EXECUTOR, LLM, LLM_2, *([] if is_taken_out else [ALERTS])], history.now)
    assert history.due() == [Start(LLM_2)]
    history.exit(LLM_2, ExitCode.CONFIG)
    assert history.due() == []
    assert (history.phase(LLM_2), history.plan.exit_code) == (Phase.GIVEN_UP, None)


def test_configuration_error_while_nothing_but_a_process_that_was_given_up_is_over_ends_the_start() -> None:
    history = History(STORE, LLM, ALERTS)
    history.due()
    history.exit(ALERTS, ExitCode.CONFIG)
    history.exit(LLM, ExitCode.CONFIG)
    assert history.plan.exit_code == ExitCode.CONFIG
    history = History(ALERTS, LLM)
    history.due()
    history.exit(ALERTS, ExitCode.CONFIG)
    history.exit(LLM, ExitCode.CONFIG)
    assert history.plan.exit_code == ExitCode.CONFIG, "given up is not ready"


def test_configuration_error_of_an_executor_that_was_ready_before_exits_70() -> None:
    history = running(STORE, EXECUTOR)
    history.exit(EXECUTOR, ExitCode.CONFIG)
    assert history.due() == [Terminate(STORE)]
    assert history.plan.exit_code == ExitCode.GAVE_UP


def test_lock_held_by_another_drains_everything_and_exits_75() -> None:
    history = running(STORE, EXECUTOR)
    history.exit(EXECUTOR, ExitCode.LOCKED)
    assert history.due() == [Terminate(STORE)]
    history.exit(STORE, 0)
    assert history.due() == [Finish(ExitCode.LOCKED)]


def test_exit_0_that_nobody_asked_for_counts_as_a_death() -> None:
    history = running(STORE, MONITOR)
    history.exit(MONITOR, 0)
    assert history.due() == [Start(MONITOR)]
    assert history.plan.slots[MONITOR].failures == 1


# ── restarts ──


def test_first_restart_is_immediate_and_the_next_ones_wait_longer_and_longer() -> None:
    history = running(STORE, LLM, limits=Limits(restarts_max=100))
    waits = []
    for _ in range(5):
        history.exit(LLM)
        before = history.now
        while Start(LLM) not in history.due():
            history.now += 0.0625  # exact in binary
            history.plan.beat(STORE, history.now)
        waits.append(history.now - before)
    assert waits == [0.0, 0.25, 0.5, 1.0, 2.0]


def test_only_the_one_that_died_is_started_again() -> None:
    history = running(STORE, EXECUTOR, LLM)
    history.exit(STORE, SIGKILLED)
    assert history.due() == [Start(STORE)]


@pytest.mark.parametrize("failures", range(1, 60))
@pytest.mark.parametrize("jitter", [0.0, 0.999])
def test_backoff_never_exceeds_its_limit(failures: int, jitter: float) -> None:
    assert 0.25 <= backoff_s(failures, Limits(), jitter) <= 30.0


def test_jitter_only_stretches_the_wait() -> None:
    assert backoff_s(2, Limits(), 0.0) == 0.5
    assert backoff_s(2, Limits(), 1.0) == 0.75


def test_a_minute_of_stable_life_forgets_the_failures_before() -> None:
    history = running(STORE, LLM)
    for _ in range(3):
        history.exit(LLM)
        history.due(1.0)
        history.ready(LLM)
        history.plan.beat(STORE, history.now)
    history.beat_on(61, STORE, LLM)
    history.exit(LLM)
    assert history.due() == [Start(LLM)]
    assert history.plan.slots[LLM].failures == 1
    assert history.plan.slots[LLM].restarts == 4


def test_deaths_spread_over_more_than_the_window_are_never_too_many() -> None:
    history = running(STORE, EXECUTOR)
    for _ in range(20):
        history.exit(EXECUTOR)
        history.beat_on(46, STORE)
        history.ready(EXECUTOR)
    assert history.plan.exit_code is None
    assert history.phase(EXECUTOR) is Phase.READY


def test_process_that_could_not_be_started_counts_as_a_death() -> None:
    history = History(LLM)
    assert history.due() == [Start(LLM)]
    history.plan.exited(LLM, ExitCode.GAVE_UP, history.now, how="could not be started: no memory")
    assert history.due() == [Start(LLM)]
    assert any("no memory" in text for text in history.said)


def test_without_restarts_the_first_death_ends_everything_with_its_code() -> None:
    history = running(EXECUTOR, limits=Limits(restart=False))
    history.exit(EXECUTOR, SIGKILLED)
    assert history.due() == [Finish(137)]


def test_without_restarts_an_unasked_exit_0_is_not_reported_as_wanted() -> None:
    history = running(EXECUTOR, limits=Limits(restart=False))
    history.exit(EXECUTOR, 0)
    assert history.due() == [Finish(ExitCode.GAVE_UP)]


# ── watching ──


def test_one_that_stops_beating_prints_its_stacks_and_is_killed() -> None:
    history = running(STORE, LLM)
    assert history.beat_on(4, STORE) == []
    assert history.beat_on(1, STORE) == [Dump(LLM)]
    assert history.due(0.125) == []
    assert history.due(0.125) == [Kill(LLM)]
    assert any("llm.1 did not beat for 5.0 s" in text for text in history.said)


def test_one_that_is_never_ready_is_killed_after_its_time() -> None:
    history = History(LLM)
    history.due()
    assert history.beat_on(59, LLM) == []
    assert history.beat_on(1, LLM) == [Dump(LLM)]
    assert history.due(0.2) == [Kill(LLM)]


def test_one_that_ends_before_the_kill_is_simply_started_again() -> None:
    history = running(STORE, LLM)
    history.beat_on(5, STORE)
    history.exit(LLM)
    assert history.due() == [Start(LLM)]


def test_supervisor_that_stood_still_gives_its_children_all_their_time_again() -> None:
    history = running(STORE, LLM)
    history.now += 3_600.0
    history.plan.thawed(history.now)
    assert history.due() == []
    assert history.due(4.9) == []
    assert set(history.due(0.1)) == {Dump(STORE), Dump(LLM)}


def test_standing_still_while_a_child_stops_does_not_kill_it() -> None:
    history = running(LLM)
    history.plan.drain(0, "wanted", history.now)
    assert history.due() == [Terminate(LLM)]
    history.now += 100.0
    history.plan.thawed(history.now)
    assert history.due() == []
    assert history.due(4.0) == [Kill(LLM)]


# ── start and stop ──


def test_store_starts_first_and_the_others_when_it_is_ready() -> None:
    history = History(LLM, STORE, EXECUTOR)
    assert history.due() == [Start(STORE)]
    assert history.due(1.0) == []
    history.ready(STORE)
    assert history.due() == [Start(LLM), Start(EXECUTOR)]


def test_others_do_not_wait_for_the_store_without_end() -> None:
    history = History(STORE, LLM)
    assert history.due() == [Start(STORE)]
    assert history.due(4.9) == []
    assert history.due(0.1) == [Start(LLM)]


def test_store_that_dies_later_does_not_hold_back_the_others() -> None:
    history = running(STORE, LLM)
    history.exit(STORE)
    history.exit(LLM)
    assert history.due() == [Start(STORE), Start(LLM)]


def test_store_is_stopped_last() -> None:
    history = running(STORE, EXECUTOR, LLM)
    history.plan.drain(0, "wanted", history.now)
    assert history.due() == [Terminate(EXECUTOR), Terminate(LLM)]
    history.exit(EXECUTOR, 0)
    assert history.due() == []
    history.exit(LLM, 0)
    assert history.due() == [Terminate(STORE)]
    history.exit(STORE, 0)
    assert history.due() == [Finish(0)]


def test_one_that_does_not_stop_in_time_is_killed_and_the_store_stopped_after_it() -> None:
    history = running(STORE, LLM)
    history.plan.drain(0, "wanted", history.now)
    history.due()
    assert history.due(3.9) == []
    assert history.due(0.1) == [Kill(LLM)]
    history.exit(LLM, SIGKILLED)
    assert history.due() == [Terminate(STORE)]
    assert history.due(4.0) == [Kill(STORE)]


def test_store_under_honcho_goes_on_for_the_others_but_not_without_end() -> None:
    limits = Limits(stop_s=3.8, store_stop_s=0.8, peers_wait_s=3.0)
    history = running(STORE, limits=limits)
    history.plan.peers_alive = True
    history.plan.drain(0, "wanted", history.now)
    assert history.beat_on(2, STORE) == []
    assert history.due(1.0) == [Terminate(STORE)]
    assert history.due(0.8) == [Kill(STORE)]


def test_store_under_honcho_stops_as_soon_as_the_others_are_gone() -> None:
    history = running(STORE, limits=Limits(stop_s=3.8, store_stop_s=0.8, peers_wait_s=3.0))
    history.plan.peers_alive = True
    history.plan.drain(0, "wanted", history.now)
    assert history.due(0.2) == []
    history.plan.peers_alive = False
    assert history.due(0.1) == [Terminate(STORE)]


def test_second_signal_kills_all_that_is_left_including_the_store() -> None:
    history = running(STORE, EXECUTOR)
    history.plan.drain(0, "wanted", history.now)
    history.plan.hurry(history.now)
    assert set(history.due()) == {Kill(STORE), Kill(EXECUTOR)}
    history.exit(STORE, SIGKILLED)
    history.exit(EXECUTOR, SIGKILLED)
    assert history.due() == [Finish(0)]


def test_first_reason_to_end_decides_the_exit_code() -> None:
    history = running(STORE, EXECUTOR)
    history.exit(EXECUTOR, ExitCode.LOCKED)
    history.plan.drain(0, "a signal", history.now)
    history.due()
    history.exit(STORE, 0)
    assert history.due() == [Finish(ExitCode.LOCKED)]


def test_nothing_is_started_while_everything_stops() -> None:
    history = running(STORE, LLM)
    history.exit(LLM)
    history.plan.drain(0, "wanted", history.now)
    assert history.due() == [Terminate(STORE)]
    history.exit(STORE, 1)
    assert history.due() == [Finish(0)]


def test_death_while_everything_stops_is_not_announced_as_a_restart() -> None:
    history = running(STORE, LLM)
    history.plan.drain(0, "wanted", history.now)
    history.exit(LLM, 1)
    assert history.due() == [Terminate(STORE)]
    assert "llm.1 ended with code 1 after 0 s" in history.said


@pytest.mark.parametrize("role", [Role.STORE, Role.EXECUTOR])
@pytest.mark.parametrize("stop_s", [0.5, 4.0, 600.0])
def test_stop_of_a_single_name_ends_before_honcho_kills(role: Role, stop_s: float) -> None:
    limits = alone(Limits(stop_s=stop_s, store_stop_s=stop_s), role)
    history = running((role, 1), limits=limits)
    history.plan.peers_alive = True
    asked_at = history.now
    history.plan.drain(0, "wanted", history.now)
    while Kill((role, 1)) not in history.due():
        history.now += 0.0625
        history.plan.beat((role, 1), history.now)
    assert history.now - asked_at <= min(stop_s, 4.0)


# ── formation ──


def test_scaling_down_stops_the_highest_numbers_and_does_not_count_as_deaths() -> None:
    history = running(STORE, LLM, LLM_2)
    history.plan.want([STORE, LLM], history.now)
    assert history.due() == [Terminate(LLM_2)]
    history.exit(LLM_2, 0)
    assert history.due() == []
    assert set(history.plan.slots) == {STORE, LLM}


def test_slot_wanted_again_while_it_stops_is_started_again() -> None:
    history = running(STORE, LLM, LLM_2)
    history.plan.want([STORE, LLM], history.now)
    history.due()
    history.plan.want([STORE, LLM, LLM_2], history.now)
    assert history.due() == []
    history.exit(LLM_2, 0)
    assert history.due() == [Start(LLM_2)]


def test_scaling_one_name_leaves_another_that_was_given_up_alone() -> None:
    history = running(STORE, SCANNER, LLM, limits=Limits(restarts_max=1))
    history.exit(SCANNER)
    history.due()
    history.plan.want([STORE, SCANNER, LLM, LLM_2], history.now, again=[Role.LLM])
    assert history.due() == [Start(LLM_2)]
    history.plan.want([STORE, SCANNER, LLM, LLM_2], history.now, again=[Role.SCANNER])
    assert history.due() == [Start(SCANNER)]


def test_restart_stops_first_and_does_not_count_as_a_death() -> None:
    history = running(STORE, EXECUTOR)
    history.plan.restart([EXECUTOR], history.now)
    assert history.due() == [Terminate(EXECUTOR)]
    history.exit(EXECUTOR, 0)
    assert history.due() == [Start(EXECUTOR)]
    assert history.plan.slots[EXECUTOR].deaths == ()
    assert history.plan.slots[EXECUTOR].restarts == 1


def test_restart_tries_one_that_was_given_up_again() -> None:
    history = running(STORE, LLM, limits=Limits(restarts_max=1))
    history.exit(LLM)
    assert history.due() == []
    history.plan.restart([LLM], history.now)
    assert history.due() == [Start(LLM)]


# ── waiting ──


def test_wait_ends_when_something_is_due() -> None:
    history = running(STORE)
    assert history.plan.wait_s(history.now, 0.5) == 0.5
    assert history.plan.wait_s(history.now + 4.8, 0.5) == pytest.approx(0.2)
    assert history.plan.wait_s(history.now + 9.0, 0.5) == 0.0


def test_one_that_was_given_up_or_killed_does_not_keep_the_loop_busy() -> None:
    history = running(LLM, limits=Limits(restarts_max=1))
    history.exit(LLM)
    history.due()
    assert history.plan.wait_s(history.now + 100.0, 0.5) == 0.5


@pytest.mark.parametrize(
    ("returncode", "text"),
    [
        (-signal.SIGKILL, "was killed by SIGKILL"),
        (-signal.SIGABRT, "was killed by SIGABRT"),
        (-62, "was killed by signal 62"),
        (1, "ended with code 1"),
        (78, "ended with code 78 (wrong configuration)"),
    ],
)
def test_the_end_of_a_process_reads_in_words(returncode: int, text: str) -> None:
    assert describe(returncode) == text


# ── what may be asked for ──


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("store=2", "only writer"),
        ("scanner=2", "propose every intent twice"),
        ("executor=2", "place an order twice"),
        ("monitor=3", "request budget"),
        ("dashboard=2", "one port"),
        ("paper=2", "one process"),
        ("store=0", "supervisor stop"),
        ("llm=33", "0..32"),
        ("llm=-1", "count from 0"),
        ("llm=", "NAME=COUNT"),
        ("llm", "NAME=COUNT"),
        ("llm=1.5", "NAME=COUNT"),
        ("llm=²", "NAME=COUNT"),
        ("", "NAME=COUNT"),
        ("analyst=2", "known: store, scanner, llm"),
        ("pilot=1", "known: store, scanner, llm"),
        ("llm=1,llm=2", "twice"),
    ],
)
def test_formation_that_cannot_be_is_refused_with_the_reason(asked: str, why: str) -> None:
    with pytest.raises(formation.UsageError, match=why.replace(".", r"\.")):
        formation.parse([asked])


def test_formation_is_one_of_each_name_then_the_changes() -> None:
    roles = (Role.STORE, Role.LLM, Role.PAPER)
    changes = formation.parse(["llm=2, paper=0"])
    assert formation.slots(formation.of(roles, changes)) == [STORE, LLM, LLM_2]


def test_change_for_a_name_that_is_not_in_the_procfile_is_refused() -> None:
    with pytest.raises(formation.UsageError, match="it has: store, llm"):
        formation.of((Role.STORE, Role.LLM), {Role.DASHBOARD: 1})


def test_monitor_only_leaves_out_all_that_trades() -> None:
    found = formation.of(formation.ACTORS, {}, monitor_only=True)
    assert {role for role, count in found.items() if count} == {
        Role.STORE,
        Role.MONITOR,
        Role.ALERTS,
        Role.DASHBOARD,
        Role.PAPER,
    }


def test_monitor_only_with_an_analyst_is_refused() -> None:
    with pytest.raises(formation.UsageError, match="contradicts"):
        formation.of(formation.ACTORS, {Role.LLM: 2}, monitor_only=True)
