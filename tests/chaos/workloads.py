"""What leads a pipeline to the points that ordinary trading does not pass: starts, stops, refusals, the operator.

Used by the sweep. A workload has a pipeline of its own and arms its points itself, when their turn has come; all that
follows (rest, checks, an orderly stop) is the sweep's.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from actors.broker.errors import BrokerError
from bus import messages
from bus.vocabulary import OrderStatus, Role, Status
from store.queries import DatabaseRefused
from tests.chaos.rig import Changes, Rig
from tests.kit import by_hand, llm_server
from tests.kit.llm_server import LlmServer

SETTLE_S = 30.0
FIRE_S = 6.0  # for one more point of a workload: a process is replaced and at work again in half of that
TRIES_MAX = 12
HANG_S = 2.5  # how long a silent language model is waited for: longer than an analyst has at a stop
STOPPED_S = 30
LISTENS = 5.0
SILENT_S = 4.0  # twice as long as a grant is waited for
FOREIGN: Changes = {"llm": {"analyst": "tradingagents"}}
RECORDING_BYTES = 16_384
_CHAT = {"analyst": "openai", "model": "test-model", "deadline_s": HANG_S, "recording_bytes_max": RECORDING_BYTES}
CHAT: Changes = {"llm": _CHAT | {"breaker_failures_max": 100}}
FRAGILE: Changes = {"llm": _CHAT | {"breaker_failures_max": 1, "breaker_wait_s": 0.2}}


class Turn:
    """One run of a workload: its pipeline, its points, and how to arm them."""

    def __init__(self, rig: Rig, points: tuple[str, ...], action: str, nth: int, model: Model | None) -> None:
        self.rig = rig
        self.points = points
        self._action = action
        self._nth = nth
        self._model = model
        self._risen = 0

    def arm(self, *points: str) -> None:
        for point in points or self.points:
            self.rig.run.arm(point, self._action, at_pass=self._nth)

    def left(self) -> list[str]:
        return [point for point in self.points if not self.rig.run.fired(point)]

    def wait(self, *points: str, seconds: float = FIRE_S) -> None:
        """Wait until these have fired, or as long without another one that fires."""
        wanted, end = points or self.points, time.monotonic() + seconds
        left = len(wanted)
        while left and time.monotonic() < end:
            self.rig.wait(lambda now=left: self._left_of(wanted) < now, max(0.0, end - time.monotonic()))
            if (now := self._left_of(wanted)) < left:
                left, end = now, time.monotonic() + seconds

    def _left_of(self, wanted: tuple[str, ...]) -> int:
        return sum(not self.rig.run.fired(point) for point in wanted)

    def rise(self) -> int:
        """Return a few percent more than the last time."""
        self._risen += 4
        return self._risen

    def model(self) -> Model:
        if self._model is None:
            raise AssertionError("this workload needs a language model")
        return self._model


class Model:
    """A language model on a loopback port in a thread of its own: it decides at once, or is silent."""

    def __init__(self) -> None:
        self.server = LlmServer()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with self.server:
            self._ready.set()
            await self._end.wait()

    def __enter__(self) -> Model:
        self._thread.start()
        self._ready.wait(LISTENS)
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._end is not None:
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(LISTENS)

    def falls_silent(self) -> None:
        self.server.default = llm_server.Step(body=None)

    def fails(self) -> None:
        self.server.default = llm_server.error_step(402, "no credit")

    def decides(self) -> None:
        self.server.default = llm_server.completion(llm_server.decision())


@dataclass(frozen=True)
class Workload:
    """Which points it leads to, on what pipeline, and how. `begins`: on one that has come to rest after a scan."""

    points: tuple[str, ...]
    work: Callable[[Turn], None]
    begins: bool = True
    arguments: tuple[str, ...] = ()
    wanted: int = 6
    changes: Changes = field(default_factory=dict)
    is_cold: bool = False
    is_strict: bool = False
    needs_model: bool = False
    needs_bridge: bool = False  # an interpreter of its own with a module of TradingAgents' shape
    scans: bool = True  # whether the first scan's intents must come to their end


def both(*names: str) -> tuple[str, ...]:
    """Return both sides of these steps."""
    return tuple(f"{name.partition('.')[0]}.{side}_{name.partition('.')[2]}" for name in names for side in SIDES)


def told(name: str, *sides: str) -> tuple[str, ...]:
    """Return the points of one command of one process: all of them, or these sides."""
    process, _, command = name.partition(".")
    return tuple(f"{process}.{side}_{command}" for side in sides or ("before_send", "after_send", "after_ack"))


SIDES = ("before", "after")


# ── starts and stops ────────────────────────────────────────────────────────


def first_start(turn: Turn) -> None:
    turn.arm()
    turn.rig.start()
    turn.wait(seconds=SETTLE_S / 2)


def training(turn: Turn) -> None:
    """A scan whose child died is tried again after a minute, or by the next scanner."""
    turn.arm()
    turn.rig.start()
    for _ in range(TRIES_MAX):
        before = len(turn.left())
        turn.rig.wait(lambda now=before: len(turn.left()) < now, SETTLE_S / 2)
        if len(turn.left()) == before:
            break
        turn.rig.kill("scanner.1")


def ranks_candles(turn: Turn) -> None:
    """The scanner ranks the broker's own candles, and finds half a bar at the end of each cache."""
    turn.arm()
    turn.rig.start()
    for _ in range(TRIES_MAX):
        before = len(turn.left())
        turn.rig.wait(lambda now=before: len(turn.left()) < now, SETTLE_S / 2)
        (turn.rig.run.data / "models" / "last_scan.json").unlink(missing_ok=True)
        turn.rig.kill("scanner.1")  # a child that died is waited for a minute by the scanner that had it
        if not turn.left() or len(turn.left()) == before:
            break
        for path in (turn.rig.run.data / "bars").rglob("*.bars"):
            with path.open("ab") as file:
                file.write(b"half")


def ordered_stop(turn: Turn) -> None:
    for point in turn.points:
        turn.arm(point)
        turn.rig.stop(point)
        turn.rig.start()
        turn.rig.come_to_rest(f"started after a stop with {point}")


def stop_during_a_scan(turn: Turn) -> None:
    for point in turn.points:
        (turn.rig.run.data / "models" / "last_scan.json").unlink(missing_ok=True)
        turn.rig.run.arm("scan.before_result", f"stop {STOPPED_S}")
        turn.rig.kill("scanner.1")
        turn.rig.wait(lambda: turn.rig.run.fired("scan.before_result"), SETTLE_S)
        (turn.rig.run.points / "scan.before_result.fired").unlink(missing_ok=True)
        turn.arm(point)
        turn.rig.stop(point)
        turn.rig.start()
        turn.rig.wait(lambda: turn.rig.at_rest(), SETTLE_S)


def half_a_line(turn: Turn) -> None:
    turn.rig.stop()
    for path in (turn.rig.run.data / "paper").glob("*.jsonl"):
        with path.open("ab") as file:
            file.write(b'{"half')
    turn.arm()
    turn.rig.start()
    turn.wait()


def full_files(turn: Turn) -> None:
    """The broker's files are put aside after every few orders, as they otherwise are after weeks."""
    turn.arm()
    for _ in range(TRIES_MAX):
        turn.rig.feed(2)
        turn.wait(seconds=FIRE_S / 2)
        turn.rig.wait(turn.rig.at_rest, SETTLE_S)
        turn.rig.close_positions(keep=1)
        if not turn.left():
            return


def older_triggers(turn: Turn) -> None:
    turn.rig.stop()
    with contextlib.closing(sqlite3.connect(turn.rig.run.data / "decisions.db")) as db:
        name = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'intents'").fetchone()[
            0
        ]
        db.execute(f'DROP TRIGGER "{name}"')
        db.commit()
    turn.arm()
    turn.rig.start()
    turn.wait()


def spares(turn: Turn) -> None:
    turn.arm()
    for _ in range(TRIES_MAX):
        if not turn.left():
            return
        before = len(turn.left())
        turn.rig.kill("llm.1")
        turn.rig.wait(lambda now=before: len(turn.left()) < now, FIRE_S / 2)


# ── the account ─────────────────────────────────────────────────────────────


def crash(turn: Turn) -> None:
    """Let a pair gap through its stop by a tenth, so that the daily limit is reached and the rest is flattened."""
    turn.arm()
    turn.rig.start()
    turn.rig.wait(lambda: turn.rig.run.all_settled() and turn.rig.at_rest(), SETTLE_S)
    orders = turn.rig.histories().orders
    if orders:
        plan = orders[0].plan
        factor = 9 if plan.side == "BUY" else 11
        turn.rig.broker("/paper/price", symbol=plan.broker_symbol, bid=str(round(plan.entry_price * factor / 10, 5)))
    turn.wait()


def day_begun_by_the_executor(turn: Turn) -> None:
    turn.arm()
    turn.rig.start("--scale", "monitor=0")
    turn.wait(seconds=SETTLE_S / 2)


def marks_told_by_the_executor(turn: Turn) -> None:
    """The account rises while no monitor follows it: the executor finds a new highest value at its next look."""
    turn.rig.start("--scale", "monitor=0")
    turn.rig.wait(turn.rig.run.all_settled, SETTLE_S)
    for point in turn.points:
        turn.arm(point)
        for _ in range(TRIES_MAX):
            for order in turn.rig.histories().orders:
                gain = order.plan.tp_price - order.plan.entry_price  # a part of it, so that no target is reached
                bid = order.plan.entry_price + gain * turn.rise() / 100
                turn.rig.broker("/paper/price", symbol=order.plan.broker_symbol, bid=str(round(bid, 5)), hold=True)
            turn.rig.feed(1)
            turn.wait(point)
            if point not in turn.left():
                break
    turn.rig.run.run("--scale", "monitor=1")  # the prices may have reached a target, and only it finds that
    turn.rig.wanted += 1


def overfilled(turn: Turn) -> None:
    """A position larger than its order halts for good, or, when only a look shows it, is left to the operator."""
    for point in turn.points:
        turn.arm(point)
        turn.rig.broker("/paper/faults", fault="overfill", on="open")
        turn.rig.feed(1)
        turn.wait(point)
        turn.rig.wait(lambda: turn.rig.at_rest() or operated(turn.rig), SETTLE_S / 2)


def adopted(turn: Turn) -> None:
    """Somebody trades by hand on the account, and the monitor adopts what it finds."""
    for point in turn.points:
        turn.arm(point)
        with contextlib.suppress(BrokerError):
            by_hand.buy(turn.rig.run.url)
        turn.wait(point)
        turn.rig.wait(lambda: _is_everything_owned(turn.rig), SETTLE_S)


def waiting_order(turn: Turn) -> None:
    """Somebody left an order at the broker, and the account is flattened."""
    for point in turn.points:
        turn.arm(point)
        with contextlib.suppress(BrokerError):
            by_hand.leave_order(turn.rig.run.url)
        turn.rig.run.run("flatten", "--reason", "chaos", "--yes", command="pilot", timeout_s=SETTLE_S)
        turn.wait(point)
        turn.rig.wait(lambda: turn.rig.at_rest(), SETTLE_S)
        turn.rig.run.run("resume", "--reason", "chaos", "--yes", command="pilot", timeout_s=SETTLE_S)


def _is_everything_owned(rig: Rig) -> bool:
    found = rig.histories()
    return set(found.placed_ids) <= {order.position_id for order in found.orders}


def operated(rig: Rig) -> bool:
    """Be the operator for a moment. Always False: the wait goes on."""
    with contextlib.suppress(DatabaseRefused):
        rig.operate()
    return False


def settled_by_the_operator(turn: Turn) -> None:
    """An accepted order that is never shown under its id: the executor holds it until the operator has settled it."""
    for point in turn.points:
        unclear(turn.rig)
        turn.arm(point)
        turn.rig.operate()
        turn.wait(point)


def unclear(rig: Rig) -> str:
    """Bring about an order that only the operator can settle; return its intent, empty when that failed."""
    rig.broker("/paper/faults", fault="wrong_order_id", on="open")
    rig.feed(1)
    rig.wait(lambda: _is_unclear(rig), SETTLE_S / 2)
    return next((order.intent_id for order in rig.histories().orders if order.status == OrderStatus.UNKNOWN), "")


def _is_unclear(rig: Rig) -> bool:
    found = rig.histories()
    unknown = [order.intent_id for order in found.orders if order.status == OrderStatus.UNKNOWN]
    return bool(unknown) and any(unknown[0] in halt.reason for halt in found.halts)


def repeated(turn: Turn) -> None:
    """An answer that is lost over the Trader API: the order is sent again with its key."""
    for point in turn.points:
        turn.arm(point)
        turn.rig.broker("/paper/faults", fault="lose_answer_reset", on="open")
        turn.rig.feed(1)
        turn.wait(point)
        turn.rig.wait(turn.rig.at_rest, SETTLE_S / 2)


# ── analysts ────────────────────────────────────────────────────────────────


def asked_model(turn: Turn) -> None:
    turn.arm()
    for _ in turn.points:
        turn.rig.feed(1)
    turn.wait()


def foreign_analyses(turn: Turn) -> None:
    """Each analysis starts a process and kills it; a worker that dies in between leaves none."""
    turn.arm()
    for _ in turn.points:
        turn.rig.feed(1)
    turn.wait()


def silent_model(turn: Turn) -> None:
    turn.model().falls_silent()
    turn.arm()
    turn.rig.feed(1)
    turn.wait(seconds=2 * HANG_S + FIRE_S)
    turn.model().decides()


def failing_model(turn: Turn) -> None:
    """One failure opens the breaker and is reported; the probe brings the model back, which is reported, too."""
    turn.model().fails()
    for point in turn.points:
        turn.arm(point)
        turn.rig.feed(1)
        turn.wait(point)
    turn.model().decides()


def withdrawn(turn: Turn) -> None:
    """The operator cancels what is being analysed."""
    turn.model().falls_silent()
    for point in turn.points:
        turn.arm(point)
        if intent_id := _claimed(turn.rig):
            turn.rig.ask(messages.Cancel(intent_id=intent_id, operator="chaos", reason="withdrawn"), Role.PILOT)
            turn.wait(point)
    turn.model().decides()


def stopped_while_analysing(turn: Turn) -> None:
    for point in turn.points:
        turn.model().falls_silent()
        _claimed(turn.rig)
        turn.arm(point)
        turn.rig.stop(point)
        turn.model().decides()
        turn.rig.start()
        turn.rig.come_to_rest(f"started after a stop with {point}")


def half_a_record(turn: Turn) -> None:
    _with_recording(turn, b'{"half')


def full_recording(turn: Turn) -> None:
    _with_recording(turn, b"{}\n" * (RECORDING_BYTES // 3))


def _with_recording(turn: Turn, more: bytes) -> None:
    """Start again with an analyst whose recording ends so; each analysis after that has a call to record."""
    turn.rig.stop()
    folder = turn.rig.run.data / "recordings"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "llm.1.jsonl").open("ab") as file:
        file.write(more)
    turn.arm()
    turn.rig.start()
    for point in turn.points:
        turn.rig.feed(1)
        turn.wait(point)


def _claimed(rig: Rig) -> str:
    """Propose until an analyst holds an intent; return it."""
    rig.feed(1)
    rig.wait(lambda: rig.run.counts().get(Status.CLAIMED), FIRE_S)
    held = rig.run.intents(Status.CLAIMED)
    return held[0].id if held else ""


def old_bars(turn: Turn) -> None:
    turn.arm()
    turn.rig.start()
    turn.wait(seconds=SETTLE_S / 2)


# ── the operator ────────────────────────────────────────────────────────────


def command_lines(turn: Turn) -> None:
    """`pilot cancel` and `pilot resolve`, each again until it was not hurt any more."""
    turn.arm(*(point for point in turn.points if not point.endswith("_resolve")))
    turn.rig.run.arm("llm.before_analyse", "sleep 1")
    turn.rig.feed(2)
    intent_id = turn.rig.run.intents()[0].id  # the newest one waits for the other
    _again(turn, "pilot", "cancel", intent_id, "--reason", "chaos", "--yes")
    turn.arm(*(point for point in turn.left() if not point.endswith("_cancel")))
    intent_id = unclear(turn.rig)
    position = max((str(line["position_id"]) for line in turn.rig.histories().placements), default="")
    _again(turn, "pilot", "resolve", intent_id, "--position", position, "--reason", "chaos", "--yes")


def brake(turn: Turn) -> None:
    """`pilot pause`, `resume`, `flatten`, `attest` and `day`, each again until it was not hurt any more."""
    turn.arm()
    _again(turn, "pilot", "pause", "--reason", "chaos", "--yes")
    _again(turn, "pilot", "flatten", "--reason", "chaos", "--yes")
    _again(turn, "pilot", "resume", "--reason", "chaos", "--yes")
    _again(turn, "pilot", "attest", "--text", "chaos", "--yes")
    _again(turn, "pilot", "day", "--mark", "60000", "--reason", "chaos", "--yes")
    turn.rig.run.run("resume", "--reason", "chaos", "--yes", command="pilot", timeout_s=SETTLE_S)


def trade_by_hand(turn: Turn) -> None:
    """`pilot submit`, and `pilot close` of what it opened, each again until it was not hurt any more."""
    turn.arm()
    _again(turn, "pilot", "submit", "EURUSD", "BUY", "--sl", "40", "--tp", "80", "--reason", "chaos", "--yes")
    turn.rig.feed(1)
    turn.rig.wait(lambda: bool(turn.rig.run.intents(Status.OPENED)), SETTLE_S)
    opened = turn.rig.run.intents(Status.OPENED)
    if opened:
        _again(turn, "pilot", "close", opened[0].id, "--reason", "chaos", "--yes")


def without_the_store(turn: Turn) -> None:
    """An account is flattened while the store stands still: the requests are counted when it is back."""
    for point in turn.points:
        turn.arm(point)
        turn.rig.feed(1)
        turn.rig.run.run("flatten", "--reason", "chaos", "--yes", command="pilot", timeout_s=SETTLE_S)
        turn.rig.freeze("store.1", SILENT_S)
        turn.wait(point, seconds=2 * SILENT_S)
        turn.rig.run.run("resume", "--reason", "chaos", "--yes", command="pilot", timeout_s=SETTLE_S)


def _again(turn: Turn, command: str, *arguments: str) -> None:
    for _ in range(TRIES_MAX):
        before = len(turn.left())
        turn.rig.run.run(*arguments, command=command, timeout_s=SETTLE_S)
        if len(turn.left()) == before:
            return


def iterate(names: set[str]) -> Iterator[Workload]:
    """Yield the workloads that lead to any of these points, with only these."""
    for one in ALL:
        if kept := tuple(point for point in one.points if point in names):
            yield Workload(**(vars(one) | {"points": kept}))


PATIENT: Changes = {"supervisor": {"watchdog_s": 30.0}}
SMALL_FILES: Changes = {"paper": {"file_bytes_max": 4_096, "file_parts_kept": 100}}
TRADER: Changes = {"broker": {"paper_api": "trader"}}
CANDLES: Changes = {"scanner": {"sources": ["broker"], "bar_age_bars_max": 20_000}}
ADOPTING: Changes = {"executor": {"orphans": "adopt"}}
RISKY: Changes = {"executor": {"risk_per_trade_ratio": 0.005}}


def crashing(*points: str) -> Workload:
    return Workload(points, crash, begins=False, is_strict=True, changes=RISKY)


def without_monitor(*points: str) -> Workload:
    return Workload(points, day_begun_by_the_executor, begins=False, wanted=5)


ALL: tuple[Workload, ...] = (
    Workload(both("store.create", "store.migrate", "supervisor.ready"), first_start, begins=False),
    Workload(("monitor.after_start_day",), first_start, begins=False),
    # What was renamed is trained: the last point of it needs a training of its own.
    Workload(("model.before_save", *both("model.replace", "model.switch")), training, begins=False, is_cold=True),
    Workload(("model.after_save", *told("monitor.start_day", "after_ack")), training, begins=False, is_cold=True),
    Workload(told("scanner.grant_requests"), ranks_candles, begins=False, changes=CANDLES),
    Workload(told("scanner.return_requests"), ranks_candles, begins=False, changes=CANDLES),
    Workload(both("scan.append_bars", "scan.replace_bars"), ranks_candles, begins=False, changes=CANDLES),
    Workload(both("scan.cut_bars", "scan.quarantine"), ranks_candles, begins=False, changes=CANDLES),
    Workload(both("store.end", "store.checkpoint"), ordered_stop),
    Workload(both("scanner.kill"), stop_during_a_scan),
    Workload(both("paper.repair"), half_a_line),
    Workload(both("paper.rotate", "paper.put_aside", "paper.take_place"), full_files, changes=SMALL_FILES),
    Workload(both("store.triggers"), older_triggers),
    Workload(both("supervisor.spawn_spare", "supervisor.hand_over"), spares, arguments=("--spares",)),
    crashing("monitor.before_close", "monitor.before_raise_halt", "monitor.before_send_raise_halt",
             "monitor.before_send_report"),
    crashing("monitor.after_close", "monitor.after_send_raise_halt", "monitor.after_send_report"),
    crashing("monitor.after_ack_raise_halt", "monitor.after_ack_report"),
    crashing("monitor.after_raise_halt"),
    without_monitor(*told("executor.start_day", "before_send", "after_send")),
    without_monitor(*told("executor.start_day", "after_ack")),
    *(Workload((point,), marks_told_by_the_executor, begins=False, wanted=5) for point in told("executor.raise_marks")),
    Workload(told("executor.raise_halt", "before_send", "after_send"), overfilled),
    Workload(told("executor.raise_halt", "after_ack"), overfilled),
    Workload(told("executor.report", "before_send"), overfilled),
    Workload(told("executor.report", "after_send"), overfilled),
    Workload(told("executor.report", "after_ack"), overfilled),
    Workload((*both("executor.repeat"), "paper.before_keyed_answer"), repeated, changes=TRADER),
    Workload(both("monitor.cancel"), waiting_order),
    Workload((*both("monitor.adopt"), *told("monitor.adopt")), adopted, changes=ADOPTING),
    Workload(both("executor.take_withdraw"), settled_by_the_operator),
    Workload(both("llm.request"), asked_model, needs_model=True, changes=CHAT),
    Workload(told("llm.reserve_tokens"), asked_model, needs_model=True, changes=CHAT),
    Workload(told("llm.settle_tokens"), asked_model, needs_model=True, changes=CHAT),
    Workload(told("llm.report"), failing_model, needs_model=True, changes=FRAGILE),
    Workload(both("llm.record"), asked_model, needs_model=True, changes=CHAT),
    Workload(both("llm.repair_recording"), half_a_record, needs_model=True, changes=CHAT),
    Workload(both("llm.rotate_recording"), full_recording, needs_model=True, changes=CHAT),
    Workload(told("llm.analysis_failed"), silent_model, needs_model=True, changes=CHAT),
    Workload(both("llm.spawn", "llm.kill"), foreign_analyses, needs_bridge=True, changes=FOREIGN),
    Workload(both("llm.take_withdraw", "store.send_withdraw"), withdrawn, needs_model=True, changes=CHAT),
    Workload(told("llm.release"), stopped_while_analysing, needs_model=True, changes=CHAT),
    # Without an intent the executor begins no day: the monitor does.
    Workload((*told("scanner.report"), "monitor.before_start_day",
              *told("monitor.start_day", "before_send", "after_send")), old_bars, begins=False, scans=False,
             changes={"scanner": {"bar_age_days_max": 1}}),
    Workload(told("executor.return_requests"), ordered_stop),
    Workload(told("monitor.return_requests"), ordered_stop),
    Workload(told("monitor.count_requests"), without_the_store, changes=PATIENT),
    Workload(tuple(point for name in ("pause", "flatten", "resume", "attest", "declare_day")
                   for point in told(f"pilot.{name}")), brake),
    Workload((*told("pilot.submit"), *told("pilot.close")), trade_by_hand),
    Workload((*told("pilot.cancel"), *told("pilot.resolve"), *both("pilot.take_ack")), command_lines),
)  # fmt: skip
