"""The engine's commands: options in, exit code out. They translate and decide nothing; heavy imports wait in them.

src/mxbatch/__main__.py joins them with the commands of the trainer, which the engine may not know.

stdout is data, stderr is progress. Exit codes: 0 all done or nothing new · 1 finished, with quarantine ·
2 usage · 3 environment · 4 output held by another run · 130 interrupted, resumable.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from mxbatch.engine.errors import CODES, EnvironmentFault, Interrupted, MxbatchError, UsageError, one_line

app = typer.Typer(
    help="Read a mouse phenotyping centre's whole X-ray archive: one row of calls per specimen, in Parquet.",
    epilog="Start with `mxbatch demo`. Exit codes: 0 done · 1 done, some in quarantine · 2 usage · "
    "3 environment · 4 output held by another run · 130 interrupted, run again to resume.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

ArchivePath = Annotated[
    Path, typer.Argument(metavar="ARCHIVE", help="The folder that holds the radiographs.")
]
OutPath = Annotated[str, typer.Argument(metavar="OUT", help="What was given to --out.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="OURS=THEIRS", help="A column of the index under another name; repeatable."
    ),
]
MapViews = Annotated[
    list[str] | None,
    typer.Option("--map-view", metavar="THEIRS=OURS", help="A view's name in the index; OURS may be `skip`."),
]
View = Annotated[
    str | None, typer.Option(help="The view of every radiograph for which nothing else tells it.")
]


Precision = Annotated[
    str | None,
    typer.Option(
        help="float32, bfloat16 or float16; by default the runtime's own. int8 and float8: once compiled."
    ),
]
Batch = Annotated[
    str | None, typer.Option(metavar="N|auto", help="Radiographs at a time; auto tries sizes, once.")
]


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options that every command takes; `main` has read them already."""


@app.command()
def score(
    archive: ArchivePath,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Where calls, quarantine and runs go; s3://BUCKET/PREFIX, too.")
    ] = "mxbatch-out",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="BUNDLE",
            envvar="MXBATCH_MODEL",
            help="A bundle's folder; by default `reference`, which learned from phantoms.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; by default one per core or GPU.")
    ] = None,
    worker_memory: Annotated[
        float, typer.Option(metavar="GB", help="Room for a CPU worker: fewer start where there is less.")
    ] = 1.5,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    runtime: Annotated[str, typer.Option(help="What computes; auto takes what finishes first.")] = "auto",
    precision: Precision = None,
    batch: Batch = None,
    decode: Annotated[
        str, typer.Option(help="auto, cpu or gpu: where JPEG and JPEG 2000 are decoded, with an NVIDIA GPU.")
    ] = "auto",
    since: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Only specimens examined on or after this day.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many specimens.")] = None,
    column: Columns = None,
    map_view: MapViews = None,
    view: View = None,
    max_megapixels: Annotated[int, typer.Option(help="Refuse radiographs with more pixels.")] = 64,
    shard_radiographs: Annotated[
        int, typer.Option(help="Radiographs per shard at most: what a crash costs.")
    ] = 256,
    allow_shrink: Annotated[
        bool,
        typer.Option("--allow-shrink", help="Go on although most of the archive is gone since the last run."),
    ] = False,
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", help="A worker that does not get on for so long is replaced.")
    ] = 300.0,
    grace: Annotated[
        float, typer.Option(metavar="SECONDS", help="When stopped, time to finish what is in flight.")
    ] = 20.0,
    ray: Annotated[
        str | None,
        typer.Option(metavar="auto|local|HOST:PORT", help="Score on Ray; HOST:PORT is a cluster's head."),
    ] = None,
    cpus_per_worker: Annotated[int | None, typer.Option(help="With --ray: cores of each worker.")] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(help="With --ray: GPUs of each worker; 0.5 puts two on one.")
    ] = None,
    allow_insecure_ray: Annotated[
        bool, typer.Option("--allow-insecure-ray", help="Connect to a Ray cluster that wants no token.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")
    ] = False,
    json: Json = False,
) -> int:
    """Score ARCHIVE: one row of calls per specimen; what is scored already is left alone."""
    from mxbatch.engine import score as engine
    from mxbatch.engine.progress import display_for
    from mxbatch.engine.show import show_summary

    for number in (signal.SIGTERM, signal.SIGUSR1):  # outside the scoring itself, where stop.py listens
        signal.signal(number, signal.default_int_handler)
    summary = engine.score(
        archive,
        out,
        model=model,
        dry_run=dry_run,
        display=display_for(),
        workers=workers,
        worker_memory=worker_memory,
        device=device,
        runtime=runtime,
        precision=precision,
        batch=_batch(batch),
        decode=decode,
        since=since,
        limit=limit,
        columns=_pairs("--column", column),
        views=_pairs("--map-view", map_view),
        default_view=view,
        max_megapixels=max_megapixels,
        shard_radiographs=shard_radiographs,
        allow_shrink=allow_shrink,
        patience=patience,
        grace=grace,
        ray=ray,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        allow_insecure_ray=allow_insecure_ray,
    )
    print_json(summary.as_dict()) if json else show_summary(summary)
    return summary.exit_code


@app.command("compile")
def compile_(
    model: Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle's folder, or its name.")],
    runtime: Annotated[str, typer.Option(help="A runtime, or auto for the fastest.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Precision = None,
    batch: Batch = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(metavar="ARCHIVE", help="For int8 and float8: radiographs to find and judge ranges by."),
    ] = None,
    json: Json = False,
) -> int:
    """Compile BUNDLE for this machine, check its numbers and time it. `score` does so itself when it pays."""
    from mxbatch.engine.model_store import resolve_model
    from mxbatch.engine.progress import display_for
    from mxbatch.engine.runtime.prepare import compile_bundle
    from mxbatch.engine.show import show_compiled

    made = compile_bundle(
        resolve_model(model),
        runtime=runtime,
        device=device,
        precision=precision,
        batch=_batch(batch),
        calibrate=calibrate,
        note=display_for().note,
    )
    print_json(made) if json else show_compiled(made)
    return 0


@app.command()
def index(
    archive: ArchivePath,
    column: Columns = None,
    map_view: MapViews = None,
    view: View = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the index as Parquet.")] = None,
    json: Json = False,
) -> int:
    """Show what ARCHIVE holds: radiographs per centre, view and format, and what cannot be placed."""
    from mxbatch.engine.archive.open import open_archive
    from mxbatch.engine.ledger import write_parquet
    from mxbatch.engine.progress import display_for
    from mxbatch.engine.show import show_index

    opened = open_archive(
        archive,
        columns=_pairs("--column", column),
        views=_pairs("--map-view", map_view),
        default_view=view,
        sniff=True,
    )
    if out is not None:
        write_parquet(out, opened.index)
    if json:
        print_json({**opened.counts(), "notes": opened.notes})
        return 0
    for note in opened.notes:
        display_for().note(note)
    show_index(opened)
    return 0


@app.command()
def status(out: OutPath, json: Json = False) -> int:
    """Show the runs of OUT: finished or not, rows, quarantine, speed."""
    from mxbatch.engine.results import run_states
    from mxbatch.engine.show import show_runs

    states = run_states(out)
    print_json(states) if json else show_runs(states)
    return 0


@app.command()
def recall(
    out: OutPath,
    to: Annotated[Path, typer.Option(metavar="FILE", help="The Parquet file to write.")],
    thresholds: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML: node = [normal_below, abnormal_from], for every node."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="Or take the thresholds of this bundle.")
    ] = None,
    scored_by: Annotated[
        str | None, typer.Option(metavar="MODEL_ID", help="Of rows by several models, those of this one.")
    ] = None,
    json: Json = False,
) -> int:
    """Apply other thresholds to the probabilities of OUT, without running the model; its parts stay as they are."""
    from mxbatch.engine.recall import recall as call_again
    from mxbatch.engine.show import show_recalled

    recalled = call_again(out, to=to, thresholds=thresholds, model=model, scored_by=scored_by)
    print_json(recalled.as_dict()) if json else show_recalled(recalled)
    return 0


@app.command()
def report(out: OutPath) -> int:
    """Write OUT/report.html anew: runs, calls and quarantine on one page. Every run does so at its end."""
    from mxbatch.engine.report.report import write_report
    from mxbatch.engine.results import existing_output

    typer.echo(write_report(existing_output(out)))
    return 0


@app.command()
def quarantine(out: OutPath, json: Json = False) -> int:
    """Show the radiographs of OUT that cannot be used as things stand, each with its reason."""
    from mxbatch.engine.results import read_quarantine
    from mxbatch.engine.show import show_quarantine

    table = read_quarantine(out)
    print_json(table.to_pylist()) if json else show_quarantine(table)
    return 0


@app.command()
def info(json: Json = False) -> int:
    """Show version, views, formats, the taxonomy and the flags that calls can carry."""
    from mxbatch.engine.about import facts
    from mxbatch.engine.show import show_info

    print_json(facts()) if json else show_info(facts())
    return 0


@app.command()
def doctor(json: Json = False) -> int:
    """Check this machine: decoders, torch, GPUs, disk. Exit 3 when something needed does not work."""
    from mxbatch.engine.doctor import examine
    from mxbatch.engine.show import show_findings

    findings = examine()
    print_json([finding.as_dict() for finding in findings]) if json else show_findings(findings)
    return 0 if all(finding.fine or not finding.needed for finding in findings) else 3


@app.command()
def explain(
    code: Annotated[
        str | None, typer.Argument(metavar="[CODE]", help="Such as MX-D101; none lists all.")
    ] = None,
) -> int:
    """Say what a code means and what to do about it."""
    if code is not None and code.upper() not in CODES:
        raise UsageError("MX-U001", f"no code {code!r}", fix="`mxbatch explain` lists them all")
    for entry in CODES.values() if code is None else [CODES[code.upper()]]:
        again = " It is tried again in the next run." if entry.transient else ""
        typer.echo(f"{entry.code} {entry.name}: {entry.meaning}. What to do: {entry.fix}.{again}")
    return 0


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in given or []:
        left, sign, right = text.partition("=")
        if not (left and sign and right):
            raise UsageError("MX-U001", f"{option} wants LEFT=RIGHT, got {text!r}")
        pairs[left] = right
    return pairs


def _batch(text: str | None) -> int | str | None:
    return int(text) if text and text.isdecimal() else text


def print_json(value: Any) -> None:
    """`value` as one JSON document on stdout."""
    from json import dumps

    try:
        typer.echo(dumps(value, indent=2, ensure_ascii=False, default=str))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; what was done stays done, and so does the exit code
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def main(argv: list[str] | None = None) -> None:
    """Run one command and leave the process with its exit code. Every error is one line on stderr."""
    arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    debug = "--debug" in arguments
    try:
        code = app([a for a in arguments if a != "--debug"], standalone_mode=False, prog_name="mxbatch")
        if code == Interrupted.exit_code:  # typer's own word for Ctrl-C, outside the scoring of a run
            code = _fail("MX-I001 stopped. Run the same command again.", code, debug)
    except MxbatchError as error:
        code = _fail(str(error), error.exit_code, debug)
    except TyperException as error:
        code = _fail(str(UsageError("MX-U001", error.format_message())), UsageError.exit_code, debug)
    except Exception as error:  # the last border: a user gets a line and a way to tell us, not a traceback
        fault = EnvironmentFault("MX-E011", f"{type(error).__name__}: {error}")
        code = _fail(str(fault), fault.exit_code, debug)
    sys.exit(code or 0)


def _fail(line: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"mxbatch: {one_line(line)}\n")
    return code
