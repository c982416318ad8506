"""The sweep leaves no point out: each is in exactly one job, or named with the reason why nothing passes it."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.chaos import sweep, workloads
from tests.chaos.workloads import Workload
from tests.kit import points


def points_of(jobs: list[sweep.Job]) -> Counter[str]:
    found: Counter[str] = Counter()
    for job in jobs:
        found.update(job.points if isinstance(job, Workload) else [point for batch in job for point in batch])
    return found


def test_every_point_is_swept_once_or_never_with_a_reason() -> None:
    planned = points_of(sweep.plan(sweep.all_names(), "kill", random.Random(7)))
    assert set(planned) | set(sweep.NEVER) == set(points.names())
    assert set(planned.values()) == {1}
    assert not planned.keys() & sweep.NEVER.keys()


def test_every_workload_leads_to_points_that_exist() -> None:
    named = [point for one in workloads.ALL for point in one.points]
    assert set(named) <= set(points.names())
    assert len(named) == len(set(named))


def test_messages_are_dropped_only_where_one_can_be() -> None:
    assert set(points_of(sweep.plan(sweep.all_names(), "drop", random.Random(7)))) <= points.droppable()


@pytest.mark.parametrize("seed", [1, 2])
def test_points_of_one_process_are_not_armed_together(seed: int) -> None:
    jobs = sweep.plan(sweep.all_names(), "kill", random.Random(seed))
    for job in jobs:
        for batch in () if isinstance(job, Workload) else job:
            assert max(Counter(point.partition(".")[0] for point in batch).values()) == 1, batch


def test_what_did_not_fire_in_company_is_tried_alone() -> None:
    missed = ["llm.before_decide", "store.after_create", "store.before_create"]
    jobs = sweep.one_by_one(missed)
    assert points_of(jobs) == Counter(missed)
    assert all(len(job.points) == 1 if isinstance(job, Workload) else {len(one) for one in job} == {1} for job in jobs)


def test_page_names_every_point_that_nothing_passes() -> None:
    page = points.PAGE.read_text(encoding="utf-8")
    for reason in set(sweep.NEVER.values()):
        assert reason in page
