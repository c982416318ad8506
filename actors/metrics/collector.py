"""What Prometheus reads: every metric of docs/metrics.md, made from the read-only database at each scrape.

Library of the dashboard process. Writes nothing, asks no broker. Labels are our own words, or names from settings and
rules, never text from a row: the number of series does not depend on how many intents there were or what they hold.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from actors.compliance.rulebook import RuleSet
from actors.metrics import account, health, latencies
from actors.metrics.latencies import Latencies
from bus import tallies
from bus.clock import Clock, iso, parse
from bus.vocabulary import OrderStatus, Role, Status
from config.settings import Settings
from store import backup, gauges
from store.gauges import LEVELS, Gauges
from store.queries import DatabaseRefused

WATCHED = (Role.SCANNER, Role.LLM, Role.EXECUTOR, Role.MONITOR, Role.DASHBOARD, Role.PAPER)
KEPT_S = 1.0  # how long an answer serves further scrapes


class Metrics(Collector):
    """The collector. May be scraped from several threads; one of them reads, the others get the same."""

    def __init__(
        self, settings: Settings, rules: RuleSet, clock: Clock, *, db_path: Path, backups: Path
    ) -> None:  # fmt: skip
        self._settings = settings
        self._rules = rules
        self._clock = clock
        self._db_path = db_path
        self._backups = backups
        self._latencies = Latencies()
        self._lock = threading.Lock()
        self._kept: tuple[float, list[Metric]] | None = None

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not read the database."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return all metrics as they are now, at most `KEPT_S` old."""
        with self._lock:
            now_s = self._clock.monotonic()
            if self._kept is None or not 0 <= now_s - self._kept[0] < KEPT_S:
                self._kept = (now_s, list(self._all()))
            return self._kept[1]

    def _all(self) -> Iterator[Metric]:
        now = self._clock.now()
        info = GaugeMetricFamily("pilot_info", "Profile and rule set in use; always 1.", labels=["profile", "rules"])
        info.add_metric([self._settings.profile, self._rules.name], 1)
        yield info
        yield from self._files(now)
        found: list[Metric] = []
        try:
            with gauges.opened(self._db_path) as opened:
                found += self._intents(opened, now)
                found += self._processes(opened, now)
                found += self._measured(opened)
                found += self._stops(opened, now)
                found += account.metrics(opened.read, self._settings, self._rules, now)
                found += self._journal(opened)
        except DatabaseRefused:
            found = []
        yield GaugeMetricFamily("pilot_database_readable", "Whether the database could be read.", value=bool(found))
        yield from found

    # ── intents and orders ──────────────────────────────────────────────────

    def _intents(self, found: Gauges, now: datetime) -> Iterator[Metric]:
        counts, oldest = found.read.status_counts(), found.oldest()
        by_status = GaugeMetricFamily("pilot_intents", "Intents kept, by status.", labels=["status"])
        for status in Status:
            by_status.add_metric([str(status)], counts.get(status, 0))
        yield by_status
        ages = GaugeMetricFamily(
            "pilot_oldest_intent_age_seconds", "How long the oldest intent of a status waits in it.", labels=["status"]
        )
        for waiting in (Status.PENDING, Status.CLAIMED, Status.READY_FOR_EXEC, Status.EXECUTING):
            ages.add_metric([str(waiting)], _age_s(oldest.get(waiting), now))
        yield ages

    def _stops(self, found: Gauges, now: datetime) -> Iterator[Metric]:
        orders = GaugeMetricFamily("pilot_unresolved_orders", "Orders whose outcome is open.", labels=["status"])
        unresolved = found.read.unresolved_orders()
        for status in (OrderStatus.RESERVED, OrderStatus.UNKNOWN):
            orders.add_metric([str(status)], sum(1 for order in unresolved if order.status == status))
        yield orders
        yield GaugeMetricFamily(
            "pilot_oldest_unresolved_order_age_seconds",
            "How long the oldest order of open outcome is reserved.",
            value=_age_s(min((order.reserved_at for order in unresolved), default=None), now),
        )
        halts = found.read.halts(iso(now))
        standing = GaugeMetricFamily("pilot_halts", "Halts that stand.", labels=["kind", "flatten"])
        for kind in ("soft", "hard"):
            for flatten in (False, True):
                count = sum(1 for halt in halts if (halt.kind, halt.flatten) == (kind, flatten))
                standing.add_metric([kind, str(flatten).lower()], count)
        yield standing
        alerts = CounterMetricFamily("pilot_alerts", "Alerts put into the outbox.", labels=["level"])
        counts = found.alert_counts()
        for level in LEVELS:
            alerts.add_metric([level], counts.get(level, 0))
        yield alerts

    # ── processes ───────────────────────────────────────────────────────────

    def _processes(self, found: Gauges, now: datetime) -> Iterator[Metric]:
        dead_s, started_at = self._settings.bus.dead_s, found.store_started_at()
        here = GaugeMetricFamily("pilot_processes", "Processes by role: beating, or missing.", labels=["role", "state"])
        slots = GaugeMetricFamily("pilot_slots", "Leases that the beating processes can hold.", labels=["role"])
        held = GaugeMetricFamily("pilot_leases", "Leases that the beating processes hold.", labels=["role"])
        silence = GaugeMetricFamily(
            "pilot_beat_age_seconds", "The longest silence of a process that should be there.", labels=["role"]
        )
        workers = [worker for worker in found.read.workers() if health.is_expected(worker, started_at)]
        for role in WATCHED:
            mine = [worker for worker in workers if worker.role == role]
            beating = [worker for worker in mine if health.silent_s(worker.last_beat_at, now) <= dead_s]
            here.add_metric([str(role), "beating"], len(beating))
            here.add_metric([str(role), "missing"], len(mine) - len(beating))
            if role in (Role.LLM, Role.EXECUTOR):
                slots.add_metric([str(role)], sum(worker.capacity for worker in beating))
                held.add_metric([str(role)], sum(worker.holding for worker in beating))
            ages = [health.silent_s(worker.last_beat_at, now) for worker in mine]
            silence.add_metric([str(role)], max(ages, default=0.0))
        yield from (here, slots, held, silence)
        ends = CounterMetricFamily(
            "pilot_process_exits", "Ends of processes that a supervisor saw.", labels=["role", "how"]
        )
        exits = found.exits()
        for role in WATCHED:
            clean, failed = exits.get(str(role), (0, 0))
            ends.add_metric([str(role), "clean"], clean)
            ends.add_metric([str(role), "failed"], failed)
        yield ends
        yield CounterMetricFamily("pilot_store_starts", "Lives of the store.", value=found.read.store_epoch())
        yield GaugeMetricFamily(
            "pilot_store_silence_seconds",
            "How long ago the store wrote last; it writes every second.",
            value=_finite(health.silent_s(found.store_wrote_at(), now)),
        )

    def _measured(self, found: Gauges) -> Iterator[Metric]:
        broker = HistogramMetricFamily(
            "pilot_broker_request_seconds", "Requests to the broker.", labels=["role", "kind", "outcome"]
        )
        models = HistogramMetricFamily(
            "pilot_llm_request_seconds", "Requests to endpoints of language models.", labels=["outcome"]
        )
        commits = HistogramMetricFamily("pilot_store_commit_seconds", "Commits of the store, until they are on disk.")
        refused = CounterMetricFamily(
            "pilot_hosts_refused", "What the store refused of other hosts, see docs/hosts.md.", labels=["what"]
        )
        for total in found.totals():
            buckets = _buckets(tallies.BOUNDS_S[total.name], total.counts)
            kind, _, outcome = total.name.partition("_")
            if kind == "broker":
                what, _, outcome = outcome.partition("_")
                broker.add_metric([total.role, what, outcome], buckets, total.sum_us / 1_000_000)
            elif kind == "llm" and total.role == Role.LLM:
                models.add_metric([outcome], buckets, total.sum_us / 1_000_000)
            elif kind == "store" and total.role == Role.STORE:
                commits.add_metric([], buckets, total.sum_us / 1_000_000)
            elif kind == "host" and total.role == Role.STORE:
                refused.add_metric([outcome], sum(total.counts))
        yield from (broker, models, commits, refused)

    def _journal(self, found: Gauges) -> Iterator[Metric]:
        """Yield nothing until the whole journal was counted: half of it would look like a counter that was reset."""
        if not self._latencies.follow(found):
            return
        arrows = CounterMetricFamily("pilot_transitions", "Arrows of intents in the journal.", labels=["event"])
        for event in gauges.EVENTS:
            arrows.add_metric([event], self._latencies.arrows.get(event, 0))
        yield arrows
        seconds = HistogramMetricFamily(
            "pilot_status_seconds", "How long intents stay in a status before the next one.", labels=["status", "next"]
        )
        for (before, after), counts in sorted(self._latencies.seconds.items()):
            seconds.add_metric(
                [before, after], _buckets(latencies.BOUNDS_S, counts), self._latencies.sums_s[before, after]
            )
        yield seconds

    # ── files ───────────────────────────────────────────────────────────────

    def _files(self, now: datetime) -> Iterator[Metric]:
        sizes = GaugeMetricFamily("pilot_database_bytes", "Size of the database and of its log.", labels=["file"])
        for file, path in (("main", self._db_path), ("wal", self._db_path.with_name(self._db_path.name + "-wal"))):
            sizes.add_metric([file], _bytes(path))
        yield sizes
        yield GaugeMetricFamily("pilot_backups", "Backups kept.", value=len(backup.found(self._backups)))
        cadence_s = self._settings.monitor.backup_interval_s
        yield GaugeMetricFamily("pilot_backup_interval_seconds", "How often a backup is made.", value=cadence_s)
        if (age_s := backup.age_s(self._backups, now)) is not None:
            yield GaugeMetricFamily("pilot_backup_age_seconds", "Age of the newest backup.", value=age_s)


def _age_s(at: str | None, now: datetime) -> float:
    """Return how long ago a time was; 0 for none and for one that lies ahead."""
    return 0.0 if at is None else max(0.0, (now - parse(at)).total_seconds())


def _finite(seconds: float) -> float:
    return seconds if seconds != float("inf") else float("nan")


def _buckets(bounds_s: Iterable[float], counts: Iterable[int]) -> list[tuple[str, float]]:
    """Return cumulative buckets by their upper bound, as Prometheus wants them."""
    found, total = [], 0
    for bound_s, count in zip((*bounds_s, float("inf")), counts, strict=True):
        total += count
        found.append(("+Inf" if bound_s == float("inf") else str(bound_s), float(total)))
    return found


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
