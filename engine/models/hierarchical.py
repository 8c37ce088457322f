"""The model: one encoder for radiographs, one head for specimens.

The encoder sees single pictures, so pictures of many specimens share its batches; it takes nearly all of
the time and is the only part that runtimes compile. The head sees a specimen's features together with their
views: attention picks what each level of the taxonomy needs, then level 2 refines what level 1 found, and
level 3 what level 2 found. Its logits are conditional, P(node | parent); `kernels/tree.py` multiplies them
along the path.

A direct head, the baseline that the hierarchy has to beat, is the same head with a single level that asks for
all nodes at once; its logits are those of P(node) itself.
"""

# B radiographs · N specimens · T radiographs per specimen · S side · D features · W width of the head
# K nodes · L levels · H attention heads · C channels of one head (W = H * C) · V views the recipe knows

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mxbatch.engine.models.backbones import build_backbone
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.taxonomy import LEVELS, Taxonomy


class Encoder(nn.Module):
    """`uint8[B, 1, S, S] -> float32[B, D]`. Normalises inside, so that no caller can do it differently."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        # Grey levels in [0, 1]; the trainer overwrites them with its data's own before it begins.
        self.register_buffer("mean", torch.tensor(0.5))
        self.register_buffer("std", torch.tensor(0.25))

    def normalise(self, image_B1SS: Tensor) -> Tensor:
        return (image_B1SS.float() / 255 - self.mean) / self.std

    def forward(self, image_B1SS: Tensor) -> Tensor:
        features_BD: Tensor = self.backbone(self.normalise(image_B1SS))
        return features_BD


class ViewFusion(nn.Module):
    """Attention over a specimen's radiographs, with one query per level and head.

    Without positions it does not depend on the order of the radiographs. A learned token stands for "no
    radiograph": it is always present, so a specimen whose radiographs are all masked still has finite
    numbers.
    """

    def __init__(self, *, feature_dim: int, views: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Sequential(nn.LayerNorm(feature_dim), nn.Linear(feature_dim, width))
        self.view = nn.Embedding(views + 1, width)  # row 0: a view that the recipe does not know
        nn.init.normal_(
            self.view.weight, std=0.1
        )  # so that at first the picture counts for more than its view
        self.nothing = nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width)
        self.key_value = nn.Linear(width, 2 * width)

    def forward(
        self, features_NTD: Tensor, view_ids_NT: Tensor, mask_NT: Tensor, query_LHC: Tensor
    ) -> Tensor:
        """What each query found, `float32[N, L, W]`.

        Where `mask_NT` is False, neither features nor view ids are looked at.
        """
        batch = features_NTD.shape[0]
        # Zeroed first: a weight of exactly 0 would not stop a NaN or an id out of range.
        features_NTD = features_NTD.masked_fill(~mask_NT[..., None], 0)
        tokens_NTW = self.project(features_NTD) + self.view(view_ids_NT.masked_fill(~mask_NT, 0))
        tokens_NTW = self.norm(torch.cat([tokens_NTW, self.nothing.expand(batch, 1, -1)], dim=1))
        present_NT = torch.cat([mask_NT, mask_NT.new_ones(batch, 1)], dim=1)

        key_NTHC, value_NTHC = (
            part.unflatten(-1, (self.heads, -1)) for part in self.key_value(tokens_NTW).chunk(2, dim=-1)
        )
        scores_NLHT = torch.einsum("lhc,nthc->nlht", query_LHC, key_NTHC) / math.sqrt(key_NTHC.shape[-1])
        weights_NLHT = scores_NLHT.masked_fill(~present_NT[:, None, None], -math.inf).softmax(dim=-1)
        return torch.einsum("nlht,nthc->nlhc", weights_NLHT, value_NTHC).flatten(2)


class Level(nn.Module):
    """One level: refine what the level above left with what this level's query found, then ask its nodes.

    All that belongs to one level is here, its query too, so that a level can be trained while the rest rests.
    """

    def __init__(self, *, width: int, heads: int, nodes: int, dropout: float) -> None:
        super().__init__()
        self.query_HC = nn.Parameter(torch.randn(heads, width // heads))
        self.refine = nn.Sequential(
            nn.LayerNorm(2 * width),
            nn.Linear(2 * width, width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
        )
        self.norm = nn.LayerNorm(width)
        self.ask = nn.Linear(width, nodes)

    def forward(self, above_NW: Tensor, found_NW: Tensor) -> tuple[Tensor, Tensor]:
        """The refined state `float32[N, W]`, and the logits of this level's nodes."""
        state_NW = above_NW + self.refine(torch.cat([above_NW, found_NW], dim=-1))
        return state_NW, self.ask(self.norm(state_NW))


class HierarchicalHead(nn.Module):
    """`(features[N, T, D], view_ids int64[N, T], mask bool[N, T]) -> logits float32[N, K]`."""

    def __init__(
        self, *, feature_dim: int, views: int, nodes: Sequence[int], width: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.fusion = ViewFusion(feature_dim=feature_dim, views=views, width=width, heads=heads)
        self.levels = nn.ModuleList(
            Level(width=width, heads=heads, nodes=count, dropout=dropout) for count in nodes
        )

    def forward(self, features_NTD: Tensor, view_ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        query_LHC = torch.stack([cast("Tensor", level.query_HC) for level in self.levels])
        found_NLW = self.fusion(features_NTD, view_ids_NT, mask_NT, query_LHC)
        state_NW = torch.zeros_like(found_NLW[:, 0])
        logits: list[Tensor] = []
        for index, level in enumerate(self.levels):
            state_NW, level_logits = level(state_NW, found_NLW[:, index])
            logits.append(level_logits)
        return torch.cat(logits, dim=1)


class HierarchicalModel(nn.Module):
    """Encoder and head. The engine calls them apart; `forward` joins them for training."""

    def __init__(self, encoder: Encoder, head: HierarchicalHead, feature_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.feature_dim = feature_dim

    def forward(self, images_NT1SS: Tensor, view_ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Logits `float32[N, K]` of `uint8[N, T, 1, S, S]`; masked pictures are not encoded at all.

        Under autocast only the encoder computes in less than float32, as when it scores.
        """
        encoded_BD = self.encoder(images_NT1SS[mask_NT]).float()
        with torch.autocast(encoded_BD.device.type, enabled=False):
            features_NTD = encoded_BD.new_zeros(*mask_NT.shape, self.feature_dim)
            features_NTD[mask_NT] = encoded_BD
            logits_NK: Tensor = self.head(features_NTD, view_ids_NT, mask_NT)
        return logits_NK


def nodes_per_layer(recipe: Recipe, taxonomy: Taxonomy) -> list[int]:
    """How many nodes each layer of the head asks for, in the order of the logits."""
    if recipe.head.conditional:
        return [len(taxonomy.level(level)) for level in LEVELS]
    return [len(taxonomy.nodes)]


def build_model(recipe: Recipe, taxonomy: Taxonomy, seed: int | None = None) -> HierarchicalModel:
    """The model that `recipe` and `taxonomy` describe, freshly initialised, in training mode.

    With a seed its weights are the same every time and torch's own random state stays as it was.
    Raises UsageError MX-U007 where the recipe asks for something that cannot be built.
    """
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_model(recipe, taxonomy)
    backbone = build_backbone(recipe.backbone)
    head = build_head(recipe, taxonomy, backbone.feature_dim)
    return HierarchicalModel(Encoder(backbone), head, backbone.feature_dim)


def build_head(recipe: Recipe, taxonomy: Taxonomy, feature_dim: int) -> HierarchicalHead:
    """The head alone, freshly initialised, for an encoder with `feature_dim` features."""
    return HierarchicalHead(
        feature_dim=feature_dim,
        views=len(recipe.views),
        nodes=nodes_per_layer(recipe, taxonomy),
        width=recipe.head.width,
        heads=recipe.head.attention_heads,
        dropout=recipe.head.dropout,
    )
