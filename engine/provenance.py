"""What a model has learned from, and what that means for its calls.

It stands in the model id, in every row's flags, in the model card and wherever else people look, so that nobody
takes a number for a finding that is none.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Provenance:
    """One kind of origin. `prefix` opens the model id; `flag` is in every row that the model writes."""

    prefix: str
    flag: str | None
    warning: str
    """For people, one sentence; empty where there is nothing to warn of."""


LEARNED_FROM = {
    "nothing": Provenance(
        "untrained-", "untrained_model", "These calls come from an untrained model: they mean nothing."
    ),
    "phantoms": Provenance(
        "phantom-",
        "phantom_model",
        "These calls come from a model trained on phantoms, which are drawn: not for science.",
    ),
    "radiographs": Provenance("", None, ""),
}
"""Bundle.learned_from -> what follows from it."""


def flags_of(learned_from: str) -> set[str]:
    """The flags that every row of such a model carries."""
    flag = LEARNED_FROM[learned_from].flag
    return {flag} if flag else set()
