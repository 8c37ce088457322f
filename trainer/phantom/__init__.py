"""Phantoms: drawn radiographs of a parametric mouse, whose every abnormality is known."""
