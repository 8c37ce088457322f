"""A labelled archive as training sees it: what scoring would see, decoded once."""

from __future__ import annotations

import csv
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bad_files
import corpus
import numpy as np
import pytest
from numpy.typing import NDArray

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.radiograph import decode
from mxbatch.engine.errors import EnvironmentFault, RadiographError, UsageError
from mxbatch.engine.feed import Loaded, Loader
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.taxonomy import read_taxonomy
from mxbatch.trainer.data import Dataset, batch, load_dataset
from mxbatch.trainer.decoded import NOTE, PIXELS

TAXONOMY = read_taxonomy()
SKULL = TAXONOMY.names.index("skull")
SIZE = 16
INDEX = ("file", "centre", "specimen", "procedure", "date", "view", "colony")
SCORES = ("centre", "specimen", "procedure", "date", "parameter", "answer")


def recipe(*views: str, radiographs: int = 8, size: int = SIZE) -> Recipe:
    return Recipe.from_dict(
        {
            "name": "test",
            "views": views or ("dv", "lv"),
            "max_radiographs": radiographs,
            "input": {"size": size},
        }
    )


def write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *rows])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Four mice of one centre: `c` has a damaged lateral view, `d` its forepaw alone."""
    root = tmp_path / "archive"
    root.mkdir()
    files = {
        "b-lv.png": corpus.png(20, 40),
        "b-dv.png": corpus.png(40, 20),
        "a-dv.png": corpus.png(30, 30),
        "c-dv.png": corpus.png(20, 30),
        "c-lv.png": bad_files.zero_bytes(),
        "d-forepaw.png": corpus.png(25, 25),
    }
    for name, content in files.items():
        (root / name).write_bytes(content)
    mice = {"a": "line-1", "b": "baseline", "c": "", "d": "line-2"}
    write_csv(
        root / "index.csv",
        INDEX,
        [
            (name, "BCM", name[0], "IMPC_XRY_001", "2015-03-02", name[2:-4], mice[name[0]])
            for name in reversed(files)
        ],
    )
    answers = {"a": "normal", "b": "abnormal", "d": "normal"}
    write_csv(
        root / "experiment.csv",
        SCORES,
        [("BCM", m, "IMPC_XRY_001", "2015-03-02", "IMPC_XRY_001_001", said) for m, said in answers.items()],
    )
    return root


def load(archive: Path, like: Recipe | None = None, **options: Any) -> Dataset:
    options = {"cache": archive.parent / "cache", "threads": 1, **options}
    return load_dataset(archive, like or recipe(), TAXONOMY, **options)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened for decoding, in order."""
    paths: list[str] = []
    original = Loader.load

    def load(self: Loader, radiograph: Any) -> Loaded:
        paths.append(radiograph.path)
        return original(self, radiograph)

    monkeypatch.setattr(Loader, "load", load)
    return paths


def cache_of(archive: Path) -> Path:
    (folder,) = (path for path in (archive.parent / "cache").iterdir() if path.is_dir())
    return folder


def as_decoded(file: Path, size: int = SIZE) -> NDArray[np.uint8]:
    return decode(file.read_bytes(), InputContract(size=size), Limits()).image


# --- the data set ---


def test_specimens_are_sorted_and_hold_what_the_engine_would_decode(archive: Path) -> None:
    data = load(archive)
    assert [key[1] for key in data.keys] == ["a", "b", "c"]
    assert data.keys[0] == ("BCM", "a", "IMPC_XRY_001", "2015-03-02")
    assert data.first.tolist() == [0, 1, 3, 4]
    assert data.views.tolist() == [1, 1, 2, 1]
    for image, name in zip(data.images, ["a-dv", "b-dv", "b-lv", "c-dv"], strict=True):
        assert np.array_equal(image, as_decoded(archive / f"{name}.png"))
    assert data.colonies == ("line-1", "baseline", "")
    assert data.centres == ("BCM",) * 3


def test_labels_stand_beside_their_specimens(archive: Path) -> None:
    assert load(archive).labels[:, SKULL] == pytest.approx([0, 1, np.nan], nan_ok=True)


def test_what_cannot_be_decoded_is_named_and_the_specimen_keeps_the_rest(archive: Path) -> None:
    notes: list[str] = []
    data = load(archive, note=notes.append)
    assert data.quarantined == (("MX-D003", "c-lv.png", "the file has zero bytes"),)
    assert any("1 radiographs cannot be used, the first: MX-D003 c-lv.png" in note for note in notes)


def test_what_the_index_refuses_is_named_too(archive: Path) -> None:
    (archive / "a-dv.png").unlink()
    data = load(archive)
    assert [(code, path) for code, path, _ in data.quarantined] == [
        ("MX-A101", "a-dv.png"),
        ("MX-D003", "c-lv.png"),
    ]
    assert [key[1] for key in data.keys] == ["b", "c"]


def test_a_recipe_of_one_view_sees_one_view_and_leaves_out_who_has_none(
    archive: Path, opened: list[str]
) -> None:
    notes: list[str] = []
    data = load(archive, recipe("lv"), note=notes.append)
    assert opened == ["b-lv.png", "c-lv.png"]
    assert [key[1] for key in data.keys] == ["b"]
    assert data.left_out == 3
    assert "3 specimens have no usable radiograph of the views lv: left out" in notes


def test_labels_do_not_depend_on_the_views_of_a_recipe(archive: Path) -> None:
    assert np.array_equal(load(archive, recipe("lv")).labels, load(archive).labels[1:2], equal_nan=True)


def test_the_same_file_twice_under_one_view_is_seen_once_as_in_scoring(archive: Path) -> None:
    (archive / "a-again.png").write_bytes((archive / "a-dv.png").read_bytes())
    with (archive / "index.csv").open("a", newline="") as handle:
        csv.writer(handle).writerow(("a-again.png", "BCM", "a", "IMPC_XRY_001", "2015-03-02", "dv", "line-1"))
    assert load(archive).first.tolist() == [0, 1, 3, 4]


def test_without_labels_no_table_of_answers_is_needed(archive: Path) -> None:
    (archive / "experiment.csv").unlink()
    data = load(archive, labelled=False)
    assert data.labels.shape == (3, len(TAXONOMY.nodes))
    assert np.isnan(data.labels).all()


def test_an_archive_without_labels_is_refused_before_anything_is_decoded(
    archive: Path, opened: list[str]
) -> None:
    (archive / "experiment.csv").unlink()
    with pytest.raises(UsageError, match="MX-T001"):
        load(archive)
    assert opened == []


def test_answers_about_other_animals_only_are_no_labels(archive: Path) -> None:
    others = archive.parent / "others.csv"
    others.write_text("specimen,parameter,category\nx,IMPC_XRY_001_001,normal\n")
    with pytest.raises(
        UsageError, match="1 answers about specimens that the archive does not hold"
    ) as caught:
        load(archive, scores=others)
    assert caught.value.code == "MX-T001"


def test_an_archive_without_the_recipes_views_is_refused(archive: Path) -> None:
    with pytest.raises(EnvironmentFault, match="no usable radiograph of the views hind_leg"):
        load(archive, recipe("hind_leg"))


def test_the_fingerprint_follows_labels_files_and_contract(archive: Path) -> None:
    first = load(archive).fingerprint
    assert load(archive).fingerprint == first
    assert load(archive, recipe(size=32)).fingerprint != first
    assert load(archive, labelled=False).fingerprint != first
    (archive / "a-dv.png").write_bytes(corpus.png(31, 31))
    assert load(archive).fingerprint != first


# --- the cache ---


def test_a_radiograph_is_decoded_once(archive: Path, opened: list[str]) -> None:
    first, done = load(archive), len(opened)
    again = load(archive)
    assert len(opened) == done
    assert np.array_equal(first.images, again.images)
    assert first.quarantined == again.quarantined


@pytest.mark.parametrize(
    "harm",
    [
        lambda cache: os.truncate(cache / PIXELS, 100),
        lambda cache: (cache / PIXELS).unlink(),
        lambda cache: (cache / NOTE).write_text('{"rows": ['),
        lambda cache: (cache / NOTE).write_text(json.dumps({"rows": [0], "refused": []})),
        lambda cache: (cache / NOTE).write_text("[]"),
    ],
    ids=["truncated", "no pixels", "note cut", "note of another", "no note"],
)
def test_a_damaged_cache_is_made_again(archive: Path, opened: list[str], harm: Any) -> None:
    whole = np.array(load(archive).images)
    harm(cache_of(archive))
    opened.clear()
    assert np.array_equal(load(archive).images, whole)
    assert len(opened) == 5
    assert {path.name for path in cache_of(archive).iterdir()} == {PIXELS, NOTE}


def test_a_changed_file_is_decoded_again(archive: Path) -> None:
    load(archive)
    (archive / "a-dv.png").write_bytes(corpus.png(50, 10))
    assert np.array_equal(load(archive).images[0], as_decoded(archive / "a-dv.png"))


def test_a_file_that_could_not_be_read_is_tried_again(
    archive: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    original = Loader.load

    def load_but_one(self: Loader, radiograph: Any) -> Loaded:
        if radiograph.path == "a-dv.png":
            return Loaded(error=RadiographError("MX-D001", "permission denied"))
        return original(self, radiograph)

    with monkeypatch.context() as patch:
        patch.setattr(Loader, "load", load_but_one)
        assert [key[1] for key in load(archive).keys] == ["b", "c"]
    assert [key[1] for key in load(archive).keys] == ["a", "b", "c"]


def test_a_decoding_that_is_stopped_leaves_nothing_half_written(archive: Path) -> None:
    def stop(done: int, all: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(archive, progress=stop)
    assert [path.suffix for path in (archive.parent / "cache").iterdir()] == [".lock"]


def test_who_comes_second_waits_and_decodes_nothing(archive: Path, opened: list[str]) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: load(archive), range(2))
    assert sorted(opened) == sorted(set(opened))
    assert np.array_equal(first.images, second.images)


def test_progress_counts_to_the_last_radiograph(archive: Path) -> None:
    steps: list[tuple[int, int]] = []
    load(archive, progress=lambda done, all: steps.append((done, all)))
    assert steps == [(n, 5) for n in range(1, 6)]


def test_a_file_in_the_caches_place_is_named(archive: Path) -> None:
    (archive.parent / "taken").write_text("")
    with pytest.raises(EnvironmentFault, match="MX-E005"):
        load(archive, cache=archive.parent / "taken")


# --- batches ---


def drawn(*views: list[int]) -> Dataset:
    """Specimens with radiographs of these views; picture r is filled with r + 1."""
    counts = [len(some) for some in views]
    return Dataset(
        images=np.repeat(np.arange(1, sum(counts) + 1, dtype=np.uint8), 4).reshape(-1, 2, 2),
        views=np.array([view for some in views for view in some], np.int64),
        first=np.cumsum([0, *counts]),
        labels=np.arange(len(views), dtype=np.float32)[:, None],
        answers=np.empty((len(views), 0), np.float32),
        keys=tuple(("", str(n), "", "") for n in range(len(views))),
        colonies=("",) * len(views),
        centres=("",) * len(views),
        quarantined=(),
        fingerprint="",
    )


def test_a_batch_holds_its_specimens_in_the_order_asked_for() -> None:
    images, views, mask, labels = batch(drawn([1], [1, 2], [2]), np.array([1, 0]), radiographs=8)
    assert images.shape == (2, 2, 1, 2, 2)
    assert images[..., 0, 0, 0].tolist() == [[2, 3], [1, 0]]
    assert views.tolist() == [[1, 2], [1, 0]]
    assert mask.tolist() == [[True, True], [True, False]]
    assert labels.tolist() == [[1], [0]]
    assert (images.dtype, views.dtype, mask.dtype, labels.dtype) == (np.uint8, np.int64, np.bool_, np.float32)


@pytest.mark.parametrize(
    ("views", "kept"),
    [([1, 1, 2, 3], [1, 3, 4]), ([1, 2, 3, 4], [1, 2, 3]), ([1, 1, 1, 1, 2], [1, 2, 5])],
)
def test_of_too_many_radiographs_the_last_repeat_of_a_view_goes_first(
    views: list[int], kept: list[int]
) -> None:
    images, _, mask, _ = batch(drawn(views), np.array([0]), radiographs=3)
    assert mask.all()
    assert images[0, :, 0, 0, 0].tolist() == kept


def test_a_batch_of_nobody_is_empty() -> None:
    images, _, mask, labels = batch(drawn([1]), np.array([], np.int64), radiographs=8)
    assert (len(images), len(mask), len(labels)) == (0, 0, 0)
