"""What a radiograph shows: by IMPC parameter, and by the words of a centre's own table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxbatch.engine.archive.views import VIEWS, ViewWords, view_of
from mxbatch.engine.errors import UsageError

SIX = {"034": "dv", "048": "lv", "049": "forepaw", "050": "skull_lv", "051": "skull_dv", "052": "hind_leg"}


@pytest.mark.parametrize("prefix", ["IMPC", "CCP", "ALTCCP", "JAXLA", "HMGULA", "M-G-P"])
@pytest.mark.parametrize("number", SIX)
def test_six_numbers_mean_the_six_views_under_every_prefix(prefix: str, number: str) -> None:
    assert view_of(f"{prefix}_XRY_{number}_001") == SIX[number]


def test_the_harwell_ageing_screen_numbers_its_whole_body_images_on_its_own() -> None:
    assert [view_of(f"HAS_XRY_{n}_001") for n in ("034", "035", "048")] == ["lv", "dv", None]
    assert all(view_of(f"HAS_XRY_{n}_001") == SIX[n] for n in ("049", "050", "051", "052"))


@pytest.mark.parametrize(
    "parameter",
    [
        "IMPC_XRY_033_001",
        "IMPC_XRY_034_002",
        "IMPC_EYE_050_001",
        "XRY_034_001",
        "dv",
        "",
        "IMPC_XRY_034_001 ",
    ],
)
def test_everything_else_has_no_view(parameter: str) -> None:
    assert view_of(parameter) is None


@pytest.mark.parametrize(
    ("word", "view"),
    [
        ("DV", "dv"),
        ("Dorso-Ventral", "dv"),
        ("lateral", "lv"),
        ("Skull Lateral", "skull_lv"),
        ("whole_body_dorsal", "dv"),  # EBI's view check
        ("hind_leg_hip", "hind_leg"),
        ("XRay Images Skull Dorso Ventral Orientation", "skull_dv"),  # IMPReSS
        ("IMPC_XRY_052_001", "hind_leg"),
        ("ventral", None),
        ("", None),
    ],
)
def test_words_that_nobody_can_misread_are_known(word: str, view: str | None) -> None:
    assert ViewWords().view(word) == view


def test_the_users_mapping_goes_before_every_other_meaning() -> None:
    words = ViewWords({"Lateral": "skull_lv", "tail": "skip", "+": "dv"})
    assert [words.view(w) for w in ("LATERAL", "Tail", "+")] == ["skull_lv", "skip", "dv"]


def test_a_model_may_know_more_views() -> None:
    assert ViewWords(extra_views=["pelvis_dv"]).view("Pelvis DV") == "pelvis_dv"


@pytest.mark.parametrize("view", ["ventral", "DV", "unknown", ""])
def test_a_mapping_to_an_unknown_view_is_refused_with_the_known_ones(view: str) -> None:
    with pytest.raises(UsageError, match=r"MX-U002 .*dv, lv, skull_dv, .*skip") as caught:
        ViewWords({"theirs": view})
    assert caught.value.code == "MX-U002"


@given(
    st.sampled_from(VIEWS), st.sampled_from([str.upper, str.title, str.swapcase]), st.sampled_from(" -_./")
)
def test_case_and_punctuation_do_not_matter(view: str, case: type[str], mark: str) -> None:
    assert ViewWords().view(case(view).replace("_", mark)) == view
