"""Who is learned from: no animal line on both sides, rare classes on each, the same again for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mxbatch.engine.archive.index import KEY
from mxbatch.engine.errors import UsageError
from mxbatch.engine.taxonomy import read_taxonomy
from mxbatch.trainer.splits import (
    SIDES,
    Split,
    is_line,
    read_split,
    require_disjoint,
    require_positives,
    split,
    write_split,
)

TAXONOMY = read_taxonomy()
K = len(TAXONOMY.nodes)
CENTRES = ("BCM", "JAX")

animals = st.lists(
    st.tuples(
        st.sampled_from(["baseline", "", "Baseline ", "A", "B", "C", "D", "E"]),
        st.sampled_from(CENTRES),
        st.lists(st.sampled_from([0.0, 1.0, float("nan")]), min_size=3, max_size=3),
    ),
    max_size=60,
)


def table(drawn: list[tuple[str, str, list[float]]]) -> tuple[list[str], list[str], NDArray[np.float32]]:
    labels = np.array([values for _, _, values in drawn], np.float32).reshape(-1, 3)
    return [colony for colony, _, _ in drawn], [centre for _, centre, _ in drawn], labels


def centre_like(
    rng: np.random.Generator, lines: int = 120
) -> tuple[list[str], list[str], NDArray[np.float32]]:
    """Lines of seven animals, as many controls, three classes; within a line all alike."""
    colonies, centres, labels = [], [], []
    for line in range(lines):
        values = (rng.random(3) < (0.4, 0.25, 0.15)).astype(np.float32)
        colonies += [f"line-{line}"] * 7 + ["baseline"] * 7
        centres += [CENTRES[line % 3 == 0]] * 14
        labels += [values] * 7 + [np.zeros(3, np.float32)] * 7
    return colonies, centres, np.array(labels)


def keys(count: int) -> list[tuple[str, ...]]:
    return [("BCM", f"mouse-{n}", "IMPC_XRY_001", "2015-03-02") for n in range(count)]


def parts_of(**sides: list[int]) -> Split:
    return Split(*(np.array(sides.get(side, []), np.int64) for side in SIDES))


# --- dealing ---


@given(animals, st.integers(0, 2**32))
def test_every_specimen_is_on_one_side_and_no_line_on_two(
    drawn: list[tuple[str, str, list[float]]], seed: int
) -> None:
    colonies, centres, labels = table(drawn)
    parts = split(colonies, labels, seed=seed, centres=centres)
    assert sorted(np.concatenate(list(parts.sides.values())).tolist()) == list(range(len(drawn)))
    assert all((np.diff(side) > 0).all() and side.dtype == np.int64 for side in parts.sides.values())
    require_disjoint(parts, colonies)


@given(animals, st.sampled_from(CENTRES), st.integers(0, 99))
def test_a_centre_that_is_left_out_is_the_whole_test(
    drawn: list[tuple[str, str, list[float]]], centre: str, seed: int
) -> None:
    colonies, centres, labels = table(drawn)
    if centre not in centres:
        with pytest.raises(UsageError, match=f"no specimen is of the centre '{centre}'"):
            split(colonies, labels, seed=seed, centres=centres, leave_out=centre)
        return
    parts = split(colonies, labels, seed=seed, centres=centres, leave_out=centre)
    assert [centres[n] == centre for n in parts.test] == [True] * centres.count(centre)
    away = {colonies[n] for n in parts.test if is_line(colonies[n])}
    learned = {*parts.train.tolist(), *parts.validation.tolist()}
    assert learned == {n for n in range(len(drawn)) if centres[n] != centre and colonies[n] not in away}
    require_disjoint(parts, colonies)


def test_the_seed_decides_and_nothing_else_does() -> None:
    colonies, centres, labels = centre_like(np.random.default_rng(0))
    first, again, other = (split(colonies, labels, seed=seed, centres=centres) for seed in (1, 1, 2))
    assert all(
        (one == two).all() for one, two in zip(first.sides.values(), again.sides.values(), strict=True)
    )
    assert set(first.test.tolist()) != set(other.test.tolist())


@pytest.mark.parametrize("shares", [(0.7, 0.15, 0.15), (0.5, 0.2, 0.3), (8, 2, 0)])
def test_each_side_gets_its_share_of_specimens_classes_centres_and_controls(
    shares: tuple[float, float, float],
) -> None:
    colonies, centres, labels = centre_like(np.random.default_rng(3))
    parts = split(colonies, labels, shares=shares, seed=0, centres=centres)
    control = np.array([not is_line(colony) for colony in colonies])
    of_jax = np.array(centres) == "JAX"
    for side, share in zip(parts.sides.values(), np.array(shares) / sum(shares), strict=True):
        counted = [np.ones(len(colonies)), control, of_jax, of_jax & control, *labels.T]
        assert [group[side].sum() / group.sum() for group in counted] == pytest.approx([share] * 7, abs=0.06)


@pytest.mark.parametrize("colonies", [3, 4, 9])
def test_a_class_with_three_colonies_is_on_every_side(colonies: int) -> None:
    names = [f"line-{n // 2}" for n in range(60)]
    labels = np.zeros((60, 1), np.float32)
    labels[: 2 * colonies] = 1
    parts = split(names, labels, seed=5)
    assert all((labels[side] == 1).any() for side in parts.sides.values())


@pytest.mark.parametrize("shares", [(0, 0.5, 0.5), (0.7, -0.1, 0.4), (0.7, 0.3), (float("nan"), 0.1, 0.1)])
def test_shares_that_cannot_be_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="shares are three numbers"):
        split(["A", "B"], np.zeros((2, 1), np.float32), shares=shares, seed=0)


# --- what training demands ---


def test_a_colony_on_two_sides_is_named_and_controls_are_no_colony() -> None:
    colonies = ["A", "A", "baseline", "baseline", "", ""]
    require_disjoint(parts_of(train=[0, 1, 2, 4], test=[3, 5]), colonies)
    with pytest.raises(UsageError, match="the colony 'A' is in train and in validation") as caught:
        require_disjoint(parts_of(train=[0], validation=[1]), colonies)
    assert caught.value.code == "MX-T003"


def test_a_specimen_on_two_sides_is_refused_even_where_it_is_a_control() -> None:
    with pytest.raises(UsageError, match="1 specimens stand on two sides"):
        require_disjoint(parts_of(train=[0, 1], test=[1]), ["baseline", "baseline"])


def test_a_class_without_a_positive_is_named_with_its_side() -> None:
    labels = np.ones((4, K), np.float32)
    ribs, digits = TAXONOMY.names.index("ribs"), TAXONOMY.names.index("digits")
    labels[2:, ribs] = [0, np.nan]
    labels[:, digits] = 0
    with pytest.raises(UsageError) as caught:
        require_positives(parts_of(train=[0, 1], validation=[2, 3]), labels, TAXONOMY)
    assert caught.value.code == "MX-T002"
    assert "'ribs' in validation (2 in all), 'digits' in train (0 in all)" in caught.value.what
    assert "'skull'" not in caught.value.what
    require_positives(parts_of(train=[0], validation=[1]), np.ones((2, K), np.float32), TAXONOMY)


# --- files ---


@given(animals.filter(bool), st.integers(0, 99))
def test_a_split_comes_back_from_its_file(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, str, list[float]]], seed: int
) -> None:
    path = tmp_path_factory.mktemp("split") / "split.csv"
    colonies, centres, labels = table(drawn)
    parts = split(colonies, labels, seed=seed, centres=centres)
    write_split(path, parts, keys(len(drawn)))
    read = read_split(path, keys(len(drawn)), colonies)
    assert all((one == two).all() for one, two in zip(parts.sides.values(), read.sides.values(), strict=True))


def test_a_file_of_ones_own_needs_specimens_and_sides_alone(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("\ufeffnotes,split,specimen_id\n,train,mouse-2\n,test,mouse-0\n,test,another\n")
    parts = read_split(path, keys(3), ["", "", ""])
    assert {name: side.tolist() for name, side in parts.sides.items()} == {
        "train": [2],
        "validation": [],
        "test": [0],
    }


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("specimen_id,split\nmouse-0,train\nmouse-1,test\n", "MX-T003", "colony 'A' is in train and in test"),
        ("specimen_id,split\nmouse-0,train\nmouse-0,test\n", "MX-T003", "row 3: mouse-0 stands on two sides"),
        ("specimen_id,split\nmouse-0,training\n", "MX-U001", "row 2: 'training' is no side; known: train"),
        ("specimen_id,split\nanother,train\n", "MX-U001", "names no specimen that the archive holds"),
        ("specimen_id,side\nmouse-0,train\n", "MX-U001", "columns specimen_id and split"),
        ("", "MX-U001", "columns specimen_id and split"),
        (None, "MX-U001", "cannot be read"),
    ],
)
def test_a_file_that_is_no_split_is_refused(tmp_path: Path, text: str | None, code: str, words: str) -> None:
    path = tmp_path / "split.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        read_split(path, keys(2), ["A", "A"])
    assert caught.value.code == code


def test_the_file_has_a_row_per_specimen_sorted_by_key(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    write_split(path, parts_of(train=[1], test=[0]), keys(2))
    header, *rows = path.read_text().splitlines()
    assert header == ",".join((*KEY, "split"))
    assert rows == ["BCM,mouse-0,IMPC_XRY_001,2015-03-02,test", "BCM,mouse-1,IMPC_XRY_001,2015-03-02,train"]
