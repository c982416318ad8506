"""The product's store with the two rules lifted that make orders wait for each other. Run by `tests.bench.life --wide`.

One order at a time, and a certificate that nothing may overtake, are rules of one account: they bound the orders of an
account, whatever the store can do. Everything else is the product's, and no setting of the product lifts either rule.
"""

from __future__ import annotations

from store import actor, certificate, decisions
from tests.bench.life_actors import CAPACITY
from tests.kit.gate import OpenGate


def main() -> None:
    decisions.ORDERS_AT_ONCE = CAPACITY
    certificate.Gate.check = OpenGate.check  # type: ignore[method-assign]
    actor.main()


if __name__ == "__main__":
    main()
