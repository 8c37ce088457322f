"""The tables of docs/performance.md come from result files: between two marks stands what the file says, no more.

<!-- bench/results/NAME.json -->
...
<!-- end -->

`pytest tests/unit/test_bench_result.py --renew` writes them all.
"""

from __future__ import annotations

import re
from pathlib import Path

from mxbatch.bench.result import read_result
from mxbatch.bench.show import markdown

_BLOCK = re.compile(r"(?m)^<!-- (?P<file>bench/results/\S+\.json) -->\n.*?^<!-- end -->$", re.S)


def render(page: str, root: Path) -> str:
    """`page` with every table as its result file under `root` has it. Raises UsageError for a file that is none."""
    return _BLOCK.sub(lambda block: _block(block["file"], root), page)


def results_on(page: str) -> list[str]:
    """The result files that `page` shows."""
    return [block["file"] for block in _BLOCK.finditer(page)]


def _block(file: str, root: Path) -> str:
    result = read_result(root / file)
    commit = f", commit {result.revision}" if result.revision else ""
    machine = f"{result.machine['processor']}, {result.machine['cores']} cores"
    head = f"{result.what[:1].upper()}{result.what[1:]}. {machine}{commit}, {result.at[:10]} ([file](../{file}))."
    return f"<!-- {file} -->\n{head}\n\n{markdown(result)}<!-- end -->"
