"""Labels from truth.csv: what was drawn is abnormal up to the root, all else is normal, and nothing is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mxbatch.engine.errors import UsageError
from mxbatch.engine.taxonomy import read_taxonomy
from mxbatch.trainer.phantom.truth import drawn_labels

TAXONOMY = read_taxonomy()
HEADER = "phenotyping_center,external_sample_id,finding,node,severity\n"
KEYS = [
    ("JAX", "1", "IMPC_XRY_001", "2026-01-01"),
    ("JAX", "2", "IMPC_XRY_001", "2026-01-01"),
    ("BCM", "1", "IMPC_XRY_001", "2026-01-01"),
    ("JAX", "1", "IMPC_XRY_001", "2026-02-01"),
]


def abnormal(labels):
    """Per specimen, the names of what is abnormal."""
    assert set(labels.ravel().tolist()) <= {0.0, 1.0}
    return [{name for name, label in zip(TAXONOMY.names, row, strict=True) if label} for row in labels]


def test_a_finding_makes_its_class_and_all_above_it_abnormal_in_every_examination(tmp_path: Path) -> None:
    rows = (
        "JAX,1,malocclusion,jaw_teeth,0.6\nJAX,1,flared_rib_cage,ribs,0.9\nBCM,9,flared_rib_cage,ribs,0.5\n"
    )
    (tmp_path / "truth.csv").write_text(HEADER + rows)
    both = {"abnormal", "craniofacial", "jaw_teeth", "axial", "ribs"}
    assert abnormal(drawn_labels(tmp_path, KEYS, TAXONOMY)) == [both, set(), set(), both]


def test_of_real_animals_nobody_knows_the_truth(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"MX-U001.*the truth is known of phantoms alone"):
        drawn_labels(tmp_path, KEYS, TAXONOMY)


def test_a_class_of_another_taxonomy_is_named(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text(f"{HEADER}JAX,1,wings,feathers,0.6\n")
    with pytest.raises(UsageError, match=r"MX-U001.*no class .feathers."):
        drawn_labels(tmp_path, KEYS, TAXONOMY)
