"""Answers an analyst from recordings instead of a language model: the same replies, so the same verdicts, to the byte.

Used by the llm process when `llm.analyst = "replay"`. Never touches the network, never writes; what was not recorded is
no verdict, never a guess.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from loguru import logger
from msgspec import Struct

from actors.analysts import calling, prompts
from actors.analysts.answer import Schema
from actors.analysts.chat import CallFailed, Reply
from actors.analysts.prompts import ChatMessage
from actors.analysts.recordings import Call, Recording


class Taken(Struct, frozen=True):
    """One recorded analysis that says how an attempt ended: with an error, or, the last one, with the verdict."""

    attempt: int
    calls: dict[tuple[str, str, int], Call]  # by role, prompt and number


class ReplayCompleter:
    """A `chat.Completer` over recorded calls."""

    def __init__(self, name: str, recording: Recording, *, speed: float) -> None:
        """`name` is the endpoint's in the settings. At `speed` 1 a reply takes as long as it did, at 0 no time."""
        ours = [call for call in recording.calls if not call.is_cancelled]
        self.is_metered = False  # what it cost was counted when it was recorded
        self.host = next((call.host for call in reversed(ours) if call.endpoint == name), "replay")
        self._taken = taken(ours)
        # Who asked a prompt last: for intents that were not recorded under the same key.
        self._subjects = {(call.role, call.prompt_sha256): call.subject for call in ours}
        self._count = len(ours)
        self._skipped = recording.skipped
        self._speed = speed

    async def start(self) -> None:
        """Say what there is."""
        logger.info("Replaying {} recorded calls of {}, {} lines skipped", self._count, self.host, self._skipped)

    def is_available(self) -> bool:
        """Return True: a recording is never away."""
        return True

    async def probe(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def complete(self, asked: list[ChatMessage], schema: Schema, deadline_s: float) -> Reply:
        """Return the reply that was recorded for this role and prompt.

        Raises:
            CallFailed: the call failed when it was recorded, or it is not in the recording.
        """
        about = calling.analysis()
        role, prompt_sha256 = calling.role(), prompts.digest(asked)
        number = calling.count(about, role, prompt_sha256)
        subject = about.subject if about.subject in self._taken else self._subjects.get((role, prompt_sha256), "")
        analysis = choose(self._taken.get(subject, []), about.attempt)
        found = analysis.calls.get((role, prompt_sha256, number)) if analysis is not None else None
        if found is None:
            raise CallFailed(
                f"not in the recording: call {number} of the role {role!r} with the prompt {prompt_sha256}"
            )
        await asyncio.sleep(0)  # calls that were under way together, and counted together, are so again
        if self._speed:
            await _take(found.latency_ms / 1_000 / self._speed, deadline_s)
        if found.reply is None:
            raise CallFailed(found.error)
        return found.reply


def taken(calls: list[Call]) -> dict[str, list[Taken]]:
    """Return by subject the analyses that ended on their own, oldest first, of the newest intent about it.

    Those end with an error, or they are the last: had an earlier one come to a verdict, there would be no later one. So
    an earlier one without an error was lost with its worker, and what it was told was never acted upon.
    """
    intents: dict[str, str] = {call.subject: call.intent_id for call in calls}
    by_epoch: defaultdict[str, defaultdict[int, list[Call]]] = defaultdict(lambda: defaultdict(list))
    for call in calls:
        if call.intent_id == intents[call.subject]:
            by_epoch[call.subject][call.epoch].append(call)
    found: dict[str, list[Taken]] = {}
    for subject, analyses in by_epoch.items():
        last = max(analyses)
        found[subject] = [
            Taken(of_one[0].attempt, {(call.role, call.prompt_sha256, call.call): call for call in of_one})
            for epoch, of_one in sorted(analyses.items())
            if epoch == last or any(call.reply is None for call in of_one)
        ]
    return found


def choose(analyses: list[Taken], attempt: int) -> Taken | None:
    """Return the analysis to answer an attempt with: the newest of that attempt, else of the next one, else the last.

    Ids of intents and epochs differ between runs, and so does what dies in them. This depends on nothing but the
    recording and the attempt, so several workers, and their successors, replay alike.
    """
    if not analyses:
        return None
    known = sorted({one.attempt for one in analyses})
    wanted = next((one for one in known if one >= attempt), known[-1])
    return [one for one in analyses if one.attempt == wanted][-1]


async def _take(seconds: float, deadline_s: float) -> None:
    if seconds > deadline_s:
        await asyncio.sleep(max(0.0, deadline_s))
        raise CallFailed(f"no answer within {deadline_s:.0f} s at llm.replay_speed; it took {seconds:.1f} s")
    await asyncio.sleep(seconds)
