"""A phase of training without labels: hide parts of the body, and have the autoencoder draw them again.

What is hidden lies inside the animal: in an empty field there is nothing to understand. To fill in a rib one has
to know where ribs are, so the code learns anatomy before the first label is seen.
"""

# B radiographs · S side · s side in patches

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mxbatch.engine.models.autoencoder import ConvolutionalAutoencoder
from mxbatch.engine.models.hierarchical import Encoder, HierarchicalModel
from mxbatch.trainer.data import Dataset
from mxbatch.trainer.loader import ahead, augmented, threads_for
from mxbatch.trainer.order import cut
from mxbatch.trainer.schedule import optimiser_over
from mxbatch.trainer.splits import Split
from mxbatch.trainer.training import Training

SEEN_WEIGHT = 0.1
"""What a pixel that was not hidden counts against one that was: enough to keep the drawing sharp."""
RADIOGRAPHS = 64
"""Per step."""


class Redrawing(nn.Module):
    """The encoder with its decoder, and what a wrong drawing costs."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images_B1SS: Tensor, hidden_B1SS: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted sum of squared errors in normalised grey, and the sum of the weights, `float32[1]` each."""
        picture_B1SS = self.encoder.normalise(images_B1SS)
        blanked_B1SS = picture_B1SS.masked_fill(hidden_B1SS, 0)  # the mean grey of the training data
        autoencoder = cast("ConvolutionalAutoencoder", self.encoder.backbone)
        error_B1SS = (autoencoder.reconstruct(blanked_B1SS).float() - picture_B1SS).square()
        weight_B1SS = torch.where(hidden_B1SS, 1.0, SEEN_WEIGHT)
        return (error_B1SS * weight_B1SS).sum()[None], weight_B1SS.sum()[None]


class Pretraining:
    """The phase, over all radiographs of the training side. It looks at no label."""

    name: str = "pretrain"
    unit: str = "radiographs"
    parts: tuple[str, ...] = ("loss_drawing",)

    def __init__(self, *, training: Training, dataset: Dataset, split: Split) -> None:
        if training.pretrain is None:
            raise ValueError("the recipe has no pretrain table")
        self.settings, self.training, self.dataset = training.pretrain, training, dataset
        self.epochs, self.learning_rate = self.settings.epochs, self.settings.learning_rate
        self.train_rows = radiographs_of(dataset, split.train)
        self.validation_rows = radiographs_of(dataset, split.validation)

    def objective(self, model: HierarchicalModel) -> nn.Module:
        model.train().requires_grad_(False)
        model.encoder.requires_grad_(True)
        return Redrawing(model.encoder)

    def optimiser(self, model: HierarchicalModel) -> torch.optim.Optimizer:
        learners = model.encoder.parameters()
        return optimiser_over(learners, kind=self.training.optimiser, weight_decay=self.training.weight_decay)

    def steps(self, rng: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """The radiographs of each step of one epoch."""
        return cut(rng.permutation(self.train_rows), RADIOGRAPHS)

    def load(self, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, ...]:
        """What `Redrawing.forward` takes."""
        return self._tensors(augmented(self.dataset.images[rows], self.training.augment, rng), rng)

    def validate(self, model: HierarchicalModel, precision: torch.dtype) -> dict[str, float]:
        """The loss on radiographs not learned from, the same parts hidden each time."""
        if not len(self.validation_rows):
            return {}
        device = next(model.parameters()).device
        redrawing, steps = Redrawing(model.encoder).eval(), cut(self.validation_rows, RADIOGRAPHS)

        def load(number: int) -> tuple[Tensor, ...]:
            rng = np.random.default_rng([self.training.seed, number])
            return self._tensors(self.dataset.images[steps[number]], rng)

        lower = precision != torch.float32
        with torch.inference_mode(), torch.autocast(device.type, precision, enabled=lower):
            sums = [
                torch.stack(redrawing(*(tensor.to(device) for tensor in tensors)))
                for tensors in ahead(load, len(steps), threads=threads_for(device))
            ]
        total, weight = torch.stack(sums).sum(dim=0).flatten().tolist()
        return {"validation_loss": total / weight}

    def _tensors(self, images_BSS: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Tensor, ...]:
        hidden = hide(images_BSS, patch=self.settings.patch, share=self.settings.mask_share, rng=rng)
        return torch.from_numpy(images_BSS)[:, None], torch.from_numpy(hidden)[:, None]


def hide(
    images_BSS: NDArray[np.uint8], *, patch: int, share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """`bool[B, S, S]`: a `share` of the body's patches.

    The body is what is brighter than the whole picture is on average; the field around it is dark, and
    padding is black. Patches at the right and lower edge are cut off where the picture ends.
    """
    side = images_BSS.shape[-1]
    at = np.arange(0, side, patch)
    sums_Bss = np.add.reduceat(np.add.reduceat(images_BSS, at, axis=1, dtype=np.float32), at, axis=2)
    lengths = np.diff(np.append(at, side))
    means_Bss = sums_Bss / (lengths[:, None] * lengths)
    body_Bss = means_Bss > images_BSS.mean(axis=(1, 2), keepdims=True)
    hidden_Bss: NDArray[np.bool_] = body_Bss & (rng.random(body_Bss.shape) < share)
    return hidden_Bss.repeat(patch, axis=1).repeat(patch, axis=2)[:, :side, :side]


def radiographs_of(dataset: Dataset, specimens: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of `dataset.images` that belong to `specimens`."""
    ranges = [np.arange(dataset.first[n], dataset.first[n + 1]) for n in specimens]
    return np.concatenate(ranges).astype(np.int64) if ranges else np.empty(0, np.int64)
