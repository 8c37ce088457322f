"""The documents are run: every command, every example, every table. `pytest tests/test_docs.py --renew` rewrites
what they show of the machine's output; the commit that does so says why it moved.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import duckdb
import pytest
from conftest import Run

from mxbatch.bench.cli import app as bench
from mxbatch.bench.result import read_result
from mxbatch.bench.runtimes import markdown
from mxbatch.bench.show import short
from mxbatch.engine.calls import calls_schema
from mxbatch.engine.cli import app
from mxbatch.engine.errors import CODES
from mxbatch.engine.flags import FLAGS
from mxbatch.engine.ledger import QUARANTINE_SCHEMA
from mxbatch.engine.model_store import resolve_model
from mxbatch.engine.taxonomy import read_taxonomy
from mxbatch.trainer.cli import app as training

OTHERS = {"--renew", "--benchmark-enable", "--benchmark-autosave", "--benchmark-compare", "--nproc-per-node"}
"""Options of pytest and torchrun."""
ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

CHANGING = {
    r"\d{5}-\d{8}T\d{6}Z": "<run>",
    r"-[0-9a-f]{12}\b": "-<hash>",
    r"speed .*": "speed <...>",
    r"\b[01]\.\d{2,3}\b": "<figure>",
    r"\b(normal|review|abnormal)\b": "<call>",
    r"  +": " ",
}
"""What differs from run to run and from machine to machine."""


def steady(text: str) -> str:
    for pattern, name in CHANGING.items():
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return text.strip()


@dataclass
class Block:
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text("utf-8"), re.S | re.M):
        yield Block(language, text)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's commands are given one after the other."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "tests").symlink_to(ROOT / "tests")
    return folder


def give(command: str, desk: Path) -> str:
    program, *rest = command.split()
    module = {"mxbatch": ["-m", "mxbatch"], "python": []}[program]
    environment = {**os.environ, "XDG_CACHE_HOME": str(desk / "cache")}
    done = subprocess.run(
        [sys.executable, *module, *rest],
        cwd=desk,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


def shown(block: Block) -> Iterator[tuple[str, str]]:
    """(command, what the page shows of its output)"""
    for entry in block.text.removeprefix("$ ").split("\n$ "):
        command, _, output = entry.partition("\n")
        yield command, output


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "training.md"], ids=lambda page: page.name)
def test_a_page_shows_what_its_commands_print(page: Path, desk: Path, request: pytest.FixtureRequest) -> None:
    [session] = [block for block in blocks(page) if block.language == "console"]
    for block in blocks(page):
        if block.language == "toml":  # a recipe, which the commands call by its own name
            (desk / f"{tomllib.loads(block.text)['name']}.toml").write_text(block.text, "utf-8")
    printed = [(command, given, give(command, desk)) for command, given in shown(session)]
    if request.config.getoption("--renew"):
        fresh = "".join(f"$ {command}\n{output}" for command, _, output in printed)
        page.write_text(page.read_text("utf-8").replace(session.text, fresh), "utf-8")
        return
    for command, given, output in printed:
        assert steady(output) == steady(given), command


def test_the_readme_shows_what_its_python_prints(desk: Path, request: pytest.FixtureRequest) -> None:
    found = list(blocks(README))
    at = next(n for n, block in enumerate(found) if block.language == "python")
    code, output = found[at], found[at + 1]
    done = subprocess.run(
        [sys.executable, "-c", code.text], cwd=desk, capture_output=True, text=True, check=True
    )
    if request.config.getoption("--renew"):
        README.write_text(README.read_text("utf-8").replace(output.text, done.stdout), "utf-8")
        return
    assert steady(done.stdout) == steady(output.text)


def test_the_readmes_sql_runs(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    [query] = [block for block in blocks(README) if block.language == "sql"]
    duckdb.execute(query.text).fetchall()


def test_the_readmes_main_job_runs(mxbatch: Run, tmp_path: Path) -> None:
    """The command after the set-up, as it stands."""
    line = next(line for line in README.read_text("utf-8").splitlines() if line.endswith("mxbatch demo"))
    done = mxbatch(*line.split(".venv/bin/mxbatch ")[1].split(), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert "trained on phantoms" in done.stdout
    for line in done.stdout.splitlines():
        if line.startswith("  pandas"):
            code = f"import pandas; assert len({line.split(maxsplit=1)[1]}) == 12"
            subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_the_readmes_number_is_that_of_a_result_file() -> None:
    text = README.read_text("utf-8")
    [name] = re.findall(r"\]\((bench/results/[^)]+\.json)\)", text)
    result = read_result(ROOT / name)
    assert f"**{short(result.figures['whole'].median)} radiographs/s**" in text
    for figure in ("decode alone", "model alone"):
        assert f"({short(result.figures[figure].median)}/s)" in text, figure
    assert f"{short(result.figures['start-up'].median)} s to start" in text
    assert f"{round(100 * result.shares['whole of limit'])} % of what decoding alone" in text
    corpus = dict(result.tables["corpus"].rows)
    assert f"takes {corpus['minutes']} minutes" in text
    assert result.machine["cores"] == 2


def test_the_table_of_runtimes_is_that_of_a_result_file() -> None:
    text = (ROOT / "docs" / "runtimes.md").read_text("utf-8")
    [name] = re.findall(r"\]\(\.\./(bench/results/[^)]+_runtimes_[^)]+\.json)\)", text)
    result = json.loads((ROOT / name).read_text("utf-8"))
    for key, rate in result["radiographs_per_s"].items():
        runtime, precision = key.rsplit("-", 1)
        assert f"| `{runtime}` {precision} | {rate} | {result['times_eager_float32'][key]} |" in text


def test_the_table_of_parity_is_that_of_a_result_file_and_within_what_a_precision_may_differ() -> None:
    text = (ROOT / "docs" / "runtimes.md").read_text("utf-8")
    [name] = re.findall(r"\]\(\.\./(bench/results/parity_[^)]+\.json)\)", text)
    result = json.loads((ROOT / name).read_text("utf-8"))
    assert markdown(result) in text
    for row in result["rows"]:
        if "refused" in row:
            assert row["precision"] != "float32"
            continue
        assert row["largest_difference"] <= (1e-4 if row["precision"] == "float32" else 0.02), row


BACKBONES, HEADS = ("cae", "convnext"), ("hierarchical", "direct")


def test_the_tables_of_backbones_and_views_are_those_of_their_evaluations() -> None:
    """docs/results has what `make table` and `make views` measured; the page quotes every mean with its interval."""
    section = (ROOT / "docs" / "training.md").read_text("utf-8").split("## Backbones and views")[1]
    section = section.split("\n## ")[0]
    table, views = (sorted((ROOT / "docs" / "results").glob(f"{name}_*.json")) for name in ("table", "views"))
    assert (len(table), len(views)) == (1, 1)
    for path in (*table, *views):
        assert path.name in section
        result = json.loads(path.read_text("utf-8"))
        models = {(one["recipe"].split("_")[0], one["head"]) for one in result["bundles"]}
        shown = {len(one["views"]) for one in result["bundles"]}
        assert models == ({("cae", "hierarchical")} if path in views else set(product(BACKBONES, HEADS)))
        assert shown == {1, 6}
        for figure in (figure for bundle in result["bundles"] for figure in bundle["figures"]):
            assert f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]" in section
        for one in result["differences"]:
            assert f"{one['value']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]" in section, one


def test_ci_calls_the_readmes_own_test_command() -> None:
    commands = [line for line in README.read_text("utf-8").splitlines() if "-m pytest" in line]
    assert len(commands) == 1
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


@pytest.fixture(scope="module")
def helped() -> dict[str, str]:
    """Command -> what its --help says; the empty name is mxbatch itself."""

    def said(*command: str) -> str:
        asked = [sys.executable, "-m", "mxbatch", *command, "--help"]
        environment = {**os.environ, "COLUMNS": "160"}
        return subprocess.run(asked, capture_output=True, text=True, check=True, env=environment).stdout

    names = [
        info.name or info.callback.__name__
        for info in [*app.registered_commands, *training.registered_commands]
    ]
    measures = "".join(
        said("bench", info.name or info.callback.__name__) for info in bench.registered_commands
    )
    return {"": said(), **{name: said(name) for name in names}, "bench": measures}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_that_a_page_names_exists(page: Path, helped: dict[str, str]) -> None:
    text = page.read_text("utf-8")
    assert set(re.findall(r"(?:`|\$ |bin/)mxbatch ([a-z]+)", text)) <= set(helped)
    known = "".join(helped.values())
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - OTHERS
    assert {option for option in options if option not in known} == set()


def test_the_readme_names_every_command(helped: dict[str, str]) -> None:
    named = set(re.findall(r"`mxbatch ([a-z]+)", README.read_text("utf-8").split("## Commands")[1]))
    assert named == set(helped) - {""}


def test_the_page_of_benchmarks_names_every_file() -> None:
    named = set(re.findall(r"`(\w+\.py)`", (ROOT / "bench" / "README.md").read_text("utf-8")))
    assert {path.name for path in (ROOT / "bench").glob("*.py")} - {"__init__.py"} <= named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"`((?:engine|tests|docs|kernels|trainer|bench|src)/[\w./]+)`", text):
        assert (ROOT / name).exists(), name


def test_the_page_of_errors_is_the_table_of_codes(request: pytest.FixtureRequest) -> None:
    page = ROOT / "docs" / "errors.md"
    rows = [
        f"| `{entry.code}` {entry.name} | {entry.meaning} | {entry.fix}{' (tried again)' if entry.transient else ''} |"
        for entry in CODES.values()
    ]
    head = (
        "# Every code\n\n`mxbatch explain CODE` says the same. A radiograph with a code `MX-A1nn` or `MX-Dnnn` is in "
        "the quarantine; the\nothers end the run. “Tried again”: the next run takes the file up although it did not "
        "change.\n\n| code | meaning | what to do |\n| --- | --- | --- |\n"
    )
    fresh = head + "\n".join(rows) + "\n"
    if request.config.getoption("--renew"):
        page.write_text(fresh, "utf-8")
    assert page.read_text("utf-8") == fresh


def test_the_page_of_columns_names_every_column_and_flag() -> None:
    text = (ROOT / "docs" / "output.md").read_text("utf-8")
    calls, quarantine = text.split("## quarantine")
    named = set(re.findall(r"`(\w+)`", calls))
    columns = {name for name in calls_schema(read_taxonomy()).names if not name.startswith("p_")}
    assert columns | set(FLAGS) | {"p_abnormal"} <= named
    assert set(QUARANTINE_SCHEMA.names) <= set(re.findall(r"`(\w+)`", quarantine))


def test_the_references_figures_are_those_of_its_evaluation() -> None:
    """docs/results is what `make reference` measured; the page quotes it."""
    page = (ROOT / "docs" / "training.md").read_text("utf-8")
    section = page.split("## The reference")[1].split("\n## ")[0]
    files = sorted((ROOT / "docs" / "results").glob("reference_*.json"))
    assert files
    for path in files:
        assert path.name in section
        result = json.loads(path.read_text("utf-8"))
        [bundle] = result["bundles"]
        assert bundle["model_id"] == resolve_model("reference").model_id
        for figure in bundle["figures"]:
            if (
                figure["kind"] == "marginal"
                and figure["metric"] == "auc"
                and figure["node"] in ("mean", "abnormal")
            ):
                shown = f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
                assert shown in section, (path.name, figure["level"], shown)
        [error] = [f["value"] for f in bundle["figures"] if (f["node"], f["metric"]) == ("abnormal", "ece")]
        assert f"{error:.3f}" in section
