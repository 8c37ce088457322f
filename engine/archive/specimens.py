"""Names for radiographs whose specimen nobody named: each becomes a specimen of its own.

The file's stem is what people recognise, so it is kept where it is unique; a longer name only where it must
be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple


class Nameless(NamedTuple):
    """A radiograph that needs a specimen id."""

    group: tuple[str, ...]
    """The rest of its specimen's key: ids need to differ within it only."""
    names: tuple[str, ...]
    """Candidates, shortest first; the last one is unique (a path)."""


def own_names(
    radiographs: Sequence[Nameless], taken: Collection[tuple[tuple[str, ...], str]] = ()
) -> list[str]:
    """An id for each of `radiographs`, none twice in a group and none that is `taken` (group, id).

    All who would share a short name get a longer one, so the outcome does not depend on their order.
    """
    chosen: dict[int, str] = {}
    used = set(taken)
    for level in range(max((len(each.names) for each in radiographs), default=0)):
        open_ones = [i for i in range(len(radiographs)) if i not in chosen]
        wish = {
            i: (radiographs[i].group, radiographs[i].names[min(level, len(radiographs[i].names) - 1)])
            for i in open_ones
        }
        rivals = Counter(wish.values())
        given = {i: name for i, name in wish.items() if rivals[name] == 1 and name not in used}
        chosen |= {i: name for i, (_, name) in given.items()}
        used.update(given.values())
    return [chosen.get(i, each.names[-1]) for i, each in enumerate(radiographs)]
