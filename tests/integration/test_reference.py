"""The model that comes along: small, open about what it has learned from, there without being asked for, and right
about most phantoms that it never saw. docs/training.md has its figures on 400 of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run

import mxbatch as front_door
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.model_store import resolve_model
from mxbatch.trainer.judge import judge
from mxbatch.trainer.metrics import mean_auc
from mxbatch.trainer.phantom.archive import draw_archive

MEGABYTES = 10
SPECIMENS = 120


@pytest.fixture(scope="module")
def reference() -> Bundle:
    return resolve_model(None)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of a seed that neither the training nor docs/training.md has used."""
    root = tmp_path_factory.mktemp("unseen") / "archive"
    draw_archive(root, specimens=SPECIMENS, seed=77, prevalence=0.6, class_share=0.5, size=560)
    return root


def test_it_is_small_and_says_what_it_has_learned_from(reference: Bundle) -> None:
    assert sum(path.stat().st_size for path in reference.path.iterdir()) <= MEGABYTES * 1e6
    assert reference.learned_from == "phantoms"
    assert reference.model_id.startswith("phantom-")
    assert reference.info["licence"] == "Apache-2.0"
    assert "phantoms" in (reference.path / "MODEL_CARD.md").read_text("utf-8")


def test_it_scores_where_no_model_is_named_and_every_row_says_so(
    mxbatch: Run, unseen: Path, tmp_path: Path, reference: Bundle
) -> None:
    done = mxbatch("score", unseen, "--limit", 3, MXBATCH_MODEL="")
    assert done.returncode == 0, done.stderr
    assert "trained on phantoms" in done.stdout
    rows = front_door.read_calls(tmp_path / "mxbatch-out").to_pylist()
    assert {row["model_id"] for row in rows} == {reference.model_id}
    assert all("phantom_model" in row["flags"] for row in rows)


@pytest.mark.parametrize(
    ("views", "least"), [(None, {1: 0.85, 2: 0.8, 3: 0.75}), (["dv"], {1: 0.7}), (["lv"], {1: 0.7})]
)
def test_it_ranks_unseen_phantoms_by_all_their_views_and_by_either_alone(
    views: list[str] | None, least: dict[int, float], reference: Bundle, unseen: Path
) -> None:
    """Bounds are well below the figures of docs/training.md, because so few animals make a coarse measure."""
    judged = judge(reference, unseen, views=views)
    assert len(judged.keys) > 0.9 * SPECIMENS
    auc = mean_auc(judged.p_NK, judged.labels_NK, reference.taxonomy)
    assert all(auc[level] >= bound for level, bound in least.items()), auc


def test_it_still_ranks_radiographs_whose_views_nobody_named(reference: Bundle, unseen: Path) -> None:
    judged = judge(reference, unseen, unnamed=True)
    assert mean_auc(judged.p_NK, judged.labels_NK, reference.taxonomy)[1] >= 0.7
