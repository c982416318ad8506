"""Every durable step and every external call in the source has a named point on both sides, and the page lists them."""

from __future__ import annotations

import re
from collections import Counter
from typing import get_args

import pytest

from bus import failpoints, messages
from bus.vocabulary import Role
from tests.kit import points, steps

# (file, function, beginning of the call): why no points stand around it.
ALLOWED = {
    (
        "actors/analysts/tradingagents_child.py",
        "_end_group",
        "os.killpg",
    ): "runs under another interpreter, without bus",
    ("actors/analysts/tradingagents_child.py", "_write", "os.write"): "runs under another interpreter, without bus",
    ("actors/broker/paper/answers.py", "die", "os.kill"): "the fault `restart`: the broker ends itself, as ordered",
    ("actors/broker/paper/asking.py", "body_of", "request.stream"): "reads a request that has arrived; nothing leaves",
    ("actors/broker/transport.py", "rehearse", "client.stream"): "answered in memory; nothing leaves",
    ("bus/acklog.py", "write", "os.write"): "written for the checker of the chaos run only; off in production",
    ("bus/runtime.py", "acquire_lock", "os.ftruncate"): "the lock is the fact, its text tells people who holds it",
    ("bus/runtime.py", "acquire_lock", "os.pwrite"): "the lock is the fact, its text tells people who holds it",
    ("bus/runtime.py", "notify", "datagram.sendto"): "READY has its points at its callers; a lost WATCHDOG=1 is a test "
    "of stop and sleep",
    ("bus/sockets.py", "send", "self.raw.send"): "the socket itself: every caller of Socket.send has the points",
    ("store/actor.py", "_set_aside", "(folder /"): "bytes kept for people to look at; nothing depends on them",
    ("supervisor/process.py", "reap", "self._kill_group"): "supervisor.after_reap stands in tree.py, once it is noted",
    ("supervisor/process.py", "end", "self.kill"): "the points are inside Process.kill",
    ("actors/outbox/telegram.py", "_post", "self._client.stream"): "its callers have them",
    ("actors/console/telegram.py", "_ask", "client.stream"): "`pilot doctor` asks who the bot is; nothing rests on it",
    ("supervisor/spares.py", "_look_after", "spare.kill"): "the points are inside Process.kill",
    ("supervisor/tree.py", "_do", "child.kill"): "the points are inside Process.kill",
    ("supervisor/tree.py", "_signal", "child.send"): "the points are inside Process.send",
    ("supervisor/tree.py", "__init__", "process.spawn_spare"): "a lambda: Spares calls it, between its points",
}
ONE_SIDED = {
    "paper.before_answer": "the web server sends after we have returned",
    "paper.before_keyed_answer": "the web server sends after we have returned",
    "{role}.after_ack_{step}": "its near side is before_send, which is passed again with each resend",
}
PROCESSES = {
    *(str(role) for role in Role),
    "broker",
    "model",
    "scan",
}  # a library of two processes, and scanner's child

UNGUARDED = """
def save(path):
    reach("store.before_save")
    reach("store.after_save")
    os.fsync(3)

def other(path):
    reach("store.before_save")

    def inner():
        path.rename(path)

    reach("store.after_save")

def halfway(db):
    reach("store.before_save")
    db.execute("COMMIT")
"""
GUARDED = """
async def save(path):
    reach("store.before_save")
    with self._db:
        pass
    os.fsync(3)
    path.replace(path)
    path.open("ab")
    await asyncio.create_subprocess_exec(path)
    failpoints.reach("store.after_save")
"""


def test_every_durable_step_and_external_call_has_points_on_both_sides() -> None:
    bare = [
        str(step)
        for step in steps.steps()
        if not step.is_guarded and not steps.is_inside_a_wrapper(step) and _allowed(step) is None
    ]
    assert not bare, "put reach() before and after, or say in ALLOWED why not:\n" + "\n".join(bare)


def test_no_permission_outlives_the_step_it_was_given_for() -> None:
    used = {_allowed(step) for step in steps.steps() if not step.is_guarded}
    assert set(ALLOWED) - used == set()


def test_every_wrapper_still_does_what_its_callers_are_watched_for() -> None:
    texts = [step.text for step in steps.steps()]
    unused = [called for called in steps.WRAPPERS if not any(text.startswith(f"{called}(") for text in texts)]
    assert unused == []


def test_the_finder_sees_steps_without_points() -> None:
    found = {(step.function, step.is_guarded) for step in steps.steps_in(UNGUARDED, "here.py")}
    assert found == {("save", False), ("inner", False), ("halfway", False)}


def test_the_finder_sees_steps_with_points() -> None:
    found = list(steps.steps_in(GUARDED, "here.py"))
    assert len(found) == 5
    assert all(step.is_guarded for step in found)


@pytest.mark.parametrize("path", sorted({call.path for call in points.calls()}))
def test_without_any_point_of_a_file_its_steps_are_found_bare(path: str) -> None:
    """Take the points out of one file after the other: the finder must miss them, or they guard nothing."""
    source = steps.source_of(path)
    without = re.sub(r"\breach\(", "passed(", source)
    before = [step.is_guarded for step in steps.steps_in(source, path)]
    after = [step.is_guarded for step in steps.steps_in(without, path)]
    assert len(before) == len(after)
    assert not any(after)


# ── names ───────────────────────────────────────────────────────────────────


def test_every_point_stands_in_one_place() -> None:
    seen = Counter(call.name for call in points.calls())
    assert [name for name, times in seen.items() if times > 1] == []


def test_every_point_is_named_after_its_process_and_its_side() -> None:
    for name in points.names():
        process, _, point = name.partition(".")
        assert process in PROCESSES, name
        assert re.fullmatch(r"(before|after)_[a-z][a-z_]*", point), name


def test_every_point_has_its_other_side() -> None:
    found = {call.name for call in points.calls()}
    alone = {name for name in found if _other_side(name) not in found}
    assert alone == set(ONE_SIDED)


def test_every_point_says_what_it_stands_for() -> None:
    found = points.calls()
    comments = {call.name: call.comment for call in found if call.comment}
    assert [call.name for call in found if not points.meaning(call.name, comments)] == []


def test_the_link_names_its_points_as_the_list_spells_them_out() -> None:
    kinds = {*get_args(messages.FromStore), *(kind for sent in messages.MAY_SEND.values() for kind in sent)}
    for kind in kinds:
        message = type(kind.__name__, (), {})()
        assert failpoints.step_of(message) == points.step_of(kind)


def test_every_command_of_every_process_can_be_lost_on_its_way() -> None:
    lost = points.droppable()
    for role in points.linked():
        for kind in messages.MAY_SEND[role]:
            assert f"{role}.before_send_{points.step_of(kind)}" in lost
    assert {"store.before_send_ack", "executor.before_take_execute", "llm.before_take_analyse"} <= lost
    assert "supervisor.before_send_child_exited" in lost
    assert "store.before_commit" not in lost


# ── the page ────────────────────────────────────────────────────────────────


def test_the_page_lists_the_points_as_they_are() -> None:
    page = points.PAGE.read_text(encoding="utf-8")
    assert points.rewritten(page) == page, "run: python -m tests.kit.points"


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="points: begin"):
        points.rewritten("# Testing\n")


def _allowed(step: steps.Step) -> tuple[str, str, str] | None:
    for key in ALLOWED:
        path, function, beginning = key
        if (step.path, step.function) == (path, function) and step.text.startswith(beginning):
            return key
    return None


def _other_side(name: str) -> str:
    return name.replace(".before_", ".after_") if ".before_" in name else name.replace(".after_", ".before_")
