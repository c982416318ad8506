"""The gate before every licence: the guard's figures worked out again, from the store's own rows and the rule file.

Part of the store process; run inside the transaction of a reservation. Shares no code with the guard and imports
nothing of it, so that no error is made twice. Never repairs a figure: whatever does not add up refuses and halts.
Sources of the arithmetic: docs/compliance.md, "Floors" and "The worst case".
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import ROUND_CEILING, Decimal

from msgspec import Struct

from bus import clock
from bus.messages import ReserveOrder
from bus.records import AccountDay, AccountMark, Certificate, Loss, LossLine
from config import load
from config.dollars import amount
from config.settings import Settings
from store import owner as owners
from store import rules as rule_numbers
from store.decisions import Refused
from store.owner import Owner
from store.queries import Reader
from store.rules import Rules

FIGURES_AGE_S_MAX = 20.0
HALT_KEY = "certificate"
READ_AGAIN = ("reserve", "release")  # with figures that are new


class Line(Struct, frozen=True):
    """One loss limit as the store works it out."""

    name: str
    reference_cents: int
    amount_cents: Decimal
    measured_on: rule_numbers.MeasuredOn
    stop_ratio: Decimal
    rises: bool  # its reference may still rise: of the next day, or of what trails

    @property
    def stop_cents(self) -> int:
        """Return the reference less the part of the amount that may be used, rounded up to the cent."""
        return _up(Decimal(self.reference_cents) - self.stop_ratio * self.amount_cents)


class Gate:
    """Decides whether a reservation's certificate holds. One per store; the rules are those of its start."""

    def __init__(self, rules: Rules, *, owner: Owner, needs_attestation: bool, source: str = "") -> None:
        self.rules = rules
        self.owner = owner
        self.account_id = owner.account_id
        self._needs_attestation = needs_attestation
        self._source = source

    @classmethod
    def load(cls, settings: Settings) -> Gate:
        """Return the gate of these settings. Raises ConfigError when the rule set cannot be read."""
        name = settings.compliance.rules
        broker = settings.broker
        needs_attestation = broker.is_live
        found = rule_numbers.read(name)
        return cls(found, owner=owners.of_settings(broker), needs_attestation=needs_attestation, source=name)

    def check(self, asked: ReserveOrder, read: Reader, now: datetime) -> None:
        """Return when the order may be sent for all that the certificate says.

        Raises:
            Refused: without `halt` when nobody attested the rules, or when anything happened since the figures were
                read, or they are too old: the account is to be read again. With `halt` when the figures do not add up.
        """
        if why := read.foreign_to(self.owner):  # whatever the figures say, they are not of what is written here
            raise Refused(why, ("release",), halt=f"{HALT_KEY}: {why}")
        found = asked.certificate
        if found is None:
            raise Refused("no certificate: the guard's figures must come with the order", ("release",))
        self._refuse_without_attestation(read)
        self._refuse_edited_rules()
        self._refuse_old(found, read, now)
        if wrong := next(self._faults(asked, found, read), None):
            raise Refused(f"the certificate does not hold: {wrong}", ("release",), halt=f"{HALT_KEY}: {wrong}")

    # ── what may be tried again ─────────────────────────────────────────────

    def _refuse_without_attestation(self, read: Reader) -> None:
        if self._needs_attestation and read.attestation(self.account_id, self.rules.fingerprint) is None:
            what = f"account {self.account_id} under rules {self.rules.name} {self.rules.fingerprint[:12]}"
            raise Refused(f"nobody attested {what}: run `pilot attest` once all is compared", ("release",))

    def _refuse_edited_rules(self) -> None:
        """Refuse and halt when the rule set was edited since the store started: nobody knows which one holds."""
        if not self._source:
            return
        try:
            if load.rules_file(self._source).fingerprint == self.rules.fingerprint:
                return  # the same bytes are the same rules; a TOML parser would take longer than all other checks
            load.rules_file(self._source)  # says so when it is no rule set any more
        except load.ConfigError as error:
            raise Refused(f"the rule set cannot be read any more: {error}", halt=f"rules: {error}") from error
        text = f"{self.rules.name} was edited while running; stop the pipeline, look at it and start again"
        raise Refused(text, ("release",), halt=f"rules: {text}")

    def _refuse_old(self, found: Certificate, read: Reader, now: datetime) -> None:
        """Refuse figures that something may have overtaken."""
        version = read.account_version()
        if found.account_version != version:
            seen = f"the account is at version {version}, the figures were read at {found.account_version}"
            raise Refused(f"{seen}: read the account again", READ_AGAIN)
        try:
            read_at = clock.parse(found.read_at)
        except ValueError as error:
            raise Refused(f"read_at of the certificate: {error}", ("release",)) from error
        age_s = (now - read_at).total_seconds()
        if not 0 <= age_s <= FIGURES_AGE_S_MAX:
            allowed = f"allowed: 0 to {FIGURES_AGE_S_MAX:g}"
            raise Refused(f"the figures are {age_s:.1f} s old; {allowed}: read the account again", READ_AGAIN)
        if any(one.day_of(now) != one.day_of(read_at) for one in self.rules.readings):
            raise Refused("the firm's day turned since the figures were read: read the account again", READ_AGAIN)

    # ── what must add up ────────────────────────────────────────────────────

    def _faults(self, asked: ReserveOrder, found: Certificate, read: Reader) -> Iterator[str]:
        """Yield what does not add up, as sentences: what was found, and what it should be."""
        wanted = (self.rules.name, self.rules.fingerprint, self.account_id)
        if (found.rules, found.rules_hash, found.account_id) != wanted:
            yield (
                f"it is for account {found.account_id} under {found.rules} {found.rules_hash[:12]}; "
                f"the store holds account {self.account_id} under {self.rules.name} {self.rules.fingerprint[:12]}"
            )
            return
        if found.order_loss_cents != asked.plan.loss_cents or found.order_loss_cents <= 0:
            planned = amount(asked.plan.loss_cents)
            yield f"the order's loss is {amount(found.order_loss_cents)}, that of its plan {planned}"
        yield from _unaccounted(found, read)
        lines = self.lines(read, clock.parse(found.read_at), found.balance_cents, found.equity_cents)
        if isinstance(lines, str):
            yield lines
            return
        if (got := [line.name for line in found.lines]) != (names := [line.name for line in lines]):
            yield f"the limits are {', '.join(got) or 'none'}; they must be {', '.join(names)}"
            return
        for line, said in zip(lines, found.lines, strict=True):
            yield from _line_faults(line, said, found)

    def lines(
        self, read: Reader, at: datetime, balance_cents: int, equity_cents: int
    ) -> tuple[Line, ...] | str:  # fmt: skip
        """Return every loss limit that counts at a moment, or why it cannot be said. From the store's own rows."""
        rules = self.rules
        found: list[Line] = []
        if rules.daily.kind != "none":
            for reading in rules.readings:
                day = read.account_day_at(self.account_id, reading.label, clock.iso(at))
                if day is None:
                    return f"the store does not know what the day of {reading.label} at {clock.iso(at)} started with"
                found.append(self._daily(f"daily {reading.label}", day.reference_cents))
            is_higher = rules.daily.reference == "higher_of_balance_and_equity"
            found.append(self._daily("next_day", max(balance_cents, equity_cents) if is_higher else balance_cents))
        initial_cents = rules.account.initial_balance_cents
        if (kind := rules.maximum.mark) is None:
            return (*found, self._maximum("maximum", initial_cents))
        mark = read.account_mark(self.account_id, kind)
        if mark is None:
            return f"the store knows no mark of {kind}, which the maximum loss trails"
        now_cents = {"closed_balance": balance_cents, "equity": equity_cents}.get(kind, 0)
        found.append(self._maximum("maximum", max(mark.value_cents, now_cents)))
        if kind == "day_end_balance":
            found.append(self._maximum("next_maximum", max(mark.value_cents, balance_cents)))
        return tuple(found)

    def _daily(self, name: str, reference_cents: int) -> Line:
        daily = self.rules.daily
        base_cents = reference_cents if daily.base == "reference" else self.rules.account.initial_balance_cents
        amount_cents = daily.ratio * base_cents
        is_next = name == "next_day"
        return Line(name, reference_cents, amount_cents, daily.measured_on, self.rules.safety.stop_ratio, is_next)

    def _maximum(self, name: str, highest_cents: int) -> Line:
        maximum, initial_cents = self.rules.maximum, self.rules.account.initial_balance_cents
        amount_cents = maximum.ratio * initial_cents
        highest_cents = max(highest_cents, initial_cents)  # the account was worth that once
        if maximum.lock_at == "initial" and maximum.mark is not None:
            highest_cents = min(highest_cents, _up(initial_cents + amount_cents))
        trails = maximum.mark is not None
        return Line(name, highest_cents, amount_cents, maximum.measured_on, self.rules.safety.stop_ratio, trails)

    # ── what is written of the account ──────────────────────────────────────

    def implausible_day(self, day: AccountDay, now: datetime) -> str:
        """Return why this cannot be the start of one of the account's days, or "" when it can."""
        reading = self.rules.reading(day.reset)
        if reading is None:
            known = " or ".join(one.label for one in self.rules.readings)
            return f"its reset was {day.reset!r}; allowed: {known}"
        try:
            starts_at, ends_at = (clock.parse(text) for text in (day.starts_at, day.ends_at))
            right = reading.span_of(day.day)
        except ValueError as error:
            return f"day {day.day}, {day.starts_at} to {day.ends_at}: {error}"
        if (clock.iso(starts_at), clock.iso(ends_at)) != (day.starts_at, day.ends_at):
            return f"times must be written as {clock.iso(starts_at)}; found {day.starts_at} and {day.ends_at}"
        if (starts_at, ends_at) != right:
            lasts = " to ".join(clock.iso(moment) for moment in right)
            return f"day {day.day} of {day.reset} was {day.starts_at} to {day.ends_at}; it lasts from {lasts}"
        if starts_at > now:
            return f"day {day.day} of {day.reset} begins at {day.starts_at}; now is {clock.iso(now)}"
        return self._implausible_money(day)

    def _implausible_money(self, day: AccountDay) -> str:
        initial_cents = self.rules.account.initial_balance_cents
        if day.account_id != self.account_id:
            return f"it is of account {day.account_id}; the store's is {self.account_id}"
        if day.initial_balance_cents != initial_cents:
            return f"the initial balance was {amount(day.initial_balance_cents)}; the rules say {amount(initial_cents)}"
        if not 0 < day.start_balance_cents <= day.reference_cents:
            started = amount(day.start_balance_cents)
            return f"start {started}, reference {amount(day.reference_cents)}; 0 < start <= reference"
        return ""

    def implausible_mark(self, mark: AccountMark, now: datetime) -> str:
        """Return why this cannot be a mark of the account, or "" when it can. A mark never falls again: no mistakes."""
        highest_cents = 10 * self.rules.account.initial_balance_cents
        if mark.account_id != self.account_id:
            return f"it is of account {mark.account_id}; the store's is {self.account_id}"
        if not 0 < mark.value_cents <= highest_cents:
            return (
                f"the mark was {mark.value_cents} cents; allowed: 1 to {highest_cents}, ten times the initial balance"
            )
        try:
            at, known_until = clock.parse(mark.at), clock.parse(mark.known_until)
        except ValueError as error:
            return f"times of the mark: {error}"
        if (clock.iso(at), clock.iso(known_until)) != (mark.at, mark.known_until):
            return f"times must be written as {clock.iso(at)}; found {mark.at} and {mark.known_until}"
        if not at <= known_until <= now:
            return f"reached {mark.at}, known until {mark.known_until}; allowed up to now, {clock.iso(now)}"
        return ""


def worst_cents(found: Certificate, line: Line) -> tuple[int, int]:
    """Return what is measured now, and the lowest it can become with the order of this certificate."""
    is_lower = line.measured_on == "lower_of_balance_and_equity"
    measured = min(found.balance_cents, found.equity_cents) if is_lower else found.equity_cents
    # A profit that a stop locks in does not help where the balance counts, too (losers may be stopped first), nor
    # where it takes the reference along.
    no_help = is_lower or line.rises
    stopped = sum(max(loss.loss_cents, 0) if no_help else loss.loss_cents for loss in found.positions)
    coming = found.order_loss_cents + _sum_of_losses(found.unresolved) + _sum_of_losses(found.pending)
    return measured, min(found.balance_cents - stopped, measured) - coming


def _line_faults(line: Line, said: LossLine, found: Certificate) -> Iterator[str]:
    measured, worst = worst_cents(found, line)
    if said.measured_on != line.measured_on:
        yield f"{line.name}: measured on was {said.measured_on}; it is {line.measured_on}"
    pairs = (
        ("reference", said.reference_cents, line.reference_cents),
        ("amount", said.amount_cents, line.amount_cents),
        ("stop level", said.stop_cents, line.stop_cents),
        ("measured", said.measured_cents, measured),
        ("worst case", said.worst_cents, worst),
    )
    for what, was, right in pairs:
        if was != right:
            yield f"{line.name}: {what} was {_money(was)}; it is {_money(right)}"
    if worst <= line.stop_cents:
        yield f"{line.name}: the worst case is {amount(worst)}; it must stay above {amount(line.stop_cents)}"


def _money(cents: Decimal | int) -> str:
    """Return an amount; what is no whole number of cents as it is."""
    return amount(int(cents)) if cents == int(cents) else f"{cents} cents"


def _unaccounted(found: Certificate, read: Reader) -> Iterator[str]:
    """Yield what stands twice, what the store does not know, and which open intents are nowhere in the figures."""
    groups = (found.positions, found.pending, found.unresolved)
    for losses in groups:
        if len({loss.id for loss in losses}) != len(losses):
            yield f"one id stands twice: {', '.join(loss.id for loss in losses)}"
    opened = {str(intent.position_id): intent.id for intent in read.active_positions()}
    unresolved = {order.intent_id: order.plan.loss_cents for order in read.unresolved_orders()}
    shown, closed = {loss.id for loss in found.positions}, set(found.closed)
    if len(closed) != len(found.closed) or closed & shown:
        yield f"open and closed at once, or twice: {', '.join(found.closed)}"
    if strange := closed - opened.keys():
        yield f"closed positions that no open intent has: {', '.join(sorted(strange))}"
    may_be = set(unresolved) | {opened[position] for position in opened.keys() - shown - closed}
    said = {loss.id: loss.loss_cents for loss in found.unresolved}
    if said.keys() != may_be:
        yield (
            f"unresolved were {', '.join(sorted(said)) or 'none'}; "
            f"neither open nor closed are {', '.join(sorted(may_be)) or 'none'}"
        )
    for intent_id in sorted(said.keys() & may_be):
        order = read.order(intent_id)
        planned = order.plan.loss_cents if order else 0
        if said[intent_id] < planned:
            told = amount(said[intent_id])
            yield f"the order of intent {intent_id} can lose {amount(planned)}; the figures say {told}"


def _sum_of_losses(losses: tuple[Loss, ...]) -> int:
    return sum(max(loss.loss_cents, 0) for loss in losses)


def _up(cents: Decimal) -> int:
    return int(cents.to_integral_value(ROUND_CEILING))
