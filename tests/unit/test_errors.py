"""Errors are one line with a code that the table knows, and survive the way between processes."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from mxbatch.engine.errors import CODES, EnvironmentFault, MxbatchError, RadiographError, UsageError, one_line

ROOT = Path(__file__).parents[2]


def test_an_error_says_code_file_reason_and_remedy_in_one_line() -> None:
    error = RadiographError("MX-D101", "ends after 12 of 99 bytes", path="BCM/a.jpg")
    assert str(error) == "MX-D101 BCM/a.jpg: ends after 12 of 99 bytes. Copy the file again from its source."


def test_data_cannot_forge_a_second_line() -> None:
    error = UsageError("MX-U001", "bad\nmxbatch: all is well\x1b[2J", path="a\rb")
    assert "\n" not in str(error)
    assert "\x1b" not in str(error)
    assert one_line("a\tb") == "a\\tb"


@pytest.mark.parametrize("kind", [UsageError, EnvironmentFault, RadiographError])
def test_errors_cross_process_borders_whole(kind: type[MxbatchError]) -> None:
    error = kind("MX-E004", "disk full", path="out", fix="free space")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.code, again.exit_code) == (str(error), error.code, error.exit_code)


def test_codes_are_unique_and_say_what_to_do() -> None:
    assert len({entry.name for entry in CODES.values()}) == len(CODES)
    for code, entry in CODES.items():
        assert re.fullmatch(r"MX-[ADUEMTLI]\d{3}", code)
        assert entry.meaning
        assert entry.fix


def test_every_code_that_the_source_names_is_in_the_table() -> None:
    sources = [path for folder in ("engine", "trainer", "bench") for path in (ROOT / folder).rglob("*.py")]
    named = {code for path in sources for code in re.findall(r"MX-[ADUEMTLI]\d{3}", path.read_text("utf-8"))}
    assert named <= set(CODES)
