"""A scorer gives a specimen the same numbers in any company, and none where the golden numbers fail."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from echo import EchoScorer
from numpy.typing import NDArray

from mxbatch.engine.bundle import Bundle, load_model, write_untrained
from mxbatch.engine.calls import call_columns
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.runtime.golden import check_golden, golden_images, read_golden
from mxbatch.engine.runtime.head import FUSE_CHUNK
from mxbatch.engine.runtime.scorer import RUNTIMES, Scorer, open_scorer
from mxbatch.engine.taxonomy import read_taxonomy
from mxbatch.kernels.tree import probabilities

BATCH, SIZE, T = 8, 64, 4
TAXONOMY = read_taxonomy()
BACKBONES = {
    "convnext": {"name": "convnext_atto"},
    "convnext-linear": {"name": "convnext_atto", "conv_mlp": False},
    "cae": {"kind": "cae", "name": "tiny", "widths": [8, 16]},
}


def recipe(backbone: str) -> Recipe:
    return Recipe.from_dict(
        {
            "name": "test",
            "max_radiographs": T,
            "backbone": BACKBONES[backbone],
            "head": {"width": 32},
            "input": {"size": SIZE},
        }
    )


@pytest.fixture(scope="module", params=list(BACKBONES))
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_untrained(tmp_path_factory.mktemp("bundles") / "bundle", recipe=recipe(request.param))


@pytest.fixture(scope="module", params=["eager", "echo"])
def scorer(request: pytest.FixtureRequest, bundle: Bundle) -> Scorer:
    return EchoScorer(TAXONOMY, batch=BATCH) if request.param == "echo" else open_scorer(bundle, batch=BATCH)


def pictures(seed: int, count: int = BATCH) -> NDArray[np.uint8]:
    return np.concatenate([golden_images(SIZE, seed + at) for at in range(0, count, 4)])[:count]


def specimens(
    scorer: Scorer, count: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    features = rng.random((count, T, scorer.feature_dim), np.float32)
    return features, rng.integers(0, 7, (count, T)), rng.random((count, T)) < 0.6


def test_shapes_and_types_are_those_of_the_contract(scorer: Scorer) -> None:
    features = scorer.encode(pictures(0))
    assert (features.shape, features.dtype) == ((BATCH, scorer.feature_dim), np.float32)
    for count in (0, 1, 3):
        probabilities = scorer.fuse(*specimens(scorer, count))
        assert (probabilities.shape, probabilities.dtype) == ((count, len(TAXONOMY.nodes)), np.float32)


def test_a_picture_gives_the_same_bits_in_every_slot(scorer: Scorer) -> None:
    images = pictures(0)
    features = scorer.encode(images)
    assert len(np.unique(features, axis=0)) == BATCH
    for shift in range(1, BATCH):
        assert np.array_equal(scorer.encode(np.roll(images, shift, axis=0)), np.roll(features, shift, axis=0))


@pytest.mark.parametrize("filling", [0, 255, "noise"])
def test_a_picture_gives_the_same_bits_beside_any_neighbours(scorer: Scorer, filling: int | str) -> None:
    images = pictures(0)
    features = scorer.encode(images)
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    for slot in range(BATCH):
        company = noise.copy() if filling == "noise" else np.full_like(images, filling)
        company[slot] = images[slot]
        assert np.array_equal(scorer.encode(company)[slot], features[slot])


def test_a_specimen_gives_the_same_bits_in_any_company(scorer: Scorer) -> None:
    count = FUSE_CHUNK + 5
    case = specimens(scorer, count)
    together = scorer.fuse(*case)
    order = np.random.default_rng(1).permutation(count)
    assert np.array_equal(scorer.fuse(*(part[order] for part in case)), together[order])
    for at in (0, 3, FUSE_CHUNK - 1, FUSE_CHUNK, count - 1):
        assert np.array_equal(scorer.fuse(*(part[at : at + 1] for part in case)), together[at : at + 1])


def test_trailing_masked_radiographs_may_be_left_away(scorer: Scorer) -> None:
    features, views, mask = specimens(scorer, 5)
    mask[:, 2:] = False
    assert np.array_equal(
        scorer.fuse(features[:, :2], views[:, :2], mask[:, :2]), scorer.fuse(features, views, mask)
    )


def test_probabilities_fall_along_every_path(scorer: Scorer) -> None:
    probabilities = scorer.fuse(*specimens(scorer, 20))
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    for child, parent in enumerate(TAXONOMY.parents):
        assert parent < 0 or (probabilities[:, child] <= probabilities[:, parent]).all()


@pytest.mark.parametrize(
    "images", [np.zeros((BATCH - 1, SIZE, SIZE), np.uint8), np.zeros((BATCH, SIZE, SIZE), np.float32)]
)
def test_a_batch_of_another_size_or_type_is_refused(scorer: Scorer, images: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="encode takes uint8"):
        scorer.encode(images)


def test_eager_is_the_model_and_the_tree_and_nothing_else(bundle: Bundle) -> None:
    scorer, model = open_scorer(bundle, batch=BATCH), load_model(bundle)
    images = pictures(3)
    features, views, mask = specimens(scorer, 6)
    scale, bias = torch.tensor(bundle.calibration.scale), torch.tensor(bundle.calibration.bias)
    with torch.inference_mode():
        encoded = model.encoder(torch.tensor(images)[:, None])
        logits = model.head(torch.tensor(features), torch.tensor(views), torch.tensor(mask))
    np.testing.assert_allclose(scorer.encode(images), encoded, rtol=1e-4, atol=1e-4)
    expected = probabilities(logits, TAXONOMY.parents, scale, bias, conditional=True)
    np.testing.assert_allclose(scorer.fuse(features, views, mask), expected, rtol=1e-3, atol=1e-5)


def test_more_radiographs_than_the_model_looks_at_are_refused(bundle: Bundle) -> None:
    scorer = open_scorer(bundle, batch=BATCH)
    with pytest.raises(ValueError, match="looks at 4 radiographs per specimen, got 5"):
        scorer.fuse(
            np.zeros((1, 5, scorer.feature_dim), np.float32), np.zeros((1, 5), int), np.ones((1, 5), bool)
        )


def test_untrained_calls_differ_between_specimens(bundle: Bundle) -> None:
    scorer = open_scorer(bundle, batch=32)
    features = scorer.encode(pictures(0, 32))
    calls = set()
    for radiographs in (1, 4):
        shape = (32 // radiographs, radiographs)
        tokens = features.reshape(*shape, -1)
        probabilities = scorer.fuse(tokens, np.ones(shape, int), np.ones(shape, bool))
        calls |= set(call_columns(probabilities, bundle.thresholds, TAXONOMY)["call"])
    assert {"normal", "abnormal"} <= calls


@pytest.mark.parametrize("batch", [1, 3, 4, 9])
def test_the_golden_numbers_come_out_at_any_batch_size(bundle: Bundle, batch: int) -> None:
    assert open_scorer(bundle, batch=batch).batch == batch


@pytest.mark.parametrize("what", ["features", "probabilities"])
@pytest.mark.parametrize("drift", [0.01, np.nan])
def test_a_runtime_that_drifts_is_refused(bundle: Bundle, what: str, drift: float) -> None:
    golden = read_golden(bundle.path)
    values = getattr(golden, what).copy()
    values.flat[-1] += drift * max(np.abs(values).max(), 1)
    scorer = open_scorer(bundle, batch=BATCH)
    with pytest.raises(EnvironmentFault, match=f"golden {what} differ") as raised:
        check_golden(scorer, dataclasses.replace(golden, **{what: values}), bundle.path)
    assert raised.value.code == "MX-M003"


def test_a_runtime_that_is_wrong_in_one_slot_is_refused(bundle: Bundle) -> None:
    scorer = open_scorer(bundle, batch=BATCH)
    right = scorer.encode

    def wrong(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        features = right(images)
        features[-1] *= 1.1
        return features

    scorer.encode = wrong  # type: ignore[method-assign]
    with pytest.raises(EnvironmentFault, match="golden features differ"):
        check_golden(scorer, read_golden(bundle.path), bundle.path)


def test_a_model_of_another_shape_is_refused(bundle: Bundle) -> None:
    with pytest.raises(EnvironmentFault, match="features have the shape"):
        check_golden(EchoScorer(TAXONOMY, batch=BATCH), read_golden(bundle.path), bundle.path)


def test_golden_numbers_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "golden.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(EnvironmentFault, match="cannot be read") as raised:
        read_golden(tmp_path)
    assert raised.value.code == "MX-M002"


def test_an_unknown_runtime_is_answered_with_the_known_ones(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=f"no runtime 'egaer'; known are {', '.join(RUNTIMES)}") as raised:
        open_scorer(bundle, runtime="egaer")
    assert raised.value.code == "MX-U001"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"device": "toaster"}, "no device 'toaster'"),
    ],
)
def test_an_impossible_option_is_refused(bundle: Bundle, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        open_scorer(bundle, **options)  # type: ignore[arg-type]
    assert raised.value.code == "MX-U001"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_gpu_that_is_not_there_is_a_plain_answer(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="no device 'cuda'"):
        open_scorer(bundle, device="cuda")
