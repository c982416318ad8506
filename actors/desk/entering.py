"""The login of a process that has just started, beside what else its start waits for. Library of executor and monitor.

Reads nothing of the account and decides nothing: what is looked at is looked at afterwards, as if nothing had been done
here. An API without a login has nothing to gain, and is left alone.
"""

from __future__ import annotations

import asyncio

from actors.broker import factory, transport
from actors.broker.account import Account
from actors.broker.errors import BudgetSpent
from actors.broker.password import password
from actors.compliance import rulebook
from actors.compliance.day import firm_days
from actors.desk.allowance import Allowance
from bus.clock import SystemClock
from config.load import ConfigError
from config.settings import Broker, Settings
from store import owner
from store.queries import Reader


def warm_up(settings: Settings) -> None:
    """Load what the first look at the account would load, as a spare does before its turn. Not inside a running loop.

    Raises config.load.ConfigError as the start would.
    """
    transport.warm_up(settings.broker)
    factory.warm_up(settings.broker)
    firm_days(rulebook.load(settings.compliance.rules), SystemClock().now())  # reads the time zones
    password(settings)


async def begin(client: Account, allowance: Allowance, reads: int) -> asyncio.Task[bool]:
    """Return `enter` under way, its question to the store sent: what the caller does next costs it no time."""
    entry = asyncio.create_task(enter(client, allowance, reads), name="enter")
    await asyncio.sleep(0)  # it asks for its requests
    await asyncio.sleep(0)  # the question leaves
    return entry


async def enter(client: Account, allowance: Allowance, reads: int) -> bool:
    """Have `reads` requests in hand, this login among them, and log in. False: it was not, and nothing was asked.

    Raises:
        BrokerError: the broker did not let us in, as the first read would have found.
    """
    if not client.needs_login:
        return False
    try:
        await allowance.ensure(reads)
    except BudgetSpent:
        return False  # whoever looks knows whether positions are at stake
    await client.login()
    return True


def refuse_foreign(reader: Reader, broker: Broker) -> None:
    """Return when the database is this account's or nobody's: its orders and days must be judged by no other's figures.

    The store looks at its start, too; its settings may be older than ours. Raises ConfigError.
    """
    if why := reader.foreign_to(owner.of_settings(broker)):
        raise ConfigError(why)


async def confirm(client: Account) -> None:
    """Have the broker say whose account this is, where no login has: a token may be another account's. One read.

    Raises:
        BrokerError: it did not, or it is not ours.
    """
    if not client.needs_login:
        await client.login()


async def leave(entry: asyncio.Task[bool]) -> None:
    """End a login that nobody waits for any more; what it found is of no interest."""
    entry.cancel()
    await asyncio.gather(entry, return_exceptions=True)
