"""Errors of the bus and the exit codes they end in.

PilotError
├── LockHeld          another process holds the lock (exit 75)
├── NotUnderstood     bytes that are no message of ours
└── NoAnswer          the store did not answer within the deadline
"""

from __future__ import annotations


class PilotError(Exception):
    """Base of our own errors."""


class LockHeld(PilotError):
    """Another process holds a lock that we need."""


class NotUnderstood(PilotError):
    """A frame could not be decoded, or its sender may not send it."""


class NoAnswer(PilotError):
    """The store did not answer within the deadline. The command may or may not have been applied."""
