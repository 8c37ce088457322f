"""What a rate means: hours for the whole published corpus, and money."""

from __future__ import annotations

from mxbatch.bench.result import Table

CORPUS_RADIOGRAPHS, CORPUS_SPECIMENS = 170_958, 54_046
"""IMPC's published X-ray corpus."""


def cost_per_million(rate: float, price_per_hour: float) -> float:
    """What a million radiographs cost on a machine of `price_per_hour` that does `rate` of them per second."""
    return price_per_hour / (rate * 3600) * 1_000_000


def corpus_table(rate: float, startup_s: float, price_per_hour: float | None) -> Table:
    """The corpus at `rate` radiographs/s, an extrapolation: same machine, files like those that were measured.

    `startup_s` passes once. What indexing and planning take for so many is measured by `mxbatch bench scale`.
    """
    seconds = CORPUS_RADIOGRAPHS / rate + startup_s
    rows: list[tuple[str, float | str]] = [
        ("radiographs", CORPUS_RADIOGRAPHS),
        ("specimens", CORPUS_SPECIMENS),
        ("minutes", round(seconds / 60, 1)),
        ("of these to start", round(startup_s / 60, 2)),
        ("specimens/s", round(CORPUS_SPECIMENS / seconds, 2)),
    ]
    if price_per_hour is not None:
        rows += [
            ("price per hour", price_per_hour),
            ("price of the corpus", round(price_per_hour * seconds / 3600, 4)),
            ("price of a million radiographs", round(cost_per_million(rate, price_per_hour), 2)),
        ]
    return Table(columns=("the whole corpus", "extrapolated"), rows=tuple(rows))
