"""The writer without sockets, and its SQL without the writer: what `tests.bench.life --raw` measures. One process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import apsw
import msgspec
from loguru import logger

from bus import codec, messages
from bus.clock import Clock
from bus.messages import Analyse, Command, Envelope, Execute
from bus.vocabulary import Role
from config.settings import Bus, Store
from store import connection, decisions
from store.writer import Writer
from tests.bench.life_actors import CAPACITY
from tests.kit import builders, gate


class RawFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Intents a second: through the writer, and through SQLite alone with the statements that the writer made."""

    intents: int
    per_s: float
    cpu_ms_each: float
    sql_per_s: float
    sql_cpu_ms_each: float
    statements_each: float


class Raw:
    """A writer over a file, and the four peers whose messages it is given as frames."""

    def __init__(self, path: Path, clock: Clock, block: int) -> None:
        self.db = connection.open_writer(path)
        self._clock = clock
        self._block = block
        self.peers = {role: builders.a_peer(role) for role in (Role.SCANNER, Role.LLM, Role.EXECUTOR, Role.MONITOR)}
        self.writer = Writer(
            self.db, Store(batch_max=block), Bus(dead_s=600.0), gate.an_open_gate(), now=clock.now(),
            now_s=clock.monotonic(),
        )  # fmt: skip
        for peer in self.peers.values():
            beat = builders.a_beat(capacity=CAPACITY, seen_store_epoch=self.writer.epoch)
            self.writer.step([Envelope(sender=peer, body=beat)], clock.now(), clock.monotonic())

    def tell(self, role: Role, commands: Iterable[Command]) -> list[messages.FromStore]:
        """Decode and apply one batch, and encode the answers."""
        frames = [codec.encode(builders.an_envelope(self.peers[role], one)) for one in commands]
        batch = [codec.decode_to_store(frame) for frame in frames]
        sends = self.writer.step(batch, self._clock.now(), self._clock.monotonic())
        for _, message in sends:
            codec.encode(message)
        return [message for _, message in sends]

    def block(self, number: int) -> None:
        """Take one block of intents through the whole life."""
        names = [f"bar-{number}-{one}" for one in range(self._block)]
        found = self.tell(Role.SCANNER, (builders.a_propose(bar_time=name) for name in names))
        claims = [one for one in found if isinstance(one, Analyse)]
        found = self.tell(
            Role.LLM,
            (
                messages.Decide(intent_id=one.intent.id, epoch=one.epoch, side="BUY", sl_pips=50.0, tp_pips=100.0)
                for one in claims
            ),
        )
        taken = [one for one in found if isinstance(one, Execute)]
        assert len(taken) == self._block, f"{len(taken)} of {self._block} were taken"
        self.tell(Role.EXECUTOR, (builders.a_reservation(one.intent, certificate=None) for one in taken))
        positions = {one.intent.id: f"p-{one.intent.id}" for one in taken}
        self.tell(
            Role.EXECUTOR,
            (
                messages.OrderOpened(
                    intent_id=one.intent.id, epoch=one.epoch, order_id=one.intent.id,
                    position_id=positions[one.intent.id], execution_meta="{}",
                )
                for one in taken
            ),
        )  # fmt: skip
        self.tell(
            Role.MONITOR,
            (
                messages.PositionClosed(intent_id=id_, position_id=position, result=builders.a_result())
                for id_, position in positions.items()
            ),
        )


def run(intents: int, block: int, clock: Clock) -> RawFigures:
    """Measure the writer, then the SQL that it made, each over a fresh file."""
    logger.remove()
    connection.configure_sqlite()
    blocks = max(1, intents // block)
    decisions.ORDERS_AT_ONCE = CAPACITY
    with tempfile.TemporaryDirectory(prefix="plr", dir="/tmp") as folder:
        wall, cpu = _writer(Path(folder) / "writer.db", clock, block, blocks)
        made = _recorded(Path(folder) / "recorded.db", clock, block, blocks)
        sql_wall, sql_cpu = _again(Path(folder) / "again.db", made)
    count = blocks * block
    return RawFigures(
        intents=count,
        per_s=round(count / wall, 1),
        cpu_ms_each=round(1_000 * cpu / count, 4),
        sql_per_s=round(count / sql_wall, 1),
        sql_cpu_ms_each=round(1_000 * sql_cpu / count, 4),
        statements_each=round(len(made) / count, 1),
    )


def _writer(path: Path, clock: Clock, block: int, blocks: int) -> tuple[float, float]:
    raw = Raw(path, clock, block)
    begun, cpu = time.perf_counter(), time.process_time()
    for number in range(blocks):
        raw.block(number)
    return time.perf_counter() - begun, time.process_time() - cpu


def _recorded(path: Path, clock: Clock, block: int, blocks: int) -> list[tuple[str, Any]]:
    """Return every statement of a run with its values."""
    made: list[tuple[str, Any]] = []
    raw = Raw(path, clock, block)

    def trace(_: apsw.Cursor, sql: str, values: Any) -> bool:
        made.append((sql, values))
        return True

    raw.db.exec_trace = trace
    for number in range(blocks):
        raw.block(number)
    return made


def _again(path: Path, made: list[tuple[str, Any]]) -> tuple[float, float]:
    db = connection.open_writer(path)
    begun, cpu = time.perf_counter(), time.process_time()
    for sql, values in made:
        db.execute(sql, values).fetchall()
    return time.perf_counter() - begun, time.process_time() - cpu
