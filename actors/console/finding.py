"""One intent by the beginning of its id, and its whole story. Used by pilot; ends the command where there is none."""

from __future__ import annotations

from typing import Annotated

import typer

from actors.console import asking, tables
from bus.records import TradeIntent
from store import archived
from store.queries import Reader

IntentId = Annotated[str, typer.Argument(metavar="ID", help="The intent's id, or the beginning of it.")]


def full_id(reader: Reader, beginning: str) -> str:
    """Return the one id that begins so, or end with a clear message."""
    found = reader.intent_ids(beginning) if beginning else []
    if beginning in found:
        return beginning
    if not found:
        try:
            kept = archived.find(reader, beginning)
        except archived.Unreadable as error:
            asking.fail(f"there is no intent {beginning!r} in the database; {error}", asking.REFUSED)
        if kept:
            one = kept[0]
            asking.fail(f"intent {one.intent_id} ended as {one.status} and was archived in {one.file}", asking.REFUSED)
        asking.fail(f"there is no intent {beginning!r}; see: pilot intents", asking.REFUSED)
    if len(found) > 1:
        asking.fail(f"{beginning!r} begins {len(found)} ids; write more of it: {', '.join(found[:5])}", asking.REFUSED)
    return found[0]


def intent(reader: Reader, intent_id: str) -> TradeIntent:
    """Return an intent, or end with a clear message: it may have been deleted a moment ago."""
    found = reader.intent(intent_id)
    if found is None:
        asking.fail(f"intent {intent_id} was deleted a moment ago", asking.REFUSED)
    return found


def story(reader: Reader, intent_id: str) -> tables.Story:
    """Return everything that is known of one intent."""
    found = intent(reader, intent_id)
    return tables.Story(
        intent=found,
        decision=reader.decision(intent_id),
        order=reader.order(intent_id),
        transitions=reader.transitions(intent_id),
        compliance=tables.compliance_of(found.compliance_snapshot),
        closing=reader.closing(intent_id),
    )
