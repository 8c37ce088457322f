"""The page that people read before they trust a model. Made from the manifest, so it promises no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NOTHING = {"nothing": "Nothing: the weights are random."}


def model_card(manifest: Mapping[str, Any]) -> str:
    """Markdown from the content of bundle.toml."""
    recipe, taxonomy = manifest["recipe"], manifest["taxonomy"]
    backbone = recipe["backbone"]
    learned = {name: value for name, value in manifest["training"].items() if name != "thresholds"}
    rule = manifest["training"].get("thresholds", {}).get("rule", {})
    warning = f"> **{manifest['warning']}**\n\n" if "warning" in manifest else ""
    return f"""# {manifest["model_id"]}

{warning}A model of mxbatch: from a mouse's radiographs, the probability of skeletal abnormalities.

- Backbone: {backbone["name"]} ({backbone["kind"]}), input {recipe["input"]["size"]} pixels a side
- Views: {", ".join(recipe["views"])}; any subset of them, up to {recipe["max_radiographs"]} radiographs
- Taxonomy: {taxonomy["name"]}, version {taxonomy["version"]}, {len(taxonomy["nodes"])} nodes
- Licence: {manifest["licence"]}
- Written with: {", ".join(f"{name} {version}" for name, version in manifest["versions"].items())}

## Trained on

{_table(learned, _NOTHING.get(manifest["learned_from"], "Nothing is stated."))}

## Measured

{_table(manifest["metrics"], "Nothing is stated: treat its calls as unproven.")}

## Nodes

| node | means | normal below | abnormal from |
| --- | --- | --- | --- |
{_nodes(manifest)}

{_table(rule, "How the thresholds were chosen is not stated.")}

## Use

For research, to rank and pre-sort radiographs of laboratory mice; a person decides. It was not made for other
species, nor for diagnosis. Between its two thresholds a node is called `review`. A probability is the product
along the path from the root. MP terms are those of the taxonomy, with the evidence that it states.
"""


def _table(values: Mapping[str, Any], otherwise: str) -> str:
    return "\n".join(f"- {name}: {_words(value)}" for name, value in values.items()) or otherwise


def _words(value: Any) -> str:
    """A value of TOML in a line of text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(part)}" for name, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _nodes(manifest: Mapping[str, Any]) -> str:
    thresholds = manifest["thresholds"]
    return "\n".join(
        "| {} | {} | {} | {} |".format(node["name"], node["title"], *thresholds[node["name"]])
        for node in manifest["taxonomy"]["nodes"]
    )
