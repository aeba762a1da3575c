"""The loop: what it yields, in which order, and how it ends."""

from dataclasses import FrozenInstanceError, replace

import pytest

from stepfit.steps import Step, Steps, Stop, carried, checked_seed, run


def count(until: int, max_steps: int) -> list[Step]:
    first = Step(index=0, loss=0.0, seconds=0.0)

    def following(last: Step) -> Step:
        stop = Stop.CONVERGED if last.index + 1 == until else None
        return replace(last, index=last.index + 1, stop=stop)

    return list(run(lambda: first, following, max_steps=max_steps))


def test_each_step_once_and_only_the_last_says_why():
    steps = count(until=3, max_steps=10)
    assert [(s.index, s.stop) for s in steps] == [(0, None), (1, None), (2, None), (3, Stop.CONVERGED)]


def test_the_limit_on_steps_is_said_too():
    steps = count(until=99, max_steps=2)
    assert [(s.index, s.stop) for s in steps] == [(0, None), (1, Stop.MAX_STEPS)]
    assert [s.stop for s in count(until=99, max_steps=1)] == [Stop.MAX_STEPS]


def test_a_step_is_known_before_the_next_is_begun():
    asked = []

    def following(last: Step) -> Step:
        asked.append(last.index)
        return replace(last, index=last.index + 1)

    steps = run(lambda: Step(index=0, loss=0.0, seconds=0.0), following, max_steps=5)
    next(steps)
    assert asked == []
    next(steps)
    assert asked == [0]


def test_a_step_cannot_be_written_to():
    with pytest.raises(FrozenInstanceError):
        count(1, 1)[0].loss = 1.0


def test_every_reason_to_stop_says_what_to_do():
    assert all(len(stop.value.split()) > 6 for stop in Stop)


def test_steps_carry_their_settings():
    steps = Steps(iter([1]), {"seed": 3})
    assert (steps.settings, list(steps)) == ({"seed": 3}, [1])


def test_a_step_carries_nothing_unless_its_algorithm_says_so():
    step = count(1, 1)[0]
    assert step.state == {}
    assert carried(step) == {}
    with pytest.raises(FrozenInstanceError):
        step.state = None


def test_a_step_without_its_state_cannot_be_resumed_from():
    with pytest.raises(ValueError, match=r"step 0 without its state.*last step only; resume from run.last"):
        carried(replace(count(1, 1)[0], state=None))


@pytest.mark.parametrize(("seed", "error"), [(1.5, TypeError), ("7", TypeError), (-1, ValueError), (2**62, ValueError)])
def test_a_seed_that_is_none_is_refused(seed, error):
    with pytest.raises(error, match="seed is"):
        checked_seed(seed)
    assert 0 <= checked_seed(None) < 2**32
    assert checked_seed(2**62 - 1) == 2**62 - 1
