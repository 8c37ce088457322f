"""`--runtime auto` is arithmetic: what finishes first, unless it saves too little to leave the reference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxbatch.engine.runtime.choose import (
    GUESSED_MODEL,
    GUESSED_RATE,
    GUESSES,
    WORTH_S,
    Candidate,
    decide,
    guessed_rate,
)
from mxbatch.engine.runtime.encoder import PRECISIONS
from mxbatch.engine.runtime.scorer import RUNTIMES

EAGER = Candidate(runtime="eager", precision="float32", rate=9, measured=True)
BUILT = Candidate(runtime="inductor", precision="bfloat16", rate=41, measured=True)
UNBUILT = Candidate(runtime="inductor", precision="bfloat16", rate=41.4, build_s=35)

candidates = st.builds(
    Candidate,
    runtime=st.sampled_from(["inductor", "onnxruntime", "tensorrt"]),
    precision=st.sampled_from(PRECISIONS),
    rate=st.floats(0.1, 1e5),
    measured=st.booleans(),
    build_s=st.sampled_from([0.0, 10, 35, 180]),
)


@pytest.mark.parametrize(
    ("others", "radiographs", "reason"),
    [
        ([UNBUILT], 20, "eager-float32: 20 radiographs do not pay for 35 s of compiling"),
        ([UNBUILT], 1, "eager-float32: 1 radiograph does not pay for 35 s of compiling"),
        ([BUILT], 20, "eager-float32: no other saves 10 s on 20 radiographs"),
        ([], 10**6, "eager-float32: no other runtime works here"),
        ([BUILT], 10_000, "inductor-bfloat16: measured 41/s against measured 9/s of eager-float32, ready"),
        (
            [UNBUILT],
            10_000,
            "inductor-bfloat16: about 41.4/s against measured 9/s of eager-float32, still to be compiled",
        ),
    ],
)
def test_the_choice_says_why(others: list[Candidate], radiographs: int, reason: str) -> None:
    choice, words = decide([EAGER, *others], radiographs)
    assert words == reason
    assert words.startswith(choice.name)


def test_more_workers_leave_less_for_compiling_to_save() -> None:
    assert decide([EAGER, UNBUILT], 1000, workers=1)[0] is UNBUILT
    assert decide([EAGER, UNBUILT], 1000, workers=16)[0] is EAGER


@given(others=st.lists(candidates, max_size=6), radiographs=st.integers(1, 10**7), workers=st.integers(1, 64))
def test_nothing_left_aside_would_have_saved_what_is_worth_it(
    others: list[Candidate], radiographs: int, workers: int
) -> None:
    choice, _ = decide([EAGER, *others], radiographs, workers)
    seconds = choice.seconds(radiographs, workers)
    assert seconds <= EAGER.seconds(radiographs, workers)
    for other in others:
        assert other.seconds(radiographs, workers) > seconds - WORTH_S
        if choice is not EAGER:
            assert other.seconds(radiographs, workers) >= seconds


@given(others=st.permutations([BUILT, UNBUILT, Candidate(runtime="x", precision="float32", rate=41)]))
def test_the_order_of_the_others_does_not_matter(others: list[Candidate]) -> None:
    assert decide([EAGER, *others], 10_000)[0] is BUILT


def test_the_guess_is_the_model_that_it_was_measured_on_and_scales_with_work() -> None:
    size, side = GUESSED_MODEL
    assert guessed_rate("cpu", size, side) == GUESSED_RATE["cpu"]
    assert guessed_rate("cpu", size * 4, side) == pytest.approx(GUESSED_RATE["cpu"] / 4)
    assert guessed_rate("cpu", size, side * 2) == pytest.approx(GUESSED_RATE["cpu"] / 4)


@pytest.mark.parametrize("kind", GUESSES)
def test_every_guess_is_for_something_that_exists_and_plain_torch_comes_first(kind: str) -> None:
    assert next(iter(GUESSES[kind])) == ("eager", "float32")
    for runtime, precision in GUESSES[kind]:
        assert runtime in RUNTIMES
        assert precision in PRECISIONS
    assert {runtime for guesses in GUESSES.values() for runtime, _ in guesses} == set(RUNTIMES)
