"""The report: numbers that match the tables, whatever the archive calls its mice, on a page that stands alone."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxbatch.engine.archive.index import INDEX_SCHEMA, KEY
from mxbatch.engine.calls import calls_schema
from mxbatch.engine.errors import CODES, UsageError
from mxbatch.engine.ledger import QUARANTINE_SCHEMA, Output, RunRecord
from mxbatch.engine.plan import make_plan
from mxbatch.engine.report.facts import BINS, RUNS, TOP, Facts, report_facts
from mxbatch.engine.report.report import render, write_report
from mxbatch.engine.taxonomy import read_taxonomy

SCHEMA = calls_schema(read_taxonomy())
NO_CALLS, NO_QUARANTINE = SCHEMA.empty_table(), QUARANTINE_SCHEMA.empty_table()
LISTS = ("views_used", "views_missing", "l2_calls", "l3_calls", "mp_terms", "review", "flags")
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "' style='position:fixed",
    "{{ 7 * 7 }}",
    "gpj.\N{RIGHT-TO-LEFT OVERRIDE}exe",
    "\N{RIGHT-TO-LEFT MARK}\x00\n\x1b[31m",
    "https://example.org/pixel.png",
    "m" * 500,
)


def mouse(name: str, call: str = "normal", p: float | None = 0.1, **columns: Any) -> dict[str, Any]:
    """A row of calls; columns that nobody names are empty."""
    row = (
        dict.fromkeys(SCHEMA.names, "") | {name: [] for name in LISTS} | {"age_weeks": 16, "scored_at": None}
    )
    row |= {name: p for name in SCHEMA.names if name.startswith("p_")}
    return row | {"centre": "BCM", "specimen_id": name, "call": call, "p_abnormal": p} | columns


def calls_of(*mice: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(mice), schema=SCHEMA)


def bad(path: str, code: str = "MX-D101", specimen: str = "q", centre: str = "BCM") -> dict[str, Any]:
    name = CODES[code].name if code in CODES else "NEW"
    key = dict.fromkeys(KEY, "") | {"centre": centre, "specimen_id": specimen}
    return key | {"path": path, "code": code, "name": name}


def quarantine_of(*radiographs: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(radiographs), schema=QUARANTINE_SCHEMA)


def run(number: int = 1, **fields: Any) -> RunRecord:
    return RunRecord(
        **{
            "run_id": f"{number:05d}-20261120T105021Z",
            "archive": "/mnt/xray",
            "model_id": "tiny-mv-0a1b",
            "learned_from": "radiographs",
            "state": "finished",
            "started_at": "2026-11-20T10:50:21+00:00",
            "counts": {"calls": 4, "radiographs_used": 12, "radiographs_quarantined": 2},
            "seconds": {"decode": 6.0, "encode": 2.0, "wall": 9.0, "startup": 1.0},
            "radiographs_per_s": 36.4,
            "bottleneck": "decode",
        }
        | fields
    )


def table() -> pa.Table:
    """Four mice that a reader can count."""
    return calls_of(
        mouse("a", "abnormal", 0.95, l2_calls=["axial"], l3_calls=["ribs"], flags=["view_unknown"]),
        mouse("b", "review", 0.5, review=["abnormal", "axial"]),
        mouse("c", "normal", 0.02, centre="WTSI"),
        mouse("d", "unscored", None, centre="WTSI", flags=["view_unknown", "of_tomorrow"]),
    )


class Page(HTMLParser):
    """What a browser makes of the page: its tags with attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_headline_counts_each_call_and_the_specimens_without_one() -> None:
    quarantine = quarantine_of(
        bad("a.jpg", specimen="a"), bad("q1.jpg"), bad("q2.jpg"), bad("x", specimen="")
    )
    facts = report_facts(table(), quarantine, [run()])
    assert facts.specimens == 4
    assert facts.by_call == {"abnormal": 1, "review": 1, "normal": 1, "unscored": 1}
    assert facts.lost == 1, "`a` has a call, and a file without a specimen is none"
    assert facts.quarantined == 4


def test_a_specimen_is_told_from_its_namesake_of_another_centre() -> None:
    facts = report_facts(table(), quarantine_of(bad("a.jpg", specimen="a", centre="WTSI")), [run()])
    assert facts.lost == 1


def test_a_node_is_counted_among_the_specimens_that_could_be_judged() -> None:
    nodes = {node.name: node for node in report_facts(table(), NO_QUARANTINE, [run()]).nodes}
    root, axial, ribs = nodes["abnormal"], nodes["axial"], nodes["ribs"]
    assert (root.judged, root.abnormal, root.review) == (3, 1, 1)
    assert (axial.judged, axial.abnormal, axial.review) == (3, 1, 1)
    assert (ribs.judged, ribs.abnormal, ribs.review) == (3, 1, 0)
    assert root.share == pytest.approx(1 / 3)
    assert [n for n, number in enumerate(root.bins) if number] == [0, 10, 19]


@given(st.lists(st.one_of(st.none(), st.floats(0, 1, width=32)), max_size=30))
def test_every_probability_falls_into_one_bin_also_zero_and_one(p: list[float | None]) -> None:
    mice = [mouse(str(n), "unscored" if value is None else "normal", value) for n, value in enumerate(p)]
    root = report_facts(calls_of(*mice), NO_QUARANTINE, []).nodes[0]
    assert len(root.bins) == BINS
    assert sum(root.bins) == root.judged == sum(value is not None for value in p)


def test_nodes_of_the_known_tree_stand_under_their_parents_with_titles() -> None:
    nodes = report_facts(table(), NO_QUARANTINE, [run()]).nodes
    assert [(node.name, node.level) for node in nodes[:4]] == [
        ("abnormal", 1),
        ("craniofacial", 2),
        ("skull", 3),
        ("jaw_teeth", 3),
    ]
    assert nodes[0].title == "any skeletal abnormality"
    assert {f"p_{node.name}" for node in nodes} == {name for name in SCHEMA.names if name.startswith("p_")}


def test_nodes_of_another_taxonomy_are_a_list_without_a_guessed_tree() -> None:
    theirs = table().drop_columns([name for name in SCHEMA.names if name.startswith("p_")])
    for name in ("p_odd", "p_axial", "p_tail"):
        theirs = theirs.append_column(name, pa.array([0.9, 0.5, None, None], pa.float32()))
    nodes = report_facts(theirs, NO_QUARANTINE, [run()]).nodes
    assert [(node.name, node.level, node.title) for node in nodes] == [
        ("odd", 1, ""),
        ("axial", 2, ""),
        ("tail", 2, ""),
    ]
    assert [node.abnormal for node in nodes] == [1, 1, 0]


def test_centres_come_by_size_with_shares_of_what_was_scored_also_those_without_a_call() -> None:
    quarantine = quarantine_of(bad("q.jpg", centre="ICS"), bad("r.jpg", centre="ICS"), bad("x", centre=""))
    calls = pa.concat_tables([table(), calls_of(mouse("e", "unscored", None))])
    facts = report_facts(calls, quarantine, [run()])
    rows = [tuple(row.values()) for row in facts.centres]
    assert rows == [
        ("BCM", 3, 0.5, 0.5, 0),
        ("WTSI", 2, 0.0, 0.0, 0),
        ("(not given)", 0, None, None, 1),
        ("ICS", 0, None, None, 2),
    ]


def test_the_most_abnormal_come_first_and_equal_ones_by_key() -> None:
    mice = [mouse(f"m{n:02d}", p=0.5) for n in reversed(range(30))]
    facts = report_facts(
        calls_of(*mice, mouse("z", "abnormal", 0.9), mouse("u", "unscored", None)), NO_QUARANTINE, []
    )
    assert [row["specimen_id"] for row in facts.top] == ["z", *(f"m{n:02d}" for n in range(TOP - 1))]


def test_quarantine_is_told_by_code_with_what_to_do_and_three_examples() -> None:
    paths = [bad(f"{n}.jpg") for n in (4, 2, 3, 1)]
    first, second, third = report_facts(
        NO_CALLS, quarantine_of(bad("a", "MX-D003"), *paths, bad("t", "MX-Z999")), []
    ).codes
    assert (first["code"], first["radiographs"], first["examples"]) == (
        "MX-D101",
        4,
        ["1.jpg", "2.jpg", "3.jpg"],
    )
    assert first["fix"] == CODES["MX-D101"].fix
    assert second["meaning"] == CODES["MX-D003"].meaning
    assert (third["name"], third["fix"]) == ("NEW", None)


def test_flags_come_with_their_meaning_and_one_of_a_later_version_is_not_dropped() -> None:
    rows = report_facts(table(), NO_QUARANTINE, []).flags
    assert [(row["name"], row["specimens"]) for row in rows] == [("view_unknown", 2), ("of_tomorrow", 1)]
    assert rows[1]["meaning"] is None


def test_stages_share_the_work_and_the_clock_is_no_stage() -> None:
    stages = report_facts(NO_CALLS, NO_QUARANTINE, [run()]).stages
    assert [(stage.name, stage.start, stage.share) for stage in stages] == [
        ("decode", 0, 0.75),
        ("encode", 0.75, 0.25),
    ]


def test_runs_come_newest_first_and_old_ones_are_counted() -> None:
    facts = report_facts(NO_CALLS, NO_QUARANTINE, [run(number) for number in range(1, RUNS + 3)])
    assert [record.run_id[:5] for record in facts.runs][:2] == [f"{RUNS + 2:05d}", f"{RUNS + 1:05d}"]
    assert len(facts.runs) == RUNS
    assert facts.earlier_runs == 2
    assert "and 2 earlier" in Page(render(facts)).text


def test_the_page_says_what_was_counted() -> None:
    text = Page(render(report_facts(table(), quarantine_of(bad("q.jpg")), [run()]))).text
    for words in (
        "4 specimens called",
        "specimens wholly in quarantine 1",
        "radiographs used 12",
        "bottleneck decode",
        "decode 6.00 s · 75.0%",
        "any skeletal abnormality 3 1 33.3% 1",
        "WTSI 2 0.0% 0.0% 0",
        "0.950 BCM a",
        "MX-D101 JPEG_TRUNCATED 1 the JPEG file ends before its image does",
        "00001-20261120T105021Z finished 4 2 36.4 tiny-mv-0a1b",
    ):
        assert words in text


def test_few_are_not_none_and_thousands_are_grouped() -> None:
    page = render(report_facts(calls_of(mouse("x", "abnormal"), *[mouse("y")] * 2999), NO_QUARANTINE, []))
    assert "< 0.1%" in Page(page).text
    assert "3\N{NARROW NO-BREAK SPACE}000 specimens called" in page


@pytest.mark.parametrize(
    ("untrained_mice", "run_from", "banner"),
    [(0, "radiographs", None), (2, "nothing", "These calls come from an untrained model"),
     (1, "radiographs", "1 of 2 specimens: These calls come from an untrained model"),
     (0, "nothing", "These calls come from an untrained model"), (0, "phantoms", "trained on phantoms")],
)  # fmt: skip
def test_the_banner_is_there_when_any_call_is_no_finding(
    untrained_mice: int, run_from: str, banner: str | None
) -> None:
    mice = [mouse(str(n), flags=["untrained_model"] if n < untrained_mice else []) for n in range(2)]
    page = render(report_facts(calls_of(*mice), NO_QUARANTINE, [run(learned_from=run_from)]))
    assert ('class="banner"' in page) == (banner is not None)
    assert banner is None or banner in Page(page).text


def hostile_facts() -> Facts:
    """Every place that holds an outside name holds each hostile one."""
    texts = ("centre", "specimen_id", "date_of_experiment", "gene_symbol", "zygosity", "sex")
    mice = [
        mouse("", p=0.9, **dict.fromkeys(texts, name), **{key: [name] for key in LISTS}) for name in HOSTILE
    ]
    radiographs = [{**bad(name, specimen=name, centre=name), "code": name, "name": name} for name in HOSTILE]
    records = [
        run(run_id=name, archive=name, model_id=name, started_at=name, bottleneck=name, seconds={name: 1.0})
        for name in HOSTILE
    ]
    calls = calls_of(*mice).append_column("p_<b>bold", pa.array([0.5] * len(HOSTILE), pa.float32()))
    return report_facts(calls, quarantine_of(*radiographs), records)


def test_hostile_names_come_out_as_text() -> None:
    html = render(hostile_facts())
    page, plain = Page(html), Page(render(report_facts(table(), quarantine_of(bad("q")), [run()])))
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in plain.tags}
    assert not {name for _, attributes in page.tags for name in attributes if name.startswith("on")}
    assert "<img src=x onerror=alert(1)>" in page.text
    assert "<b>bold" in page.text
    assert "{{ 7 * 7 }}" in page.text


def test_marks_that_turn_writing_or_drive_terminals_are_made_visible() -> None:
    html = render(hostile_facts())
    assert "gpj.\\u202eexe" in html
    assert not {"\N{RIGHT-TO-LEFT OVERRIDE}", "\N{RIGHT-TO-LEFT MARK}", "\x00", "\x1b"} & set(html)


def test_a_name_of_five_hundred_letters_keeps_its_ends_only() -> None:
    html = render(hostile_facts())
    assert "mmm…mmm" in html
    assert "m" * 65 not in html


def test_the_page_asks_nobody_for_anything() -> None:
    page = Page(render(report_facts(table(), quarantine_of(bad("q.jpg")), [run()])))
    assert ("meta", {
        "http-equiv": "Content-Security-Policy",
        "content": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    }) in page.tags  # fmt: skip
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"} & {
        tag for tag, _ in page.tags
    }
    assert not {"src", "href", "srcset", "xlink:href"} & {
        name for _, attributes in page.tags for name in attributes
    }
    assert not re.search(r"https?:|//|url\(|@import", render(report_facts(NO_CALLS, NO_QUARANTINE, [])))


@pytest.mark.parametrize(
    "runs", [[], [run()], [run(state="running", counts={}, seconds={}, radiographs_per_s=None)]]
)
def test_nothing_called_and_nothing_refused_is_a_page_too(runs: list[RunRecord]) -> None:
    text = Page(render(report_facts(NO_CALLS, NO_QUARANTINE, runs))).text
    assert "0 specimens called" in text
    assert "Nothing is in quarantine." in text
    assert "No specimen has been scored." in text


def test_a_run_that_has_not_finished_says_how_it_goes_on() -> None:
    running = run(state="running", counts={}, seconds={}, radiographs_per_s=None, bottleneck=None)
    text = Page(render(report_facts(table(), NO_QUARANTINE, [running]))).text
    assert "It has not finished" in text
    assert "00001-20261120T105021Z not finished – – –" in text


def test_bars_stay_inside_their_boxes() -> None:
    p = np.linspace(0, 1, 60)
    facts = report_facts(
        calls_of(*(mouse(str(n), p=float(x)) for n, x in enumerate(p))), NO_QUARANTINE, [run()]
    )
    boxes = {"bars": 0, "stack": 0}
    for tag, attributes in Page(render(facts)).tags:
        if tag == "svg":
            kind = str(attributes["class"])
            _, _, width, height = map(float, str(attributes["viewbox"]).split())
        elif tag == "rect":
            boxes[kind] += 1
            x, y, w, h = (float(attributes.get(name) or 0) for name in ("x", "y", "width", "height"))
            assert min(x, y, w, h) >= 0
            assert x + w <= width + 0.1
            assert y + h <= height + 0.1
    assert boxes == {"bars": BINS * len(facts.nodes), "stack": 3}


def begun(folder: Path) -> Output:
    output = Output(folder)
    row = dict.fromkeys(KEY, "") | {
        "centre": "BCM",
        "specimen_id": "a",
        "path": "a.jpg",
        "size": 1,
        "mtime_ns": 1,
    }
    output.begin(
        run(state="running"), make_plan(pa.Table.from_pylist([row], schema=INDEX_SCHEMA), model_id="m")
    )
    return output


def test_the_report_of_a_run_folder_is_written_into_it_and_the_same_bytes_again(tmp_path: Path) -> None:
    output = begun(tmp_path)
    output.commit(run().run_id, 0, table(), NO_QUARANTINE)
    path = write_report(output)
    assert path == tmp_path / "report.html"
    first = path.read_bytes()
    assert "4 specimens called" in first.decode()
    assert write_report(output).read_bytes() == first


def test_a_run_without_a_committed_shard_has_a_report(tmp_path: Path) -> None:
    assert "0 specimens called" in write_report(begun(tmp_path)).read_text(encoding="utf-8")


def test_a_folder_without_runs_gets_no_report(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="MX-U005"):
        write_report(Output(tmp_path))
    assert list(tmp_path.iterdir()) == []
