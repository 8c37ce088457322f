"""One damaged file, and one that kills its reader, among good ones: what becomes of the good ones?

The damaged file is half of a real one. The killer is whole, but a library that is loaded before all others (killer.c)
ends every process that opens it, with the signal of a crashed decoder. Each contestant runs with the settings that it
was measured with: what its documentation begins with, no handler of errors added.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mxbatch.bench.data import FOLDER, lay_out
from mxbatch.bench.peers.attempt import Attempt, attempt
from mxbatch.bench.result import Table
from mxbatch.engine.runtime.inductor import compiler

if TYPE_CHECKING:
    from mxbatch.bench.peers.race import Contestant

GOOD = 12
KILLER = "kills-its-reader"
"""In the name of the file; killer.c looks for it."""
COLUMNS = ("by", "one damaged file", "one that kills its reader")


def fault_table(
    sources: Sequence[Path],
    contestants: Sequence[Contestant],
    home: Path,
    limit_s: float,
    note: Callable[[str], None],
) -> Table:
    """A row per contestant: how it ended, and how many of `GOOD` radiographs it delivered."""
    damaged = damage(lay_out(sources, home / "damaged", GOOD))
    deadly = plant(lay_out(sources, home / "deadly", GOOD))
    library = build_killer(home)
    killer = None if library is None else {"LD_PRELOAD": str(library)}
    rows: list[tuple[str, ...]] = []
    for each in contestants:
        note(f"two bad files: {each.name}")
        cells = [each.name]
        for archive, preload in ((damaged, {}), (deadly, killer)):
            if preload is None:
                cells.append("not run: there is no C compiler here")
                continue
            out = home / f"{each.name}-{archive.name}"
            run = attempt(each.command(archive, out), out, limit_s=limit_s, environment=preload)
            if not run.finished:
                note(f"{each.name}, {archive.name}: {run.last_words}")
            cells.append(verdict(run))
        rows.append(tuple(cells))
    return Table(columns=COLUMNS, rows=tuple(rows))


def damage(archive: Path) -> Path:
    """Add half of a radiograph to `archive`."""
    whole = next(iter(sorted((archive / FOLDER).iterdir())))
    data = whole.read_bytes()
    _add(archive, f"9999999-damaged{whole.suffix}").write_bytes(data[: len(data) // 2])
    return archive


def plant(archive: Path) -> Path:
    """Add a killer to `archive`, in the middle."""
    whole = next(iter(sorted((archive / FOLDER).iterdir())))
    shutil.copyfile(whole, _add(archive, f"{GOOD // 2:07d}-{KILLER}{whole.suffix}"))
    return archive


def _add(archive: Path, name: str) -> Path:
    """The path of a further radiograph, named in the archive's table."""
    with (archive / "index.csv").open("a", encoding="utf-8") as file:
        file.write(f"{FOLDER}/{name},mouse-bad,dv\r\n")
    return archive / FOLDER / name


def build_killer(folder: Path) -> Path | None:
    """The library of killer.c; None where there is no compiler."""
    if (found := compiler()) is None:
        return None
    library = folder / "killer.so"
    source = Path(__file__).with_name("killer.c")
    command = [str(found), "-x", "c", "-w", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def verdict(run: Attempt) -> str:
    """In a few words."""
    scored = f"{run.rows} of {GOOD} good ones scored"
    if run.code is None:
        return f"hung, stopped after {run.seconds:.0f} s; {scored}"
    if run.finished:
        return f"finished; {scored}"
    how = f"died of signal {-run.code}" if run.code < 0 else f"stopped with exit status {run.code}"
    return f"{how}; {scored}"
