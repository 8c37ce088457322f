"""The arithmetic of the benchmark; what it measures is nobody's to judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from mxbatch.bench.score import distinct_contents, share_of


@pytest.mark.parametrize(
    ("amount", "workers", "share"), [(320, 2, 160), (320, 3, 96), (320, 16, 32), (320, 64, 32), (1, 1, 32)]
)
def test_each_worker_does_whole_batches_and_one_at_least(amount: int, workers: int, share: int) -> None:
    assert share_of(amount, workers, 32) == share


def test_files_are_distinct_by_their_bytes_and_not_by_their_size(tmp_path: Path) -> None:
    contents = {"a": b"one", "copy of a": b"one", "b": b"two", "c": b"three"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link to b").symlink_to("b")
    assert distinct_contents(tmp_path.iterdir()) == 3
