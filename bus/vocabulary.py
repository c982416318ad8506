"""The words of the pipeline: roles, statuses, events, outcomes. Same spelling everywhere.

Imported by every process. Holds no logic and imports nothing of ours.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

Side = Literal["BUY", "SELL"]
DecisionSide = Literal["BUY", "SELL", "HOLD"]
Source = Literal["scanner", "manual"]


class Role(StrEnum):
    """One kind of process. Procfile entry = file = bus identity = log field = settings section."""

    STORE = "store"
    SCANNER = "scanner"
    LLM = "llm"
    EXECUTOR = "executor"
    MONITOR = "monitor"
    DASHBOARD = "dashboard"
    ALERTS = "alerts"
    PAPER = "paper"
    PILOT = "pilot"
    SUPERVISOR = "supervisor"


class Status(StrEnum):
    """Status of an intent. Source: blueprint section 3."""

    PENDING = "pending"
    CLAIMED = "claimed"
    READY_FOR_EXEC = "ready_for_exec"
    EXECUTING = "executing"
    OPENED = "opened"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    CLOSED = "closed"


class Outcome(StrEnum):
    """Answer of the store to a command."""

    APPLIED = "applied"
    ALREADY = "already"  # the state asked for stood already; nothing changed
    STALE = "stale"  # the sender no longer holds the lease
    REFUSED = "refused"  # not allowed now; `allowed` lists what was


class State(StrEnum):
    """State of an actor, as its beats say it; `stopped` is what the store writes of one that ended in order."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class OrderStatus(StrEnum):
    """Status of the one order an intent may have."""

    RESERVED = "reserved"  # permission given, outcome not yet known
    UNKNOWN = "unknown"  # sent, answer lost: being reconciled
    OPENED = "opened"
    FAILED = "failed"


class ExitCode:
    """Exit codes of every process of the pipeline."""

    OK = 0  # wanted
    USAGE = 64  # the command line is wrong
    GAVE_UP = 70  # a process that must live cannot
    LOCKED = 75  # another process holds the lock; the message says which
    CONFIG = 78  # a setting, secret or file is wrong; never restarted
