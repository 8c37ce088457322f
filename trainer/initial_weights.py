"""Weights to begin with: drawn anew, or from a file of timm's, made for colour and a thousand classes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from torch import Tensor, nn

from mxbatch.engine.errors import UsageError
from mxbatch.engine.models.backbones import TimmBackbone
from mxbatch.engine.models.hierarchical import HierarchicalModel
from mxbatch.engine.models.recipe import Recipe
from mxbatch.trainer.training import training_of


def begin_at_full_size(encoder: nn.Module, seed: int) -> None:
    """Draw the weights of all convolutions so that what passes through keeps its size (He et al. 2015)."""
    random = torch.Generator().manual_seed(seed)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=random)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def with_named_weights(recipe: Recipe) -> Recipe:
    """`recipe` with its file of weights by bare name and SHA-256, as bundles and checkpoints hold it.

    Where the file lies is this machine's business; what is in it made the model. Raises UsageError MX-U007 where it
    cannot be read, or is another than the recipe says.
    """
    training = training_of(recipe)
    if not training.weights:
        return recipe
    path = Path(training.weights)
    digest = _sha256(path)
    if training.weights_sha256 not in (None, digest):
        raise UsageError("MX-U007", f"the weights have SHA-256 {digest}, not the recipe's", path=path)
    return replace(recipe, training={**recipe.training, "weights": path.name, "weights_sha256": digest})


def load_initial_weights(model: HierarchicalModel, path: Path) -> None:
    """Fill the encoder of `model`, a backbone of timm, from `path` (.safetensors or .pth).

    The file has timm's names. What the encoder has no place for, such as a classifier, is passed over; what it
    needs has to be there. Nothing in the file is run. Raises UsageError MX-U007 where it cannot be read, or is
    not a whole set of weights of this architecture.
    """
    body = cast("TimmBackbone", model.encoder.backbone).body
    theirs = _read(path)
    fitted = {}
    for name, ours in body.state_dict().items():
        if name not in theirs:
            raise UsageError("MX-U007", f"the weights lack {name!r}, which this backbone has", path=path)
        tensor = _fit(theirs[name], ours.shape)
        if tensor is None:
            shapes = f"{list(theirs[name].shape)}, here it is {list(ours.shape)}"
            raise UsageError(
                "MX-U007", f"the weights are another backbone's: {name!r} is {shapes}", path=path
            )
        fitted[name] = tensor
    body.load_state_dict(fitted)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError("MX-U007", f"the weights cannot be read: {error.strerror}", path=path) from error


def _fit(tensor: Tensor, shape: torch.Size) -> Tensor | None:
    """`tensor` in `shape`, or None where that makes no sense.

    Two differences do: a linear layer in the form of a 1x1 convolution (or the other way round), and a first
    layer made for colour: summed over its channels it says of a grey picture what it said of that picture in
    three equal channels.
    """
    if tensor.shape == shape:
        return tensor
    if tensor.squeeze().shape == torch.Size(n for n in shape if n != 1) and tensor.shape[0] == shape[0]:
        return tensor.reshape(shape)
    summed = tensor.sum(dim=1, keepdim=True) if tensor.ndim == 4 else tensor
    return summed if summed.shape == shape else None


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of the file by name."""
    import safetensors.torch
    from safetensors import SafetensorError

    content: Any
    try:
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, SafetensorError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError("MX-U007", f"the weights cannot be read: {reason}", path=path) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UsageError("MX-U007", "the file holds no set of weights", path=path)
    return content
