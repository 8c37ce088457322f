"""Who gets which findings, and what a scorer writes about it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxbatch.engine.errors import UsageError
from mxbatch.engine.taxonomy import Parameter, read_taxonomy
from mxbatch.trainer.phantom.centres import named_centres, read_centres
from mxbatch.trainer.phantom.findings import FINDINGS
from mxbatch.trainer.phantom.scores import COLUMNS, Scorer, answer, missed, parameters, rows
from mxbatch.trainer.phantom.shot import Nuisance
from mxbatch.trainer.phantom.specimens import (
    BASELINE,
    LINE_SIZE,
    SEVERITIES,
    Specimen,
    apportion,
    choose_specimens,
)

NODES = {finding.name: finding.node for finding in FINDINGS.values()}
FULL, CORE, IMAGE_ONLY = named_centres(["JAX", "ICS", "KMPC"])
"""Centres that answer everything, the first set alone, and the rest with `imageOnly`."""


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def animals(specimens: int, *, seed: int = 1, prevalence: float = 0.3) -> tuple[Specimen, ...]:
    return choose_specimens(specimens, seed=seed, prevalence=prevalence, centres=read_centres(), nodes=NODES)


def animal(*findings: str, centre: object = FULL, severity: float = 1.0) -> Specimen:
    (one,) = choose_specimens(1, seed=0, prevalence=0, centres=[centre], nodes=NODES)
    return replace(one, findings=dict.fromkeys(findings, severity))


def is_normal(parameter: Parameter, value: str | float) -> bool:
    return value == parameter.expected if parameter.kind == "count" else value in parameter.normal


# --- who ---


@given(total=st.integers(0, 500), shares=st.lists(st.floats(0.1, 10), min_size=1, max_size=12))
def test_animals_are_dealt_to_centres_by_share_to_the_last_one(total: int, shares: list[float]) -> None:
    counts = apportion(total, shares)
    assert sum(counts) == total
    assert all(
        abs(count - total * share / sum(shares)) < 1 for count, share in zip(counts, shares, strict=True)
    )


@given(specimens=st.integers(1, 150), seed=st.integers(0, 2**40), prevalence=st.floats(0, 1))
def test_the_prevalence_is_kept_exactly(specimens: int, seed: int, prevalence: float) -> None:
    chosen = animals(specimens, seed=seed, prevalence=prevalence)
    assert len(chosen) == specimens
    assert sum(bool(each.findings) for each in chosen) == round(prevalence * specimens)
    assert [each.number for each in chosen] == list(range(specimens))


@given(specimens=st.integers(1, 150), seed=st.integers(0, 2**40))
def test_what_an_archive_says_of_its_animals_fits_together(specimens: int, seed: int) -> None:
    chosen = animals(specimens, seed=seed)
    assert len({(each.centre.name, each.specimen_id) for each in chosen}) == specimens
    homes = defaultdict(set)
    for each in chosen:
        control = each.group == "control"
        assert control == (each.colony_id == BASELINE) == (not each.gene_symbol) == (not each.zygosity)
        assert control or each.allele_symbol == f"{each.gene_symbol}<tm1b(phantom)>"
        assert 12 <= each.age_weeks <= 15
        assert all(SEVERITIES[0] <= severity <= SEVERITIES[1] for severity in each.findings.values())
        if not control:
            homes[each.colony_id].add(
                (each.centre.name, each.gene_symbol, each.zygosity, each.date_of_experiment)
            )
    assert all(len(facts) == 1 for facts in homes.values())
    assert len(homes) == len({each.gene_symbol for each in chosen} - {""})


def test_half_of_a_centre_is_controls_and_lines_have_about_ten_mutants_of_both_sexes() -> None:
    chosen = animals(800)
    groups = Counter((each.centre.name, each.group) for each in chosen)
    for centre in read_centres():
        assert 0 <= groups[centre.name, "experimental"] - groups[centre.name, "control"] <= 1
    lines = defaultdict(list)
    for each in chosen:
        if each.colony_id != BASELINE:
            lines[each.colony_id].append(each.sex)
    assert all(LINE_SIZE * 0.6 <= len(sexes) <= LINE_SIZE * 1.5 for sexes in lines.values())
    assert all(set(sexes) == {"female", "male"} for sexes in lines.values())


def test_findings_run_in_lines_and_every_class_has_its_share() -> None:
    chosen = animals(2000, prevalence=0.1)
    sick = Counter(each.colony_id for each in chosen if each.findings)
    in_lines = sum(count for colony, count in sick.items() if colony != BASELINE and count >= 3)
    assert in_lines >= 0.7 * 200
    by_class = Counter(node for each in chosen for node in {NODES[name] for name in each.findings})
    assert set(by_class) == set(NODES.values())
    assert min(by_class.values()) >= 0.3 * max(by_class.values())


def test_the_same_seed_casts_the_same_animals_and_another_others() -> None:
    assert animals(60, seed=5) == animals(60, seed=5)
    assert animals(60, seed=5) != animals(60, seed=6)


def crowd(share: float, specimens: int = 600, crowded: float = 1.0) -> list[set[str]]:
    """The classes of each animal with findings."""
    chosen = choose_specimens(
        specimens,
        seed=1,
        prevalence=0.5,
        centres=read_centres(),
        nodes=NODES,
        class_share=share,
        crowded=crowded,
    )
    return [{NODES[name] for name in each.findings} for each in chosen if each.findings]


def test_an_archive_to_learn_from_may_be_crowded() -> None:
    few, usual, many = (np.mean([len(classes) for classes in crowd(share)]) for share in (0, 0.1, 0.5))
    assert few < usual < many
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="MX-U001"):
            crowd(share)


def test_only_a_share_of_the_lines_may_be_crowded() -> None:
    none, some, most, all_ = (
        np.mean([len(classes) <= 2 for classes in crowd(0.5, 4000, crowded)]) for crowded in (0, 0.4, 0.7, 1)
    )
    assert none > some > most > all_
    assert abs(most - (0.7 * all_ + 0.3 * none)) < 0.06
    assert crowd(0.5, crowded=0) == crowd(0.1)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="crowded is a share"):
            crowd(0.5, crowded=share)


def test_in_a_crowded_archive_no_class_tells_of_another() -> None:
    names = sorted(set(NODES.values()))
    has = np.array([[name in classes for name in names] for classes in crowd(0.5, specimens=20_000)])
    between = np.corrcoef(has.T)[~np.eye(len(names), dtype=bool)]
    # lines share what they have, so some thousand animals say as much as some hundred that were drawn one by one
    assert abs(between.mean()) < 0.03
    assert np.abs(between).max() < 0.15


@pytest.mark.parametrize(
    ("specimens", "prevalence"), [(0, 0.1), (-3, 0.1), (5, -0.1), (5, 1.1), (5, float("nan"))]
)
def test_an_impossible_cast_is_refused(specimens: int, prevalence: float) -> None:
    with pytest.raises(UsageError, match="MX-U001"):
        animals(specimens, prevalence=prevalence)


# --- what is written about them ---


def test_the_columns_are_fields_of_the_solr_core() -> None:
    assert {"external_sample_id", "phenotyping_center", "procedure_stable_id", "date_of_experiment"} < set(
        COLUMNS
    )
    assert {"parameter_stable_id", "category", "data_point"} < set(COLUMNS)


def test_a_perfect_scorer_answers_every_parameter_of_a_normal_animal_with_its_normal_word() -> None:
    answers = answer(animal(), Scorer.perfect(), rng(), tibia_mm=18.0)
    assert set(answers) == set(parameters())
    for id, parameter in parameters().items():
        assert parameter.kind == "length" or is_normal(parameter, answers[id]), id
    assert answers["IMPC_XRY_031"] == "yes"
    assert answers["IMPC_XRY_033"] == pytest.approx(18, abs=0.5)


@pytest.mark.parametrize("finding", FINDINGS.values(), ids=lambda finding: finding.name)
def test_a_finding_turns_its_own_parameters_abnormal_and_no_other(finding) -> None:
    answers = answer(animal(finding.name), Scorer.perfect(), rng())
    abnormal = {id for id, value in answers.items() if not is_normal(parameters()[id], value)}
    assert abnormal == set(finding.parameters)
    for id in abnormal:
        parameter = parameters()[id]
        assert parameter.kind == "count" or answers[id] in parameter.abnormal


def test_differences_of_one_count_add_up() -> None:
    deltas = {
        finding.name: finding.parameters["IMPC_XRY_014"]
        for finding in FINDINGS.values()
        if "IMPC_XRY_014" in finding.parameters
    }
    answers = answer(animal(*deltas), Scorer.perfect(), rng())
    assert answers["IMPC_XRY_014"] == 13 + sum(deltas.values())


def test_subtle_findings_are_missed_and_plain_ones_are_not() -> None:
    scorer = Scorer(missed=0.1)
    assert missed(0.3, scorer) == pytest.approx(0.1)
    assert missed(0.5, scorer) == pytest.approx(0.05)
    assert missed(0.7, scorer) == missed(1.0, scorer) == 0
    blind = replace(Scorer.perfect(), missed=1.0)
    subtle, plain = (answer(animal("scoliosis", severity=severity), blind, rng()) for severity in (0.3, 0.8))
    assert subtle["IMPC_XRY_056"] == "no"
    assert plain["IMPC_XRY_056"] == "yes"


def test_a_centre_of_the_first_set_says_nothing_of_the_rest_or_calls_it_image_only() -> None:
    first = {id for id in parameters() if int(id[-3:]) <= 31}
    silent = answer(animal(centre=CORE), Scorer.perfect(), rng())
    loud = answer(animal(centre=IMAGE_ONLY), Scorer.perfect(), rng())
    assert set(silent) == first
    assert {id for id, value in loud.items() if value == "imageOnly"} == set(parameters()) - first - {
        "IMPC_XRY_033"
    }


def test_rates_of_wrong_and_missing_answers_are_those_asked_for() -> None:
    scorer = Scorer(missed=0, false_positive=0.1, image_only=0.2, unobservable=0.0, tail_tipped=0)
    found: Counter[str] = Counter()
    categories = {id for id, parameter in parameters().items() if parameter.kind == "category"}
    for seed in range(100):
        given_ = answer(animal(), scorer, rng(seed))
        found.update(
            "image only"
            if given_[id] == "imageOnly"
            else "normal"
            if is_normal(parameters()[id], given_[id])
            else "wrong"
            for id in categories
        )
        found["count"] += sum(
            not is_normal(parameter, given_[id])
            for id, parameter in parameters().items()
            if parameter.kind == "count"
        )
    asked = 100 * len(categories)
    assert found["image only"] / asked == pytest.approx(0.2, abs=0.03)
    assert found["wrong"] / asked == pytest.approx(0.08, abs=0.02)
    assert found["count"] / (100 * 8) == pytest.approx(0.1, abs=0.04)


def test_every_required_parameter_gets_a_word_the_taxonomy_knows() -> None:
    missing = set(read_taxonomy().missing)
    for centre in read_centres():
        answers = answer(animal(centre=centre), Scorer(unobservable=0.5), rng(2))
        for id in (id for id in parameters() if int(id[-3:]) <= 31):
            parameter = parameters()[id]
            known = {*parameter.normal, *parameter.abnormal, *missing}
            assert parameter.kind == "count" or answers[id] in known


def test_tipped_tails_have_fewer_vertebrae() -> None:
    answers = answer(animal(), replace(Scorer.perfect(), tail_tipped=1.0), rng())
    assert 24 <= float(answers["IMPC_XRY_017"]) <= 27


def test_rows_hold_words_as_categories_and_numbers_as_data_points() -> None:
    one = animal("scoliosis")
    table = [
        dict(zip(COLUMNS, row, strict=True))
        for row in rows(one, {"IMPC_XRY_056": "yes", "IMPC_XRY_008": 12.0})
    ]
    word, number = table
    assert (word["parameter_stable_id"], word["category"], word["data_point"]) == (
        "IMPC_XRY_056_001",
        "yes",
        "",
    )
    assert (number["category"], number["data_point"], number["observation_type"]) == (
        "",
        "12",
        "unidimensional",
    )
    assert word["external_sample_id"] == one.specimen_id
    assert word["observation_id"] != number["observation_id"]


def test_an_impossible_rate_is_refused() -> None:
    with pytest.raises(UsageError, match=r"MX-U001.*missed"):
        Scorer(missed=1.5)


def test_the_page_on_phantoms_names_every_option_and_every_column() -> None:
    page = (Path(__file__).parents[2] / "docs" / "phantoms.md").read_text("utf-8")
    names = {*COLUMNS, *(field.name for kind in (Nuisance, Scorer) for field in fields(kind))}
    assert {name for name in names if f"`{name}`" not in page} == set()
