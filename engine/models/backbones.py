"""Kinds of backbone: a table from the recipe's word to the module that turns pictures into features.

A backbone maps `float32[B, 1, S, S]` to `float32[B, D]` and knows D as `feature_dim`. Weights never come
from here: they are in the bundle, so nothing in this file touches the network.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from mxbatch.engine.errors import UsageError
from mxbatch.engine.models.autoencoder import ConvolutionalAutoencoder
from mxbatch.engine.models.pooling import Pooling
from mxbatch.engine.models.recipe import Backbone


class TimmBackbone(nn.Module):
    """Any architecture of timm, without its classifier, on one grey channel.

    Its own pooling (timm's `global_pool`) makes the features, or ours where the recipe names a `pool`.
    """

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        super().__init__()
        ours = {key: settings[key] for key in ("pool", "grid") if key in settings}
        settings = {key: value for key, value in settings.items() if key not in ours}
        if ours:
            settings["global_pool"] = ""  # leaves the map as it is
        import timm  # 1.4 s, most of it torchvision: an autoencoder does not wait for it

        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.5)
            raise UsageError(
                "MX-U007",
                f"backbone: timm has no architecture {name!r}"
                + (f"; near it are {', '.join(near)}" if near else ""),
            )
        self.body = timm.create_model(name, pretrained=False, num_classes=0, in_chans=1, **settings)
        # Some families (MobileNet, GhostNet) keep a wider layer between pooling and classifier.
        width = getattr(self.body, "head_hidden_size", None) or self.body.num_features
        self.pooling = Pooling(int(cast("int", width)), **ours) if ours else None
        self.feature_dim = self.pooling.feature_dim if self.pooling else int(cast("int", width))

    def forward(self, image_B1SS: Tensor) -> Tensor:
        features: Tensor = self.body(image_B1SS)
        return features if self.pooling is None else self.pooling(features)

    def ends(self) -> list[nn.Module]:
        """The first two convolutions, which read the picture and, most often, its first map; and what pools."""
        convolutions = [module for module in self.body.modules() if isinstance(module, nn.Conv2d)]
        return [*convolutions[:2], *(self.pooling.modules() if self.pooling else ())]

    def units(self) -> list[nn.Module]:
        """What computes in few digits where few are asked for: the whole body. What streams between its many layers
        would otherwise take twice the memory bandwidth, of which two cores have little."""
        return [self.body]


BACKBONES: dict[str, Callable[[str, Mapping[str, Any]], TimmBackbone | ConvolutionalAutoencoder]] = {
    "timm": TimmBackbone,
    "cae": lambda _, settings: ConvolutionalAutoencoder(**settings),
}


def build_backbone(recipe: Backbone) -> TimmBackbone | ConvolutionalAutoencoder:
    """What `recipe` describes, freshly initialised. Raises UsageError MX-U007 where it cannot be built."""
    try:
        return BACKBONES[recipe.kind](recipe.name, recipe.settings)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        raise UsageError("MX-U007", f"backbone {recipe.name!r} cannot be built: {error}") from error
