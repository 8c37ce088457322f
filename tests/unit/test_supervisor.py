"""The supervisor: every shard is committed once, and a radiograph is blamed only when it is to blame."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mxbatch.engine.dispatch.supervisor import UNEXPLAINED_LOSSES, Assignment, State, Supervisor
from mxbatch.engine.errors import EnvironmentFault


def next_of(supervisor: Supervisor) -> Assignment:
    assignment = supervisor.assign()
    assert assignment is not None
    return assignment


def test_shards_are_handed_out_in_order_and_each_once() -> None:
    supervisor = Supervisor({0: 9, 1: 9, 2: 9})
    assert [next_of(supervisor).number for _ in range(3)] == [0, 1, 2]
    assert supervisor.assign() is None
    for number in (2, 0, 1):
        supervisor.committed(number)
    assert supervisor.open == 0


def test_a_shard_whose_worker_died_comes_back_first_and_with_care() -> None:
    supervisor = Supervisor({0: 9, 1: 9})
    assert not next_of(supervisor).careful
    supervisor.died(0, None)
    assert next_of(supervisor) == Assignment(0, careful=True, poisoned=frozenset())
    assert not next_of(supervisor).careful


def test_one_death_at_a_radiograph_is_chance_and_two_poison_it() -> None:
    supervisor = Supervisor({7: 9})
    next_of(supervisor)
    supervisor.died(7, None)
    next_of(supervisor)
    supervisor.died(7, "bad.jpg")
    assert next_of(supervisor).poisoned == frozenset()
    supervisor.died(7, "bad.jpg")
    assert next_of(supervisor).poisoned == {"bad.jpg"}


def test_deaths_at_different_radiographs_blame_none() -> None:
    supervisor = Supervisor({7: 9})
    for path in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        next_of(supervisor)
        supervisor.died(7, path)
    assert next_of(supervisor).poisoned == frozenset()


def test_several_poisonous_radiographs_of_one_shard_all_come_out() -> None:
    supervisor = Supervisor({7: 9})
    for path in ("a.jpg", "a.jpg", "b.jpg", "b.jpg"):
        next_of(supervisor)
        supervisor.died(7, path)
    assert next_of(supervisor).poisoned == {"a.jpg", "b.jpg"}


def test_deaths_without_explanation_end_the_run() -> None:
    supervisor = Supervisor({7: 9})
    for _ in range(UNEXPLAINED_LOSSES - 1):
        next_of(supervisor)
        supervisor.died(7, None)
    next_of(supervisor)
    with pytest.raises(EnvironmentFault, match="MX-E006"):
        supervisor.died(7, None)


def test_large_shards_are_handed_out_first_and_equal_ones_in_their_order() -> None:
    supervisor = Supervisor({0: 5, 1: 9, 2: 5, 3: 9})
    assert [next_of(supervisor).number for _ in range(4)] == [1, 3, 0, 2]


def test_a_worker_that_left_with_its_machine_blames_nobody() -> None:
    supervisor = Supervisor({7: 9})
    next_of(supervisor)
    supervisor.left(7)
    assert supervisor.state(7) is State.PENDING
    assert not next_of(supervisor).careful


def test_machines_that_go_away_with_one_shard_again_and_again_end_the_run() -> None:
    supervisor = Supervisor({7: 9})
    for _ in range(UNEXPLAINED_LOSSES - 1):
        next_of(supervisor)
        supervisor.left(7)
    next_of(supervisor)
    with pytest.raises(EnvironmentFault, match="MX-E006 5 workers were lost on part-00007"):
        supervisor.left(7)


def test_a_shard_goes_through_its_states_as_the_page_says() -> None:
    supervisor = Supervisor({7: 9})
    states = [supervisor.state(7)]
    for path in (None, "bad.jpg", "bad.jpg"):
        next_of(supervisor)
        states.append(supervisor.state(7))
        supervisor.died(7, path)
        states.append(supervisor.state(7))
    next_of(supervisor)
    supervisor.committed(7)
    states.append(supervisor.state(7))
    assert " ".join(states) == "pending running split running split running poisoned committed"


@pytest.mark.parametrize("event", ["committed", "released", "left"])
def test_what_no_worker_has_cannot_end(event: str) -> None:
    supervisor = Supervisor({7: 9})
    with pytest.raises(ValueError, match="part-00007 is pending and cannot become"):
        getattr(supervisor, event)(7)


def test_a_committed_shard_is_never_committed_again() -> None:
    supervisor = Supervisor({7: 9})
    next_of(supervisor)
    supervisor.committed(7)
    for event in (supervisor.committed, supervisor.left, lambda number: supervisor.died(number, None)):
        with pytest.raises(ValueError, match="is committed and cannot become"):
            event(7)


class EveryCourse(RuleBasedStateMachine):
    """Workers take, commit, die, hang, leave and give back in any order that there is."""

    def __init__(self) -> None:
        super().__init__()
        self.running: dict[int, Assignment] = {}
        self.commits: list[int] = []
        self.stopped = False

    @initialize(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=8))
    def plan(self, sizes: list[int]) -> None:
        self.shards = len(sizes)
        self.supervisor = Supervisor(dict(enumerate(sizes)))

    @rule()
    def assign(self) -> None:
        if self.stopped:
            return
        waiting = self.supervisor.waiting
        assignment = self.supervisor.assign()
        assert (assignment is None) == (waiting == 0)
        if assignment:
            assert assignment.number not in self.running
            assert assignment.number not in self.commits
            self.running[assignment.number] = assignment

    @precondition(lambda self: self.running and not self.stopped)
    @rule(
        fate=st.sampled_from(["committed", "died", "hung", "left", "released"]),
        opened=st.sampled_from([None, "a.jpg", "b.jpg"]),
        which=st.randoms(use_true_random=False),
    )
    def end(self, fate: str, opened: str | None, which: Random) -> None:
        number = which.choice(sorted(self.running))
        assignment = self.running.pop(number)
        opened = opened if assignment.careful and opened not in assignment.poisoned else None
        try:
            if fate in ("died", "hung"):
                self.supervisor.died(number, opened)
            else:
                getattr(self.supervisor, fate)(number)
        except EnvironmentFault:
            self.stopped = True
        if fate == "committed":
            self.commits.append(number)

    @invariant()
    def every_shard_is_in_one_place(self) -> None:
        if hasattr(self, "supervisor") and not self.stopped:
            assert self.supervisor.waiting + len(self.running) + len(self.commits) == self.shards
            assert self.supervisor.open == self.shards - len(self.commits)

    def teardown(self) -> None:
        """Whatever has happened: when no more is lost, every shard is committed, and once."""
        if self.stopped or not hasattr(self, "supervisor"):
            return
        while self.supervisor.open:
            while assignment := self.supervisor.assign():
                self.running[assignment.number] = assignment
            for number in list(self.running):
                del self.running[number]
                self.supervisor.committed(number)
                self.commits.append(number)
        assert sorted(self.commits) == list(range(self.shards))


TestEveryCourse = EveryCourse.TestCase
