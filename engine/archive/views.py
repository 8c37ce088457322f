"""The views that a radiograph can show, and every word an archive may use for one.

IMPC says the view through the parameter under which an image was sent (IMPReSS dump of 2020-06-18), a
centre's own table says it in words. Neither is read from a file's name: names are free text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from mxbatch.engine.errors import UsageError

VIEWS = ("dv", "lv", "skull_dv", "skull_lv", "forepaw", "hind_leg")
UNKNOWN_VIEW = "unknown"
"""The view of a radiograph of which nobody said what it shows."""
SKIP = "skip"
"""What a user maps a view to whose radiographs are to be left out."""

_VIEW_OF_NUMBER = {
    "034": "dv",
    "048": "lv",
    "049": "forepaw",
    "050": "skull_lv",
    "051": "skull_dv",
    "052": "hind_leg",
}
# The Harwell Ageing Screen numbered its whole-body images on its own; its 048 is a calibration date.
_HAS_VIEW_OF_NUMBER = {
    "034": "lv",
    "035": "dv",
    "049": "forepaw",
    "050": "skull_lv",
    "051": "skull_dv",
    "052": "hind_leg",
}
_IMAGE_PARAMETER = re.compile(r"([A-Z0-9-]+)_XRY_(\d{3})_001")

# Normalised as `_plain` does: the classes of EBI's own view check, IMPReSS's names, and short forms that
# nobody can misread.
_WORDS = {
    "dv": """dorsoventral wholebodydv wholebodydorsal wholebodydorsoventral
             xrayimagesdorsoventral xrayimageswholebodydorsoventral""",
    "lv": """lat lateral wholebodylv wholebodylateral
             xrayimageslateralorientation xrayimageswholebodylateralorientation""",
    "skull_dv": "skulldorsoventral headdv headdorsal headdorsoventral xrayimagesskulldorsoventralorientation",
    "skull_lv": "skulllat skulllateral headlv headlateral xrayimagesskulllateralorientation",
    "forepaw": "frontpaw xrayimagesforepaw",
    "hind_leg": "hindlimb hindleghip hindlegandhip xrayimageshindlegandhip",
}


def view_of(parameter: str) -> str | None:
    """The view that an image parameter (`IMPC_XRY_034_001`, `JAXLA_XRY_048_001`) stands for, else None."""
    if (match := _IMAGE_PARAMETER.fullmatch(parameter)) is None:
        return None
    prefix, number = match.groups()
    return (_HAS_VIEW_OF_NUMBER if prefix == "HAS" else _VIEW_OF_NUMBER).get(number)


class ViewWords:
    """Turns the words of one archive into views: the user's own mapping first, then the model's, then ours.

    Words meet by letters and digits alone, so `Dorso-Ventral` is `dorsoventral`. Raises `UsageError`
    (MX-U002) when `mapping` leads to a view that is neither one of `VIEWS`, nor in `extra_views`, nor `skip`.
    """

    def __init__(self, mapping: Mapping[str, str] | None = None, extra_views: Collection[str] = ()) -> None:
        self.known = tuple(dict.fromkeys((*VIEWS, *extra_views)))
        self._view_of_word = {word: view for view, words in _WORDS.items() for word in words.split()}
        self._view_of_word |= {_plain(view): view for view in self.known}
        for word, view in (mapping or {}).items():
            self._view_of_word[_plain(word)] = self.check(view)

    def check(self, view: str) -> str:
        """`view` as it is, or `UsageError` (MX-U002) that lists the views one may name."""
        if view not in (*self.known, SKIP):
            raise UsageError(
                "MX-U002",
                f"unknown view '{view}'",
                fix=f"name one of {', '.join(self.known)}, or `{SKIP}` to leave it out",
            )
        return view

    def view(self, word: str) -> str | None:
        """The view that `word` means, `skip`, or None where nobody knows the word."""
        return self._view_of_word.get(_plain(word)) or view_of(word)


def _plain(word: str) -> str:
    return "".join(c for c in word.casefold() if c.isalnum()) or word
