"""Local contrast: what a pixel is beside its surroundings, the same whatever the exposure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mxbatch.engine.errors import UsageError
from mxbatch.engine.models.contrast import LocalContrast, cell_side
from mxbatch.engine.models.hierarchical import build_encoder
from mxbatch.engine.models.recipe import Backbone, Recipe

SIDE = 128
TINY = {"widths": [4, 8], "latent": 8}


def contrast(picture: Tensor) -> Tensor:
    return LocalContrast()(picture[None, None])[0, 0]


def belly_with_ribs() -> Tensor:
    """A bright belly in the dark, with ribs that are a hundredth of it brighter."""
    picture = torch.full((SIDE, SIDE), 0.1)
    picture[:, 32:96] = 0.7
    picture[40:88:6, 40:88] += 0.02
    return picture


def test_a_faint_rib_becomes_a_plain_one() -> None:
    grey, shown = belly_with_ribs(), contrast(belly_with_ribs())
    rib, gap = (slice(40, 88, 6), slice(60, 70)), (slice(43, 88, 6), slice(60, 70))
    before = (grey[rib].mean() - grey[gap].mean()) / grey.std()
    after = (shown[rib].mean() - shown[gap].mean()) / shown.std()
    assert after > 10 * before


def test_a_flat_picture_has_no_contrast() -> None:
    assert float(contrast(torch.full((SIDE, SIDE), 0.6)).abs().max()) < 1e-3


@pytest.mark.parametrize(("gain", "offset"), [(0.7, 0.0), (1.0, 0.2), (0.8, 0.1)])
def test_exposure_hardly_matters(gain: float, offset: float) -> None:
    one, other = contrast(belly_with_ribs()), contrast(belly_with_ribs() * gain + offset)
    assert float((one - other).abs().mean()) < 0.2 * float(one.abs().mean())


def test_noise_of_the_open_beam_is_not_made_a_mountain() -> None:
    noise = 0.1 + 0.004 * torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert float(contrast(noise).std()) < 0.25


def test_pictures_do_not_look_at_each_other() -> None:
    pictures = torch.rand(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    together = LocalContrast()(pictures)
    alone = torch.cat([LocalContrast()(picture[None]) for picture in pictures])
    assert torch.equal(together, alone)


@given(st.integers(1, 1024))
def test_cells_divide_every_side(side: int) -> None:
    cell = cell_side(side)
    assert side % cell == 0
    assert side // cell >= min(side, 56)


@given(st.integers(4, 40))
def test_every_size_keeps_its_shape_and_stays_finite(side: int) -> None:
    picture = torch.from_numpy(np.random.default_rng(side).random((2, 1, side, side), dtype=np.float32))
    shown = LocalContrast()(picture)
    assert shown.shape == picture.shape
    assert bool(torch.isfinite(shown).all())


def test_the_recipe_says_which_contrast_an_encoder_sees() -> None:
    picture = (belly_with_ribs() * 255).to(torch.uint8)[None, None]
    plain = build_encoder(Backbone(kind="cae", settings=TINY))
    local = build_encoder(Backbone(kind="cae", contrast="local", settings=TINY))
    assert torch.equal(plain.grey(picture), picture.float() / 255)
    assert torch.equal(local.grey(picture), LocalContrast()(picture.float() / 255))


def test_an_unknown_contrast_is_refused() -> None:
    with pytest.raises(UsageError, match="contrast 'lokal' is none of global, local") as error:
        Backbone(contrast="lokal")
    assert error.value.code == "MX-U007"


def test_a_recipe_from_before_the_key_is_written_as_it_was() -> None:
    table = {"name": "x", "backbone": {"kind": "cae", "name": "tiny", **TINY}}
    assert "contrast" not in Recipe.from_dict(table).as_dict()["backbone"]
    local = Recipe.from_dict({**table, "backbone": {**table["backbone"], "contrast": "local"}})  # type: ignore[dict-item]
    assert Recipe.from_dict(local.as_dict()) == local
