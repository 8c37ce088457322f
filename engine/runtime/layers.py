"""The encoder in another order of the same sums: what compilers want to see, with the weights of the bundle.

Two rewrites, both on copies. `convolution_form` turns the Linear layers of ConvNeXt's blocks into convolutions
of 1 x 1: the same arithmetic without the permutes around it, for ConvNeXt-tiny in 301 layers of TensorRT and not 461.
`in_precision` computes in bfloat16 or float16 what the backbone names as its `units`, and all that lies between them in
float32; norms and pooling are float32 within a unit, too.
"""

# B radiographs · S side · D features

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from mxbatch.engine.models.autoencoder import ConvolutionalAutoencoder
from mxbatch.engine.models.backbones import TimmBackbone, build_backbone
from mxbatch.engine.models.hierarchical import Encoder
from mxbatch.engine.models.recipe import Backbone

PRECISIONS: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
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
    """`encoder` with the units of its backbone in `precision`; still `uint8 -> float32`."""
    dtype = PRECISIONS[precision]
    if dtype == torch.float32:
        return encoder
    backbone = copy.deepcopy(encoder.backbone)
    units = backbone.units()
    for parent, name, unit in list(_within(backbone, units.__contains__)):
        setattr(parent, name, Reduced(unit, dtype))
    return _around(encoder, backbone)


class Reduced(nn.Module):
    """`inner` in `dtype`, between float32 and float32."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner.to(dtype)
        self.dtype = dtype
        for parent, name, norm in list(_within(inner, _is_norm)):
            setattr(parent, name, Float32(norm))
        if isinstance(head := getattr(inner, "head", None), nn.Module):
            inner.head = Float32(head, stay=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x.to(self.dtype))
        return y.float()


class Float32(nn.Module):
    """`inner` in float32, whatever comes in. Its result stays so, or takes the type that came in."""

    def __init__(self, inner: nn.Module, *, stay: bool = False) -> None:
        super().__init__()
        self.inner = inner.float()
        self.stay = stay

    def forward(self, x: Tensor, **options: bool) -> Tensor:
        y: Tensor = self.inner(x.float(), **options)
        return y if self.stay else y.to(x.dtype)


def _around(encoder: Encoder, backbone: TimmBackbone | ConvolutionalAutoencoder) -> Encoder:
    """An encoder of `backbone` that normalises as `encoder` does, on its device and in its mode."""
    new = Encoder(backbone, encoder.contrast)
    new.mean, new.std = encoder.mean.clone(), encoder.std.clone()
    return new.to(encoder.mean.device).train(encoder.training)


def _is_convnext(backbone: nn.Module) -> bool:
    if not isinstance(backbone, TimmBackbone):
        return False
    from timm.models.convnext import ConvNeXt  # loaded already, or the backbone would not be here

    return isinstance(backbone.body, ConvNeXt)


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
