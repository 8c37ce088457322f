"""`report.html`: the page that a technician opens after a night's run.

Three steps, each of its own: read the run folder, count (facts.py), lay out (`render` and template.html). The page
stands alone: no script, no font, no request leaves it. Everything on it comes from the files of the run folder and
nothing from the clock, so the same folder gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from mxbatch import __version__
from mxbatch.engine.calls import calls_schema
from mxbatch.engine.errors import one_line
from mxbatch.engine.ledger import Output
from mxbatch.engine.report.facts import Facts, report_facts
from mxbatch.engine.results import existing_output, read_calls, read_quarantine
from mxbatch.engine.storage import Place
from mxbatch.engine.taxonomy import Taxonomy, read_taxonomy

LONGEST = 64
"""Characters of a name from the archive; of a longer one both ends are shown, since a path's end tells most."""


def write_report(output: Output, taxonomy: Taxonomy | None = None) -> Place:
    """Write `report.html` into the run folder, from what is committed there, and return its place.

    `taxonomy` gives the nodes their titles and places in the tree; None takes the built-in one. Raises
    UsageError (MX-U005) where there is no run folder and EnvironmentFault where the page cannot be written.
    """
    tree = taxonomy or read_taxonomy()
    runs = existing_output(output.store.address).runs()
    committed = any(output.committed(record.run_id) for record in runs)
    calls = read_calls(output.store.address) if committed else calls_schema(tree).empty_table()
    page = render(report_facts(calls, read_quarantine(output.store.address), runs, tree))
    output.store.write("report.html", page.encode())
    return output.where("report.html")


def render(facts: Facts) -> str:
    """The page as HTML. Whatever the archive calls its mice, it comes out as text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"clip": _clip, "listed": _listed, "percent": _percent}
    source = files(__package__).joinpath("template.html").read_text(encoding="utf-8")
    return environment.from_string(source).render(facts=facts, version=__version__)


def _percent(share: float | None) -> str | None:
    """One of ten thousand is few, not none."""
    if share is None:
        return None
    return "< 0.1%" if 0 < share < 0.0005 else f"{100 * share:.1f}%"


def _clip(name: str | None, longest: int = LONGEST) -> str | None:
    half = longest // 2
    return name if name is None or len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(str(_clip(name, LONGEST // 2)) for name in names)


def _shown(value: object) -> str:
    """How the page prints a value: every `{{ }}` of the template comes through here, then is escaped.

    Control characters and marks that turn the direction of writing become visible (`one_line`), so that a name
    cannot pass for another.
    """
    match value:
        case None | "":
            return "–"
        case int():
            return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
        case float():
            return f"{value:.1f}"
        case _:
            return one_line(str(value))
