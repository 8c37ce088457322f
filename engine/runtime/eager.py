"""The reference runtime: plain torch in float32, nothing fused, nothing reordered. Slow and right.

Its golden numbers are the ones in every bundle, and the faster runtimes are measured against it.
"""

# B radiographs · S side · D features · F specimens · T radiographs per specimen · K nodes

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from mxbatch.engine.bundle import Bundle, load_model
from mxbatch.engine.errors import UsageError
from mxbatch.engine.models.hierarchical import HierarchicalModel
from mxbatch.engine.runtime.scorer import require_batch
from mxbatch.kernels.tree import path_probabilities

FUSE_CHUNK = 64
"""Specimens per call of the head; a rest is padded, so that all matrix products have one shape."""


class EagerScorer:
    """A `Scorer` over plain torch. `threads` is torch's own setting and holds for the whole process."""

    name = "eager"

    def __init__(self, bundle: Bundle, *, device: str = "cpu", batch: int = 32, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.batch = batch
        self.device = usable_device(device)
        self.model: HierarchicalModel = load_model(bundle).to(self.device)
        self.feature_dim = self.model.feature_dim
        self.parents = bundle.taxonomy.parents
        self.scale_K = torch.tensor(bundle.calibration.scale, device=self.device)
        self.bias_K = torch.tensor(bundle.calibration.bias, device=self.device)
        self.radiographs = bundle.recipe.max_radiographs

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        require_batch(images, self.batch)
        with _plain_float32():
            features_BD = self.model.encoder(torch.tensor(images, device=self.device)[:, None])
        return _array(features_BD)

    def fuse(
        self, features: NDArray[np.float32], view_ids: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        count, given = mask.shape
        if given > self.radiographs:
            raise ValueError(f"the model looks at {self.radiographs} radiographs per specimen, got {given}")
        rows = [slice(at, at + FUSE_CHUNK) for at in range(0, count, FUSE_CHUNK)]
        blocks = [self._fuse_chunk(features[row], view_ids[row], mask[row]) for row in rows]
        return np.concatenate(blocks) if blocks else np.empty((0, len(self.parents)), np.float32)

    def _fuse_chunk(
        self, features: NDArray[np.float32], view_ids: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """`fuse` for up to `FUSE_CHUNK` specimens, padded to that many and to T radiographs each."""
        count, given = mask.shape
        shape = (FUSE_CHUNK, self.radiographs)
        features_FTD = torch.zeros(*shape, self.feature_dim)
        view_ids_FT, mask_FT = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool)
        features_FTD[:count, :given] = torch.tensor(features)
        view_ids_FT[:count, :given] = torch.tensor(view_ids)
        mask_FT[:count, :given] = torch.tensor(mask)
        with _plain_float32():
            logits_FK = self.model.head(
                *(part.to(self.device) for part in (features_FTD, view_ids_FT, mask_FT))
            )
            probabilities_FK = path_probabilities(logits_FK, self.parents, self.scale_K, self.bias_K)
        return _array(probabilities_FK)[:count]


def usable_device(name: str) -> torch.device:
    """The torch device called `name`. Raises UsageError MX-U001 where there is none."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises AssertionError in builds without CUDA
        reason = str(error).splitlines()[0]
        raise UsageError("MX-U001", f"there is no device {name!r} here: {reason}") from error
    return device


@contextmanager
def _plain_float32() -> Iterator[None]:
    """No gradients; on a GPU, no TF32 and no algorithm chosen by a race: the same bits every time."""
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), cudnn:
        yield


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.float().cpu().numpy()
    return array
