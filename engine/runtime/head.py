"""The head of a bundle in plain float32: the half of every runtime that is never compiled.

It takes a few hundredths of the time of the smallest encoder, of others less. So it stays the same code with the same
bits, whatever computed the features. From its logits on, the whole tree is one kernel on a GPU and its plain twin
elsewhere (kernels/calls.py).
"""

# F specimens · T radiographs per specimen · D features · K nodes

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.bundle_files import WEIGHTS
from mxbatch.engine.errors import EnvironmentFault, MxbatchError
from mxbatch.engine.models.hierarchical import HierarchicalHead, build_head
from mxbatch.kernels.calls import CallRules, path_probabilities

FUSE_CHUNK = 64
"""Specimens per call; a rest is padded, so that all matrix products have one shape."""
_NORM = "fusion.norm.mean_VD"
"""The head begins with a norm per view: `[V, D]`."""


class FusionHead:
    """The second half of a `Scorer`: features of a specimen's radiographs in, path probabilities out."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.device = device
        self.head = load_head(bundle).to(device)
        self.feature_dim = self.head.state_dict()[_NORM].shape[1]
        self.rules = rules_of(bundle, device)
        self.radiographs = bundle.recipe.max_radiographs

    def fuse(
        self, features: NDArray[np.float32], view_ids: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """`[F, T, D], [F, T], [F, T] -> [F, K]`; any F, any T up to the recipe's."""
        count, given = mask.shape
        if given > self.radiographs:
            raise ValueError(f"the model looks at {self.radiographs} radiographs per specimen, got {given}")
        rows = [slice(at, at + FUSE_CHUNK) for at in range(0, count, FUSE_CHUNK)]
        blocks = [self._fuse_chunk(features[row], view_ids[row], mask[row]) for row in rows]
        return np.concatenate(blocks) if blocks else np.empty((0, len(self.rules.parents)), np.float32)

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
        with plain_float32():
            logits_FK = self.head(*(part.to(self.device) for part in (features_FTD, view_ids_FT, mask_FT)))
            probabilities_FK = path_probabilities(logits_FK, self.rules)
        result: NDArray[np.float32] = probabilities_FK[:count].float().cpu().numpy()
        return result


def rules_of(bundle: Bundle, device: torch.device) -> CallRules:
    """What the bundle says of its logits, on `device`."""
    calibration, thresholds = bundle.calibration, bundle.thresholds
    numbers = (calibration.scale, calibration.bias, thresholds.normal_below, thresholds.abnormal_from)
    scale_K, bias_K, low_K, high_K = (torch.tensor(each, device=device) for each in numbers)
    return CallRules(
        parents=tuple(bundle.taxonomy.parents),
        scale_K=scale_K,
        bias_K=bias_K,
        normal_below_K=low_K,
        abnormal_from_K=high_K,
        conditional=bundle.recipe.head.conditional,
    )


def load_head(bundle: Bundle) -> HierarchicalHead:
    """The head with its weights, in eval mode, float32, on the CPU; the encoder's are not read.

    Raises EnvironmentFault MX-M002 where they do not fit the recipe.
    """
    path = bundle.path / WEIGHTS
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = (name for name in file.keys() if name.startswith("head."))  # noqa: SIM118  # no mapping
            weights = {name.removeprefix("head."): file.get_tensor(name) for name in names}
        head = build_head(bundle.recipe, bundle.taxonomy, feature_dim=weights[_NORM].shape[1])
        head.load_state_dict(weights)
    except (safetensors.SafetensorError, RuntimeError, OSError, KeyError, MxbatchError) as error:
        reason = error.what if isinstance(error, MxbatchError) else " ".join(str(error).split())
        raise EnvironmentFault(
            "MX-M002", f"the head's weights do not fit the recipe: {reason}", path=path
        ) from error
    return head.float().eval()


@contextmanager
def plain_float32() -> Iterator[None]:
    """No gradients; on a GPU, no TF32 and no algorithm chosen by a race: the same bits every time."""
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), cudnn:
        yield
