"""The tables of the core's small machines."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from changeover.supervisor.changeover import Changeover
from changeover.supervisor.job import Job
from changeover.supervisor.plugin import Counts
from changeover.supervisor.spec import PluginSpec
from changeover.supervisor.states import (
    CHANGEOVER,
    GATE,
    JOB,
    PLANS,
    RESTART,
    WORKER,
    Gate,
    IllegalTransition,
    JobState,
    Restart,
    Step,
    Table,
    WorkerState,
    advance,
)

from .core_harness import Bench

MACHINES: dict[type[Enum], Table[Any]] = {
    WorkerState: WORKER,
    JobState: JOB,
    Gate: GATE,
    Restart: RESTART,
    Step: CHANGEOVER,
}
TERMINAL: dict[type[Enum], set[Enum]] = {
    WorkerState: {WorkerState.EXITED},
    JobState: {JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.LOST},
    Gate: set(),
    Restart: {Restart.FAILED},
    Step: {Step.DONE, Step.REFUSED, Step.ROLLED_BACK, Step.SUPERSEDED},
}
EVENTS = {event for table in MACHINES.values() for row in table.values() for event in row}
NO_ROW = [
    (table, state, event)
    for table in MACHINES.values()
    for state, row in table.items()
    for event in sorted({"nonsense", *EVENTS} - row.keys())
]


@pytest.mark.parametrize("machine", MACHINES)
def test_every_state_has_a_row(machine: type[Enum]) -> None:
    assert set(MACHINES[machine]) == set(machine)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_rows_of_terminal_states_are_empty_and_no_others(machine: type[Enum]) -> None:
    assert {state for state, row in MACHINES[machine].items() if not row} == TERMINAL[machine]


@pytest.mark.parametrize("machine", MACHINES)
def test_every_state_can_be_reached_from_the_first(machine: type[Enum]) -> None:
    table = MACHINES[machine]
    seen = {next(iter(machine))}
    for _ in machine:
        seen |= {following for state in seen for following in table[state].values()}
    assert seen == set(machine)


@pytest.mark.parametrize("machine", [WorkerState, JobState, Step])
def test_an_end_can_be_reached_from_every_state(machine: type[Enum]) -> None:
    table = MACHINES[machine]
    ending = set(TERMINAL[machine])
    for _ in machine:
        ending |= {state for state, row in table.items() if ending & set(row.values())}
    assert ending == set(machine)


def test_an_unknown_input_raises() -> None:
    for table, state, event in NO_ROW:
        with pytest.raises(IllegalTransition, match=repr(event)):
            advance(table, state, event)


def test_an_unknown_input_changes_nothing() -> None:
    job = Job("j", "p", "run", b"")
    with pytest.raises(IllegalTransition):
        job.turn("finish")
    assert job.state is JobState.QUEUED


def test_an_ended_job_cannot_end_again() -> None:
    job = Job("j", "p", "run", b"")
    job.turn("cancel")
    for event in ("finish", "fail", "cancel", "lose", "requeue", "dispatch"):
        with pytest.raises(IllegalTransition):
            job.turn(event)


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_leads_through_its_steps_to_done(plan: str) -> None:
    change = Changeover("p", PluginSpec(name="p"), "file")
    change.plan = plan
    walked = []
    while not change.has_ended:
        walked.append(change.step)
        change.turn(plan)
    assert walked == list(PLANS[plan])
    assert change.step is Step.DONE


@pytest.mark.parametrize("plan", PLANS)
def test_before_the_cut_a_changeover_can_be_refused_and_after_it_not(plan: str) -> None:
    steps = PLANS[plan]
    cut = steps.index(Step.CUT)
    assert all("refuse" in CHANGEOVER[step] for step in steps[:cut])
    later = set(steps[cut:]) - {
        step for other in PLANS.values() for step in other[: other.index(Step.CUT)]
    }
    assert not any("refuse" in CHANGEOVER[step] for step in later)


def test_check_and_adopt_come_before_every_cut() -> None:
    for steps in PLANS.values():
        assert steps.index(Step.WARM) < steps.index(Step.CHECK) < steps.index(Step.ADOPT)
        assert steps.index(Step.ADOPT) < steps.index(Step.CUT)


def test_nothing_is_released_while_the_operator_has_shut_the_gate() -> None:
    assert GATE[Gate.SHUT]["release"] is Gate.SHUT
    assert GATE[Gate.SHUT]["hold"] is Gate.SHUT


def test_every_outcome_of_a_job_has_a_count() -> None:
    ends = {state.value for state, row in JOB.items() if not row}
    assert ends <= set(Counts.__slots__)


def test_the_states_that_people_see_in_their_order() -> None:
    bench = Bench(swap="stop-first", crash_loop_count=1)
    seen = []
    bench.stages = False
    bench.start()
    seen.append(bench.plugin.state)
    bench.stages = True
    bench.finish_stages()
    seen.append(bench.plugin.state)
    bench.starts = False
    bench.write("B")
    seen.append(bench.plugin.state)
    bench.fact(lambda: bench.core.pause(bench.now, "p"))
    seen.append(bench.plugin.state)
    bench.fact(lambda: bench.core.resume(bench.now, "p"))
    bench.starts = True
    bench.finish_spawns()
    bench.after(31)
    bench.submit()
    bench.fact(lambda: bench.core.remove(bench.now, "p"))
    seen.append(bench.plugin.state)
    assert seen == ["changing", "live", "holding", "paused", "closed"]
