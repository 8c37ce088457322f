"""`mxbatch` and `python -m mxbatch`: the engine's commands, and those of the layers that build on it."""

from __future__ import annotations

from mxbatch.bench.cli import app as bench
from mxbatch.engine.cli import app, main
from mxbatch.trainer.cli import app as training

app.add_typer(training)
app.add_typer(bench)

if __name__ == "__main__":
    main()
