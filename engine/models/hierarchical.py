"""The model: one encoder for radiographs, one head for specimens.

The encoder sees single pictures, so pictures of many specimens share its batches; it takes nearly all of
the time and is the only part that runtimes compile. The head sees a specimen's features together with their
views: each level of the taxonomy takes from each view what it needs, then level 2 refines what level 1 found,
and level 3 what level 2 found. Where a recipe wants it, a layer before level 1 learns the taxonomy's parameters,
the questions that people answered; its own answers are training's alone. The logits are conditional,
P(node | parent); `kernels/tree.py` multiplies them along the path.

A direct head, the baseline that the hierarchy has to beat, is the same head with a single level that asks for
all nodes at once; its logits are those of P(node) itself.
"""

# B radiographs · N specimens · T radiographs per specimen · S side · D features
# W channels of a view · U of the head · K nodes · Q questions · V views, the recipe's and one for all others

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from mxbatch.engine.models.autoencoder import ConvolutionalAutoencoder
from mxbatch.engine.models.backbones import TimmBackbone, build_backbone
from mxbatch.engine.models.contrast import LocalContrast
from mxbatch.engine.models.recipe import Backbone, Recipe
from mxbatch.engine.taxonomy import LEVELS, Taxonomy


class Encoder(nn.Module):
    """`uint8[B, 1, S, S] -> float32[B, D]`. Normalises inside, so that no caller can do it differently."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: TimmBackbone | ConvolutionalAutoencoder, contrast: LocalContrast | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.feature_dim = backbone.feature_dim
        self.contrast = contrast
        # Of what `grey` gives; the trainer overwrites them with its data's own before it begins.
        self.register_buffer("mean", torch.tensor(0.5))
        self.register_buffer("std", torch.tensor(0.25))

    def grey(self, image_B1SS: Tensor) -> Tensor:
        """`float32[B, 1, S, S]`: grey levels in [0, 1], or against their surroundings where the recipe says so."""
        grey_B1SS = image_B1SS.float() / 255
        if self.contrast is not None:
            grey_B1SS = self.contrast(grey_B1SS)
        return grey_B1SS

    def normalise(self, image_B1SS: Tensor) -> Tensor:
        return (self.grey(image_B1SS) - self.mean) / self.std

    def forward(self, image_B1SS: Tensor) -> Tensor:
        features_BD: Tensor = self.backbone(self.normalise(image_B1SS))
        return features_BD


_FEW = 4
"""Radiographs of one view in a step: fewer say little of the mean and spread of all; what is known serves instead."""


class ViewNorm(nn.Module):
    """Features `[..., D]` less what all radiographs of their view have in common, in units of their spread there.

    A batch norm of each view's own. Animals differ little next to what their radiographs share, and views differ
    much: normed together, or each by itself (layer norm), what tells animals apart all but vanishes.
    """

    mean_VD: Tensor
    variance_VD: Tensor

    def __init__(self, views: int, features: int, *, momentum: float = 0.1, least: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.least = momentum, least
        self.register_buffer("mean_VD", torch.zeros(views, features))
        self.register_buffer("variance_VD", torch.ones(views, features))

    def forward(self, features_RD: Tensor, view_ids_R: Tensor) -> Tensor:
        mean_VD, variance_VD = self.mean_VD, self.variance_VD
        if self.training:
            sum_VD = torch.zeros_like(mean_VD)
            count_V1 = _in_all_processes(
                torch.bincount(view_ids_R, minlength=len(sum_VD)).to(sum_VD)[:, None]
            )
            enough_V1, divisor_V1 = count_V1 >= _FEW, count_V1.clamp(min=1)
            mean_VD = _in_all_processes(sum_VD.index_add(0, view_ids_R, features_RD)) / divisor_V1
            squares_RD = (features_RD - mean_VD[view_ids_R]).square()
            variance_VD = _in_all_processes(sum_VD.index_add(0, view_ids_R, squares_RD)) / divisor_V1
            mean_VD = torch.where(enough_V1, mean_VD, self.mean_VD.clone())
            variance_VD = torch.where(enough_V1, variance_VD, self.variance_VD.clone())
            with torch.no_grad():
                self.mean_VD.lerp_(mean_VD, self.momentum)
                self.variance_VD.lerp_(variance_VD, self.momentum)
        return (features_RD - mean_VD[view_ids_R]) * (variance_VD[view_ids_R] + self.least).rsqrt()


def _in_all_processes(numbers: Tensor) -> Tensor:
    """The sum of `numbers` over the processes that train together, with gradient; `numbers` where there is one."""
    if not (dist.is_available() and dist.is_initialized()):
        return numbers
    total: Tensor = _TotalWithGradient.apply(numbers)
    return total


class _TotalWithGradient(torch.autograd.Function):
    """torch has deprecated its own sum with gradient (2.14), and what follows it is private there."""

    @staticmethod
    def forward(context: Any, numbers: Tensor) -> Tensor:
        total = numbers.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        """What each process's loss owes to the sum: all of them."""
        return _TotalWithGradient.apply(*gradients)


class ViewFusion(nn.Module):
    """A specimen's radiographs sorted into views: `float32[N, V, W]`, in each place what that view shows.

    Several radiographs of a view are averaged, so their order does not matter; a view without any has a learned
    stand-in, so a specimen whose radiographs are all masked still has finite numbers.

    Each view has a projection of its own, since a place means something else in a belly than in a paw. After three
    epochs of 7,000 phantoms that was worth little (level 3: 0.835, and 0.831 with one for all), but 64 channels for
    each do what 160 for all did, in two thirds of the time.

    Attention over the radiographs was here before. After an epoch of 7,000 phantoms it was at chance (mean AUC of
    level 3: 0.49) where this had 0.59: its weights sum to 1, so at first each view's finding is thinned by the others.
    """

    def __init__(self, *, feature_dim: int, views: int, width: int) -> None:
        super().__init__()
        self.norm = ViewNorm(views + 1, feature_dim)
        # Row 0 is any view that the recipe does not know.
        self.project_VDW = nn.Parameter(
            torch.empty(views + 1, feature_dim, width).uniform_(-1, 1) / math.sqrt(feature_dim)
        )
        self.view_VW = nn.Parameter(torch.randn(views + 1, width) * 0.1)
        self.absent_VW = nn.Parameter(torch.zeros(views + 1, width))

    def forward(self, features_NTD: Tensor, view_ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Where `mask_NT` is False, neither features nor view ids are looked at."""
        # Zeroed first: a weight of exactly 0 would not stop a NaN or an id out of range.
        view_ids_NT = view_ids_NT.masked_fill(~mask_NT, 0)
        normed_NTD = torch.zeros_like(features_NTD)
        normed_NTD[mask_NT] = self.norm(features_NTD[mask_NT], view_ids_NT[mask_NT])
        is_of_NTV = (F.one_hot(view_ids_NT, len(self.view_VW)) * mask_NT[..., None]).to(normed_NTD.dtype)
        count_NV1 = is_of_NTV.sum(dim=1)[..., None]
        mean_NVD = torch.einsum("ntv,ntd->nvd", is_of_NTV, normed_NTD) / count_NV1.clamp(min=1)
        shown_NVW = F.gelu(torch.einsum("nvd,vdw->nvw", mean_NVD, self.project_VDW) + self.view_VW)
        return torch.where(count_NV1 > 0, shown_NVW, self.absent_VW)


class Level(nn.Module):
    """One level: read the views, refine with that what the level above left, then ask its nodes.

    All that belongs to one level is here, what it reads of each view too, so that a level can be trained while the
    rest rests.
    """

    def __init__(self, *, views: int, view_width: int, width: int, nodes: int, dropout: float) -> None:
        super().__init__()
        self.read_VWU = nn.Parameter(torch.randn(views + 1, view_width, width) / math.sqrt(view_width))
        self.found = nn.LayerNorm(width)
        self.refine = nn.Sequential(
            nn.LayerNorm(2 * width),
            nn.Linear(2 * width, width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
        )
        self.norm = nn.LayerNorm(width)
        self.ask = nn.Linear(width, nodes)

    def forward(self, above_NU: Tensor, views_NVW: Tensor) -> tuple[Tensor, Tensor]:
        """The refined state `float32[N, U]`, and the logits of this level's nodes."""
        found_NU = self.found(torch.einsum("nvw,vwu->nu", views_NVW, self.read_VWU))
        state_NU = above_NU + self.refine(torch.cat([above_NU, found_NU], dim=-1))
        return state_NU, self.ask(self.norm(state_NU))


class HierarchicalHead(nn.Module):
    """`(features[N, T, D], view_ids int64[N, T], mask bool[N, T]) -> logits float32[N, K]`."""

    def __init__(
        self,
        *,
        feature_dim: int,
        views: int,
        nodes: Sequence[int],
        view_width: int,
        width: int,
        dropout: float,
        questions: int = 0,
    ) -> None:
        super().__init__()
        self.width = width
        self.fusion = ViewFusion(feature_dim=feature_dim, views=views, width=view_width)

        def layer(count: int) -> Level:
            return Level(views=views, view_width=view_width, width=width, nodes=count, dropout=dropout)

        self.questions = layer(questions) if questions else None
        self.levels = nn.ModuleList(layer(count) for count in nodes)

    def forward(self, features_NTD: Tensor, view_ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        return self.answer(features_NTD, view_ids_NT, mask_NT)[0]

    def answer(
        self, features_NTD: Tensor, view_ids_NT: Tensor, mask_NT: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The logits, and those of the taxonomy's questions, `float32[N, Q]`, where it has learned them."""
        views_NVW = self.fusion(features_NTD, view_ids_NT, mask_NT)
        state_NU = views_NVW.new_zeros(len(views_NVW), self.width)
        questions_NQ: Tensor | None = None
        if self.questions is not None:
            state_NU, questions_NQ = self.questions(state_NU, views_NVW)
        logits: list[Tensor] = []
        for level in self.levels:
            state_NU, level_logits = level(state_NU, views_NVW)
            logits.append(level_logits)
        return torch.cat(logits, dim=1), questions_NQ


class HierarchicalModel(nn.Module):
    """Encoder and head. The engine calls them apart; `forward` joins them for training."""

    def __init__(self, encoder: Encoder, head: HierarchicalHead, feature_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.feature_dim = feature_dim

    def forward(self, images_NT1SS: Tensor, view_ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Logits `float32[N, K]` of `uint8[N, T, 1, S, S]`."""
        return self.answer(self.features(images_NT1SS, mask_NT), view_ids_NT, mask_NT)[0]

    def features(self, images_NT1SS: Tensor, mask_NT: Tensor) -> Tensor:
        """`float32[N, T, D]` of `uint8[N, T, 1, S, S]`; masked pictures are not encoded at all, theirs are 0."""
        encoded_BD = self.encoder(images_NT1SS[mask_NT]).float()
        features_NTD: Tensor = encoded_BD.new_zeros(*mask_NT.shape, self.feature_dim)
        features_NTD[mask_NT] = encoded_BD
        return features_NTD

    def answer(
        self, features_NTD: Tensor, view_ids_NT: Tensor, mask_NT: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The head's logits, and those of the taxonomy's questions, where the recipe has them learned.

        In float32 also under autocast, as when it scores: only the encoder computes in less.
        """
        with torch.autocast(features_NTD.device.type, enabled=False):
            return self.head.answer(features_NTD, view_ids_NT, mask_NT)


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
    encoder = build_encoder(recipe.backbone)
    head = build_head(recipe, taxonomy, encoder.feature_dim)
    return HierarchicalModel(encoder, head, encoder.feature_dim)


def build_encoder(recipe: Backbone) -> Encoder:
    """The encoder alone, freshly initialised. Raises UsageError MX-U007 where it cannot be built."""
    return Encoder(build_backbone(recipe), LocalContrast() if recipe.contrast == "local" else None)


def build_head(recipe: Recipe, taxonomy: Taxonomy, feature_dim: int) -> HierarchicalHead:
    """The head alone, freshly initialised, for an encoder with `feature_dim` features."""
    return HierarchicalHead(
        feature_dim=feature_dim,
        views=len(recipe.views),
        nodes=nodes_per_layer(recipe, taxonomy),
        view_width=recipe.head.view_width,
        width=recipe.head.width,
        dropout=recipe.head.dropout,
        questions=len(taxonomy.questions) if recipe.head.questions else 0,
    )
