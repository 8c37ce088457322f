"""An encoder rearranged for compilers computes what the bundle's encoder computes."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mxbatch.engine.models.autoencoder import ResidualStep
from mxbatch.engine.models.hierarchical import Encoder, build_encoder
from mxbatch.engine.models.recipe import Backbone
from mxbatch.engine.runtime.golden import golden_images
from mxbatch.engine.runtime.layers import NORMS, Reduced, convolution_form, in_precision, rearranged

TINY = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
BACKBONES: dict[str, dict[str, Any]] = {
    "linear": {"name": "convnext_tiny", "settings": TINY},
    "v2": {"name": "convnextv2_tiny", "settings": TINY},
    "convolutions": {"name": "convnext_tiny", "settings": {**TINY, "conv_mlp": True}},
    "cae": {"kind": "cae", "name": "small", "settings": {"widths": [8, 16], "latent": 16}},
    "local": {"name": "convnext_tiny", "contrast": "local", "settings": TINY},
    "resnet": {"name": "test_resnet"},
    "vit": {"name": "test_vit", "settings": {"img_size": 64}},
}


@cache
def make(kind: str) -> tuple[Encoder, Backbone]:
    """The encoder and its recipe, with random numbers in every weight, so that none is at a value that hides."""
    recipe = Backbone(**BACKBONES[kind])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build_encoder(recipe).eval()
        for name, parameter in encoder.named_parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, mean=0.5 if "weight" in name or "gamma" in name else 0, std=0.2)
    encoder.mean.fill_(0.3)
    return encoder, recipe


def features(encoder: nn.Module) -> Tensor:
    with torch.inference_mode():
        result: Tensor = encoder(torch.from_numpy(golden_images(64))[:, None])
    return result


def linear_layers(encoder: nn.Module) -> int:
    return sum(isinstance(module, nn.Linear) for module in encoder.modules())


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("kind", ["linear", "v2", "local"])
def test_a_convnext_of_convolutions_is_the_same_function(kind: str) -> None:
    encoder, recipe = make(kind)
    twin = convolution_form(encoder, recipe)
    assert (linear_layers(encoder), linear_layers(twin)) == (8, 0)
    assert distance(features(twin), features(encoder)) < 1e-5


@pytest.mark.parametrize("kind", ["convolutions", "cae", "resnet", "vit"])
def test_what_has_no_other_form_stays_as_it_is(kind: str) -> None:
    encoder, recipe = make(kind)
    twin = convolution_form(encoder, recipe)
    assert torch.equal(features(twin), features(encoder))


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize(("precision", "allowed"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_fewer_digits_change_the_features_a_little(kind: str, precision: str, allowed: float) -> None:
    encoder, recipe = make(kind)
    full, reduced = features(encoder), features(rearranged(encoder, recipe, precision))
    assert reduced.dtype == torch.float32
    assert 0 < distance(reduced, full) < allowed


@pytest.mark.parametrize("kind", BACKBONES)
def test_the_encoder_that_was_given_stays_as_it_was(kind: str) -> None:
    encoder, recipe = make(kind)
    before = features(encoder)
    rearranged(encoder, recipe, "bfloat16")
    assert all(tensor.dtype != torch.bfloat16 for tensor in encoder.state_dict().values())
    assert torch.equal(features(encoder), before)


@pytest.mark.parametrize("kind", BACKBONES)
def test_norms_and_what_lies_between_units_compute_in_float32(kind: str) -> None:
    encoder, recipe = make(kind)
    seen: dict[str, Any] = {}

    def note(name: str) -> Any:
        return lambda _, inputs, output: seen.update({name: (inputs[0].dtype, output.dtype)})

    reduced = rearranged(encoder, recipe, "float16")
    within = tuple(name for name, module in reduced.named_modules() if isinstance(module, Reduced))
    for name, module in reduced.named_modules():
        norm = isinstance(module, NORMS) or type(module).__name__ == "GlobalResponseNorm"
        if name and (norm or not name.startswith(within)):
            module.register_forward_hook(note(name))
    features(reduced)
    assert seen
    assert set(seen.values()) == {(torch.float32, torch.float32)}


@pytest.mark.parametrize("kind", ["linear", "v2", "convolutions", "cae"])
def test_the_pooling_and_what_follows_compute_in_float32(kind: str) -> None:
    encoder, recipe = make(kind)
    features_BD = features(rearranged(encoder, recipe, "float16"))
    assert not torch.equal(features_BD, features_BD.half().float())


def test_float32_needs_no_copy() -> None:
    encoder, _ = make("cae")
    assert in_precision(encoder, "float32") is encoder


@pytest.mark.parametrize("kind", BACKBONES)
def test_products_are_reduced_but_for_those_at_the_ends_of_an_autoencoder(kind: str) -> None:
    encoder, recipe = make(kind)
    reduced = rearranged(encoder, recipe, "bfloat16").backbone
    products = {
        name: module.weight.dtype
        for name, module in reduced.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "decoder" not in name
    }
    full = {name for name, dtype in products.items() if dtype == torch.float32}
    ends = {"encoder.0.0", "encoder.1.found.0", "encoder.1.kept.1", "encoder.2"}
    assert full == (ends if kind == "cae" else set())
    assert torch.bfloat16 in products.values()


def test_attention_is_reduced_as_a_whole() -> None:
    encoder, recipe = make("vit")
    reduced = rearranged(encoder, recipe, "bfloat16")
    seen: list[torch.dtype] = []

    def note(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        seen.extend((query.dtype, key.dtype, value.dtype))
        return attend(query, key, value, **options)

    attend = nn.functional.scaled_dot_product_attention
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "scaled_dot_product_attention", note)
        features(reduced)
    assert set(seen) == {torch.bfloat16}


def test_the_sum_along_an_autoencoders_residual_path_keeps_its_digits() -> None:
    """What one block adds is not lost in the rounding of what all have added before it."""
    encoder, recipe = make("cae")
    rounded: list[bool] = []

    def note(_: Any, inputs: Any, output: Tensor) -> None:
        rounded.append(torch.equal(output, output.bfloat16().float()))

    reduced = rearranged(encoder, recipe, "bfloat16")
    for module in reduced.modules():
        if isinstance(module, ResidualStep):
            module.register_forward_hook(note)
    features(reduced)
    assert rounded
    assert not any(rounded)
