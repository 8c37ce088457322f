"""The encoder in another order of the same sums: what compilers want to see, with the weights of the bundle.

Two rewrites, both on copies. `convolution_form` turns the Linear layers of ConvNeXt's blocks into convolutions
of 1 x 1: the same arithmetic without the permutes around it, for ConvNeXt-tiny in 301 layers of TensorRT and not 461.
`in_precision` computes products in bfloat16 or float16, which is where the time goes. All else is float32: norms, sums
along a residual path, pooling, and the products at either end, which the backbone names.
"""

# B radiographs · S side · D features

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from mxbatch.engine.models.autoencoder import ConvolutionalAutoencoder
from mxbatch.engine.models.backbones import TimmBackbone, build_backbone
from mxbatch.engine.models.hierarchical import Encoder
from mxbatch.engine.models.recipe import Backbone

PRECISIONS: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
PRODUCTS = (nn.Conv1d, nn.Conv2d, nn.Linear)
UNIT = re.compile(r"Attention|Mlp$")
"""A class's name: several products and what stands between them, reduced as a whole, but for its norms. Attention
multiplies outside of any layer, and between two products of an MLP lies four times as much as around them. timm's
heads have the word in the middle of their names, and pool: they are none."""
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm)
NORMS_OF_TIMM = ("GlobalResponseNorm",)
"""By name: an autoencoder does not wait for timm. This one squares and sums, which float16 cannot hold for long."""


def rearranged(encoder: Encoder, recipe: Backbone, precision: str) -> Encoder:
    """`encoder`, which `recipe` describes, as compilers want it: `convolution_form`, then `in_precision`."""
    return in_precision(convolution_form(encoder, recipe), precision)


def convolution_form(encoder: Encoder, recipe: Backbone) -> Encoder:
    """The twin of a ConvNeXt whose blocks hold 1 x 1 convolutions; any other encoder as it is.

    timm knows both forms, and their weights differ in shape alone: `[out, in]` and `[out, in, 1, 1]`.
    """
    if not _is_convnext(encoder.backbone) or recipe.settings.get("conv_mlp"):
        return encoder
    twin = build_backbone(replace(recipe, settings={**recipe.settings, "conv_mlp": True}))
    given = encoder.backbone.state_dict()
    twin.load_state_dict({name: given[name].reshape(to.shape) for name, to in twin.state_dict().items()})
    return _around(encoder, twin)


def in_precision(encoder: Encoder, precision: str) -> Encoder:
    """`encoder` with its products in `precision`; still `uint8 -> float32`.

    A product rounds what it reads and its weights; its own sums have more digits, and its result is not kept in few.
    """
    dtype = PRECISIONS[precision]
    if dtype == torch.float32:
        return encoder
    backbone = cast("TimmBackbone | ConvolutionalAutoencoder", copy.deepcopy(encoder.backbone))
    ends = backbone.ends()
    for parent, name, product in list(_within(backbone, _is_product)):
        if product not in ends:
            setattr(parent, name, Reduced(product, dtype))
    return _around(encoder, backbone)


class Reduced(nn.Module):
    """`inner` in `dtype`, between float32 and float32."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner.to(dtype)
        self.dtype = dtype
        for parent, name, norm in list(_within(inner, _is_norm)):
            setattr(parent, name, Float32(norm))

    def forward(self, *inputs: Any, **options: Any) -> Tensor:
        y: Tensor = self.inner(*(self._rounded(x) for x in inputs), **tree_map(self._rounded, options))
        return y.float()

    def _rounded(self, x: Any) -> Any:
        return x.to(self.dtype) if isinstance(x, Tensor) and x.is_floating_point() else x


class Float32(nn.Module):
    """`inner` in float32, between whatever comes in and the same."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.float()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x.float())
        return y.to(x.dtype)


def _around(encoder: Encoder, backbone: nn.Module) -> Encoder:
    """An encoder of `backbone` that normalises as `encoder` does, on its device and in its mode."""
    new = Encoder(backbone)
    new.mean, new.std = encoder.mean.clone(), encoder.std.clone()
    return new.to(encoder.mean.device).train(encoder.training)


def _is_convnext(backbone: nn.Module) -> bool:
    if not isinstance(backbone, TimmBackbone):
        return False
    from timm.models.convnext import ConvNeXt  # loaded already, or the backbone would not be here

    return isinstance(backbone.body, ConvNeXt)


def _is_product(module: nn.Module) -> bool:
    return isinstance(module, PRODUCTS) or UNIT.search(type(module).__name__) is not None


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, NORMS) or type(module).__name__ in NORMS_OF_TIMM


def _within(
    module: nn.Module, wanted: Callable[[nn.Module], bool]
) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """`(parent, name, child)` of every outermost module within `module` that is `wanted`."""
    for name, child in module.named_children():
        if wanted(child):
            yield module, name, child
        else:
            yield from _within(child, wanted)
