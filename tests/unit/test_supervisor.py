"""The supervisor: every shard is committed once, and a radiograph is blamed only when it is to blame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxbatch.engine.dispatch.supervisor import UNEXPLAINED_DEATHS, Assignment, Supervisor
from mxbatch.engine.errors import EnvironmentFault


def next_of(supervisor: Supervisor) -> Assignment:
    assignment = supervisor.assign()
    assert assignment is not None
    return assignment


def test_shards_are_handed_out_in_order_and_each_once() -> None:
    supervisor = Supervisor([0, 1, 2])
    assert [next_of(supervisor).number for _ in range(3)] == [0, 1, 2]
    assert supervisor.assign() is None
    for number in (2, 0, 1):
        supervisor.committed(number)
    assert supervisor.open == 0


def test_a_shard_whose_worker_died_comes_back_first_and_with_care() -> None:
    supervisor = Supervisor([0, 1])
    assert not next_of(supervisor).careful
    supervisor.died(0, None)
    assert next_of(supervisor) == Assignment(0, careful=True, poisoned=frozenset())
    assert not next_of(supervisor).careful


def test_one_death_at_a_radiograph_is_chance_and_two_poison_it() -> None:
    supervisor = Supervisor([7])
    next_of(supervisor)
    supervisor.died(7, None)
    next_of(supervisor)
    supervisor.died(7, "bad.jpg")
    assert next_of(supervisor).poisoned == frozenset()
    supervisor.died(7, "bad.jpg")
    assert next_of(supervisor).poisoned == {"bad.jpg"}


def test_deaths_at_different_radiographs_blame_none() -> None:
    supervisor = Supervisor([7])
    for path in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        next_of(supervisor)
        supervisor.died(7, path)
    assert next_of(supervisor).poisoned == frozenset()


def test_several_poisonous_radiographs_of_one_shard_all_come_out() -> None:
    supervisor = Supervisor([7])
    for path in ("a.jpg", "a.jpg", "b.jpg", "b.jpg"):
        next_of(supervisor)
        supervisor.died(7, path)
    assert next_of(supervisor).poisoned == {"a.jpg", "b.jpg"}


def test_deaths_without_explanation_end_the_run() -> None:
    supervisor = Supervisor([7])
    for _ in range(UNEXPLAINED_DEATHS - 1):
        next_of(supervisor)
        supervisor.died(7, None)
    next_of(supervisor)
    with pytest.raises(EnvironmentFault, match="MX-E006"):
        supervisor.died(7, None)


@given(st.integers(1, 20), st.lists(st.booleans(), max_size=40), st.integers(1, 4))
def test_whatever_dies_every_shard_is_committed_exactly_once(
    shards: int, deaths: list[bool], workers: int
) -> None:
    supervisor = Supervisor(range(shards))
    running: list[int] = []
    committed: list[int] = []
    fate = iter(deaths)
    steps = 0
    while supervisor.open:
        while len(running) < workers and (assignment := supervisor.assign()):
            running.append(assignment.number)
        number = running.pop(0)
        steps += 1
        if next(fate, False):
            supervisor.died(number, f"{steps}.jpg")
        else:
            supervisor.committed(number)
            committed.append(number)
    assert sorted(committed) == list(range(shards))
