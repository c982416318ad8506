"""The adversary's plays, each out of a list of numbers.

A play is a rule set, an account with a past, a market, and steps: orders as large as the gate lets through, stops hit,
targets hit, prices, resets, unknown orders that appear or do not. At its end every finale is tried on a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from actors.compliance.guard import Check
from actors.compliance.rulebook import RuleSet
from actors.compliance.sizing import Unsized
from bus.records import OrderPlan
from tests.proof import firm as firm_module
from tests.proof.gate import Gate, Unknown
from tests.proof.world import CROSSES, MAJORS, PRICES, Held, Pair, Waiting, World

# Summer time has begun in New York and not in Athens: two readings of the reset are an hour apart.
MONDAY = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)
BETWEEN_RESETS = timedelta(hours=9, minutes=30)
HEAD, STEP, STEPS = 40, 8, 7
GENES = HEAD + STEP * STEPS
RISKS = tuple(Decimal(text) for text in ("0.05", "0.05", "0.03", "0.02", "0.01", "0.005"))
TRIES = 4


Score = Literal["floor", "stop"]  # what the adversary tries to come near to


class Genes:
    """Numbers in [0, 1) read one after the other; 0 when there are no more."""

    def __init__(self, values: Sequence[float]) -> None:
        self._values = values
        self._at = 0

    def unit(self) -> float:
        self._at += 1
        return self._values[self._at - 1] if self._at <= len(self._values) else 0.0

    def pick(self, count: int) -> int:
        return min(int(self.unit() * count), count - 1)

    def between(self, low: int, high: int) -> int:
        return low + self.pick(high - low + 1)

    def chance(self, share: float) -> bool:
        return self.unit() < share

    def seek(self, at: int) -> None:
        self._at = at


@dataclass
class Outcome:
    """How a play ended: the smallest margins as parts of their limits, and what happened."""

    margin: float
    stop_margin: float
    line: str
    broken: list[str]
    passed: int
    story: list[str] = field(default_factory=list)
    by_finale: dict[str, tuple[float, float]] = field(default_factory=dict)  # margin and stop margin of each

    def score(self, by: Score, finale: str | None = None) -> float:
        """Return how near the play came, in one finale or in the worst of all."""
        margin, stop_margin = self.by_finale.get(finale or "", (self.margin, self.stop_margin))
        return margin if by == "floor" else stop_margin


@dataclass(frozen=True)
class Options:
    """What the adversary may do. `drift` is the share of what the stop ratio covers; 0 leaves crosses out."""

    rules: tuple[RuleSet, ...]
    gap_pips: int | None = None
    drift: float = 0.0
    change: Callable[[Gate], None] | None = None  # takes a check away, or falsifies what the product sees
    sl_pips_max: int = 150
    unbounded: bool = False  # an open position may have no stop


def play(values: Sequence[float], options: Options) -> Outcome:
    """Return the outcome of one play: the worst of all its finales."""
    genes = Genes(values)
    rules = options.rules[genes.pick(len(options.rules))]
    gap_pips = (0, 1, 3, 5, 10, 30)[genes.pick(6)] if options.gap_pips is None else options.gap_pips
    world = _world(genes, rules, gap_pips, options)
    gate = Gate(rules=rules, gap_pips=gap_pips)
    if options.change:
        options.change(gate)
    passed = 0
    for step in range(STEPS):
        genes.seek(HEAD + step * STEP)
        passed += _step(genes, world, gate, options)
        world.now += timedelta(minutes=2)
        if world.balance <= 0:
            break
    return _worst(world, gate, passed)


def _world(genes: Genes, rules: RuleSet, gap_pips: int, options: Options) -> World:
    genes.seek(2)
    initial = rules.account.initial_balance_cents
    amount = int(initial * rules.maximum.ratio)
    balance = initial + int(amount * (genes.unit() * 1.6 - 0.8))
    # What the day is counted from: now, or before a good or a bad day.
    references = [balance + int(amount * _nought(genes.unit(), 0.5)) for _ in range(2)]
    if genes.chance(0.7):
        references[1] = references[0]
    mark = max(balance, initial) + (int(amount * genes.unit() * 0.6) if genes.chance(0.5) else 0)
    spread = (5, 10, 30, 80)[genes.pick(4)]
    symbols = MAJORS if options.drift == 0 else (*MAJORS, *CROSSES)
    pairs = {symbol: Pair(symbol, PRICES[symbol], spread) for symbol in symbols}
    ratio = float(rules.safety.stop_ratio)
    world = World(
        firm=firm_module.opened(rules, MONDAY, balance_cents=balance, references=references, mark_cents=mark),
        now=MONDAY, pairs=pairs, balance=balance, gap=gap_pips * 10,
        commission_per_lot=rules.costs.commission_per_lot_cents if genes.chance(0.8) else 0,
        swap_per_lot=rules.costs.swap_per_lot_cents if genes.chance(0.8) else 0,
        is_booked_at_open=genes.chance(0.5), is_stop_by_bid=genes.chance(0.5),
        drift=(1 - ratio) / ratio * options.drift,
    )  # fmt: skip
    world.firm.trades = genes.pick(16)
    world.firm.short = int(genes.unit() * (world.firm.trades + 1) * float(rules.hold.short_share_max))
    for _ in range(genes.pick(3)):  # positions that somebody opened before
        _carried(genes, world, options)
    if genes.chance(0.25):
        _waits(genes, world)
    world.story.append(
        f"{rules.name}: balance {world.balance}, references {references}, mark {mark}, "
        f"gap {gap_pips} pips, spread {spread} points"
    )
    return world


def _nought(unit: float, share: float) -> float:
    """Return 0 in half of the cases, else a number between -share and share."""
    return 0.0 if unit < 0.5 else (unit - 0.75) * 4 * share


def _carried(genes: Genes, world: World, options: Options) -> None:
    """Open a position without asking anybody: in profit, in loss, or with a profit locked in."""
    symbols = list(world.pairs)
    symbol = symbols[genes.pick(len(symbols))]
    side: Literal["BUY", "SELL"] = "BUY" if genes.chance(0.5) else "SELL"
    lots100 = genes.between(1, 500)
    pair = world.pairs[symbol]
    sign = 1 if side == "BUY" else -1
    held = world.open(symbol, side, lots100, None, None)
    room = pair.spread + world.gap + 20
    locked = genes.chance(0.4)
    held.open -= sign * (genes.between(room, 3_000) if locked else 0)
    base = held.open if locked else pair.bid - sign * pair.spread
    held.sl = None if options.unbounded else base - sign * (room if not locked else -10)
    if locked and held.sl is not None:
        held.sl = held.open + sign * max(10, (abs(pair.bid - held.open) - pair.spread - 10) * 9 // 10)
    held.tp = pair.bid + sign * (room + genes.between(50, 2_000))


def _waits(genes: Genes, world: World) -> None:
    """Leave an order at the broker that waits for its price."""
    symbols = list(world.pairs)
    symbol = symbols[genes.pick(len(symbols))]
    side: Literal["BUY", "SELL"] = "BUY" if genes.chance(0.5) else "SELL"
    pair, sign = world.pairs[symbol], 1 if side == "BUY" else -1
    away = genes.between(-500, 500)
    room = pair.spread + world.gap + 20
    world.waiting.append(
        Waiting(
            "W1", symbol, side, genes.between(1, 300), pair.bid + away, away > 0,
            pair.bid + away - sign * (room + genes.between(0, 500)),
            pair.bid + away + sign * (room + genes.between(50, 2_000)) if genes.chance(0.8) else None,
        )
    )  # fmt: skip


def _step(genes: Genes, world: World, gate: Gate, options: Options) -> int:
    """Let one thing happen; return how many orders passed."""
    kind = genes.pick(10)
    if kind <= 5:
        return _order(genes, world, gate, options)
    if kind == 6 and world.held:
        held = world.held[genes.pick(len(world.held))]
        _to_target(world, held, short=1 if genes.chance(0.5) else 0)
    elif kind == 7 and world.held:
        held = world.held[genes.pick(len(world.held))]
        slip = held.gap_left if genes.chance(0.7) else 0
        _to_stop(world, held, slip)
    elif kind == 8:
        _turn(genes, world)
    else:
        _settle(genes, world, gate)
    return 0


def _order(genes: Genes, world: World, gate: Gate, options: Options) -> int:
    """Ask for the largest order that passes; open it, known or not."""
    symbols = list(world.pairs)
    symbol = symbols[genes.pick(len(symbols))]
    side: Literal["BUY", "SELL"] = "BUY" if genes.chance(0.5) else "SELL"
    spread_pips = world.pairs[symbol].spread / 10
    sl_pips = round(spread_pips + 0.2 + genes.unit() ** 3 * options.sl_pips_max, 1)
    tp_pips = round(spread_pips + 0.2 + genes.unit() ** 3 * 300, 1)
    fate = genes.pick(4)
    slip = world.gap if genes.chance(0.3) else 0
    plan = _largest(world, gate, symbol, side, sl_pips=sl_pips, tp_pips=tp_pips, risk=RISKS[genes.pick(len(RISKS))])
    if plan is None:
        return 0
    world.firm.passed = True
    world.bases = {name: pair.bid for name, pair in world.pairs.items()}
    pair = world.pairs[symbol]
    world.story.append(
        f"passed {side} {plan.volume} {symbol} sl {plan.sl_price} tp {plan.tp_price} loss {plan.loss_cents}"
        f" ({('known', 'known', 'unknown and there', 'unknown and not there')[fate]})"
    )
    held: Held | None = None
    if fate != 3:
        held = world.open(
            symbol, side, int(plan.volume * 100), pair.points(plan.sl_price), pair.points(plan.tp_price) or None,
            slip=slip, shown=fate != 2,
        )  # fmt: skip
    if fate >= 2:
        gate.unknown.append(Unknown(plan, held))
    return 1


def _largest(
    world: World,
    gate: Gate,
    symbol: str,
    side: Literal["BUY", "SELL"],
    *,
    sl_pips: float,
    tp_pips: float,
    risk: Decimal,
) -> OrderPlan | None:
    """Return the largest order up to that risk which passes: what the refusals say leads right to the limit."""
    for _ in range(TRIES):
        plan = gate.plan(world, symbol, side, sl_pips=sl_pips, tp_pips=tp_pips, risk=risk)
        if isinstance(plan, Unsized):
            return None
        result = gate.ask(world, plan)
        if result.passed:
            return plan
        shares = [_share_left(plan, check) for check in result.checks if not check.passed]
        if min(shares) <= 0:
            return None
        risk *= min(shares) * Decimal("0.9999")
    return None


def _share_left(plan: OrderPlan, check: Check) -> Decimal:
    """Return which part of this order the check would let through; 0 when size is not what it refused."""
    if check.found in ("unbounded", "unknown"):
        return Decimal(0)
    if check.name.endswith("_drawdown"):
        return (Decimal(check.found) - Decimal(check.limit) + plan.loss_cents) / plan.loss_cents
    if check.name == "best_day" and plan.profit_cents > 0:
        return (Decimal(check.limit) - Decimal(check.found) + plan.profit_cents) / plan.profit_cents
    if check.name == "lots":
        return (Decimal(check.limit) - Decimal(check.found) + plan.volume) / plan.volume
    return Decimal("0.5") if check.name == "margin" else Decimal(0)


def _to_target(world: World, held: Held, short: int) -> None:
    bid = world.target_bid(held)
    if bid is not None:
        world.drive(held.symbol, bid - short if held.side == "BUY" else bid + short)


def _to_stop(world: World, held: Held, slip: int) -> None:
    bid = world.stop_bid(held)
    if bid is None:
        bid = world.pairs[held.symbol].bid * (9 if held.side == "BUY" else 11) // 10
    world.drive(held.symbol, bid, lambda hit: min(slip, hit.gap_left) if hit is held else hit.gap_left)


def _turn(genes: Genes, world: World) -> None:
    """Pass the reset: of one reading, or of both; swaps may be charged."""
    if genes.chance(0.3):
        world.charge_swap()
    midday = world.now.replace(hour=12, minute=0)
    between = midday + BETWEEN_RESETS
    if world.now < between and genes.chance(0.3):
        world.advance(between)
    elif midday < MONDAY + timedelta(days=2):
        world.advance(midday + timedelta(days=1))
    world.story.append(f"time {world.now}, balance {world.balance}, equity {world.equity}")


def _settle(genes: Genes, world: World, gate: Gate) -> None:
    """Let the fate of an unknown order be known."""
    if not gate.unknown:
        return
    order = gate.unknown.pop(genes.pick(len(gate.unknown)))
    if order.held is not None and order.held in world.held:
        order.held.shown = True


# ── finales ─────────────────────────────────────────────────────────────────


def _worst(world: World, gate: Gate, passed: int) -> Outcome:
    if not passed:
        return _outcome(world, 0)
    outcomes: dict[str, Outcome] = {}
    more = ("fill",) if world.waiting else ()
    if any(held.symbol in CROSSES for held in world.held):
        more = (*more, "drift")
    for before in ("nothing", "winners", "float", "float all", "targets", *more):
        for turns in (False, True):
            for order in ("losers", "winners"):
                copy = world.copy()
                name = f"{before}, {'reset, ' if turns else ''}{order} first"
                copy.story.append(f"finale: {name}")
                _finale(copy, before, turns, order)
                outcomes[name] = _outcome(copy, passed)
    broken = [text for outcome in outcomes.values() for text in outcome.broken]
    worst = min(outcomes.values(), key=lambda outcome: outcome.margin)
    worst.stop_margin = min(outcome.stop_margin for outcome in outcomes.values())
    worst.broken = broken[:3]
    worst.by_finale = {name: (outcome.margin, outcome.stop_margin) for name, outcome in outcomes.items()}
    return worst


def _finale(world: World, before: str, turns: bool, order: str) -> None:
    if before == "winners":  # profits that are locked in are taken first
        for held in _ordered(world, "winners"):
            if held in world.held and _at_stop(world, held) > 0:
                _to_stop(world, held, 0)
    elif before == "drift":  # what is lost on a cross becomes dearer
        world.drive("GBPUSD", 10**6)
        world.drive("USDJPY", 0)
    elif before == "fill":
        for order_there in list(world.waiting):
            world.drive(order_there.symbol, order_there.at)
    elif before in ("float", "float all", "targets"):
        for held in list(world.held):
            if held in world.held and (before != "float" or _at_stop(world, held) < 0):
                _to_target(world, held, short=0 if before == "targets" else 1)
    if turns:
        world.charge_swap()
        world.advance(world.now.replace(hour=12, minute=0) + timedelta(days=1))
    for held in _ordered(world, order):
        if held in world.held:
            _to_stop(world, held, held.gap_left)


def _ordered(world: World, order: str) -> list[Held]:
    return sorted(world.held, key=lambda held: _at_stop(world, held), reverse=order == "winners")


def _at_stop(world: World, held: Held) -> int:
    """Return roughly what the stop makes of a position, in points times volume."""
    if held.sl is None:
        return -(10**9)
    return ((held.sl - held.open) if held.side == "BUY" else (held.open - held.sl)) * held.lots100


def _outcome(world: World, passed: int) -> Outcome:
    firm = world.firm
    line = min(firm.smallest, key=lambda name: firm.smallest[name], default="none")
    return Outcome(
        margin=firm.margin, stop_margin=firm.stop_margin, line=line,
        broken=list(firm.broken), passed=passed, story=[*world.story, f"{line}: {firm.margin:.4f} of the limit left"],
    )  # fmt: skip
