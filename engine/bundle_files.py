"""What the files of a bundle are called. Apart from bundle.py, so that a Ray actor, which only looks whether a bundle
is there, need not import what reads it."""

from __future__ import annotations

MANIFEST, WEIGHTS, CARD, SUMS = "bundle.toml", "weights.safetensors", "MODEL_CARD.md", "SHA256SUMS"
CONTENT = (MANIFEST, WEIGHTS, "golden.npz", CARD)
"""What a bundle holds besides SHA256SUMS."""
