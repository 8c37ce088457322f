"""`mxbatch bench`: options in, a result out. The commands translate and decide nothing; heavy imports wait in them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mxbatch.engine.cli import Json, print_json

if TYPE_CHECKING:
    from mxbatch.bench.result import Result
    from mxbatch.bench.subject import Chosen

app = typer.Typer(
    name="bench",
    help="Measure this machine: rates, limits, where the time goes, and what other ways of doing it reach.",
)

Folder = Annotated[
    Path | None,
    typer.Argument(metavar="[FOLDER]", help="Radiographs to measure on; by default phantoms are drawn."),
]
Formats = Annotated[
    list[str] | None,
    typer.Option("--format", help="Only files of this format: jpeg, png, bmp, tiff, dicom; repeatable."),
]
Model = Annotated[
    str,
    typer.Option(
        metavar="BUNDLE",
        help="A bundle's folder, `reference`, `untrained`, or `timm:NAME` with random weights.",
    ),
]
Size = Annotated[int, typer.Option(help="Pixels of the picture of a `timm:` model.")]
Runtime = Annotated[str, typer.Option(help="A runtime, or auto for the fastest.")]
Precision = Annotated[
    str | None, typer.Option(help="float32, bfloat16 or float16; by default the runtime's own.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Workers = Annotated[int | None, typer.Option(help="Worker processes; by default one per core or GPU.")]
Batch = Annotated[
    int | None, typer.Option(help="Radiographs per call of the encoder; by default the device's.")
]
Radiographs = Annotated[
    int, typer.Option(min=1, help="How many radiographs a round has; files are repeated.")
]
Rounds = Annotated[int, typer.Option(min=1, help="How often everything is measured, in turn.")]
Price = Annotated[
    float | None, typer.Option("--price-per-hour", help="Of this machine: gives the cost of a million.")
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where the result and its picture go.")]
RESULTS = Path("bench/results")


@app.command()
def decode(
    folder: Folder = None,
    formats: Formats = None,
    size: Annotated[int, typer.Option(help="Pixels of the model's picture.")] = 224,
    rounds: Rounds = 5,
    seconds: Annotated[float, typer.Option(help="About how long a round of a format takes.")] = 2.0,
    price: Price = None,
    out: Out = RESULTS,
    json: Json = False,
) -> int:
    """Decoding on one core, per format, beside Pillow and pydicom and beside its limit."""
    from mxbatch.bench.decode import measure_decode

    with _sources(folder, formats) as sources:
        return _finish(measure_decode(sources, size=size, rounds=rounds, seconds=seconds), out, json, price)


@app.command()
def model(
    model: Model = "reference",
    size: Size = 224,
    runtime: Runtime = "auto",
    precision: Precision = None,
    device: Device = "auto",
    workers: Workers = None,
    batch: Batch = None,
    radiographs: Radiographs = 320,
    rounds: Rounds = 5,
    price: Price = None,
    out: Out = RESULTS,
    json: Json = False,
) -> int:
    """The encoder alone, and its share of what the processor computes."""
    from mxbatch.bench.model import measure_model

    with _chosen(model, size, runtime, precision, device, workers, batch) as chosen:
        return _finish(measure_model(chosen, rounds=rounds, radiographs=radiographs), out, json, price)


@app.command()
def write(
    folder: Folder = None,
    formats: Formats = None,
    model: Model = "reference",
    size: Size = 224,
    radiographs: Radiographs = 256,
    rounds: Rounds = 9,
    out: Out = RESULTS,
    json: Json = False,
) -> int:
    """Committing a shard: rows, Parquet, fsync."""
    from mxbatch.bench.subject import open_bundle
    from mxbatch.bench.write import measure_write

    with _sources(folder, formats) as sources, _scratch() as scratch:
        bundle = open_bundle(model, size, scratch)
        return _finish(measure_write(sources, bundle, rounds=rounds, radiographs=radiographs), out, json)


@app.command()
def score(
    folder: Folder = None,
    formats: Formats = None,
    model: Model = "reference",
    size: Size = 224,
    runtime: Runtime = "auto",
    precision: Precision = None,
    device: Device = "auto",
    workers: Workers = None,
    batch: Batch = None,
    radiographs: Radiographs = 1280,
    rounds: Rounds = 5,
    price: Price = None,
    out: Out = RESULTS,
    json: Json = False,
) -> int:
    """A whole run, beside what decoding alone and the model alone allow; and the corpus at that rate."""
    from mxbatch.bench.score import Amounts, measure_score

    with (
        _sources(folder, formats) as sources,
        _chosen(model, size, runtime, precision, device, workers, batch) as chosen,
    ):
        amounts = Amounts(radiographs=radiographs, rounds=rounds)
        return _finish(measure_score(sources, chosen, amounts, price), out, json, price)


@app.command()
def overhead(
    model: Model = "reference",
    size: Size = 224,
    runtime: Runtime = "auto",
    precision: Precision = None,
    device: Device = "auto",
    workers: Workers = None,
    batch: Batch = None,
    radiographs: Radiographs = 2560,
    archive: Annotated[
        int, typer.Option(min=1, help="Radiographs of the archive whose plan is waited for.")
    ] = 200_000,
    rounds: Rounds = 5,
    out: Out = RESULTS,
    json: Json = False,
) -> int:
    """What is neither decoding nor model: Python per radiograph, and the way to the first shard."""
    from mxbatch.bench.overhead import measure_overhead

    with _chosen(model, size, runtime, precision, device, workers, batch) as chosen:
        return _finish(
            measure_overhead(chosen, radiographs=radiographs, archive=archive, rounds=rounds), out, json
        )


@app.command()
def scale(
    folder: Folder = None,
    formats: Formats = None,
    model: Model = "reference",
    size: Size = 224,
    runtime: Runtime = "auto",
    precision: Precision = None,
    device: Device = "auto",
    workers: Workers = None,
    batch: Batch = None,
    radiographs: Radiographs = 640,
    rounds: Rounds = 3,
    archive: Annotated[
        list[int] | None,
        typer.Option(
            help="Radiographs of an archive whose memory is measured; repeatable. By default 1000, 10000, 100000."
        ),
    ] = None,
    price: Price = None,
    out: Out = RESULTS,
    json: Json = False,
) -> int:
    """More workers, and archives of other sizes: rates, efficiency, memory."""
    from mxbatch.bench.scale import measure_scale

    with (
        _sources(folder, formats) as sources,
        _chosen(model, size, runtime, precision, device, workers, batch) as chosen,
    ):
        sizes = archive or [1_000, 10_000, 100_000]
        result = measure_scale(sources, chosen, radiographs=radiographs, rounds=rounds, archives=sizes)
        return _finish(result, out, json, price)


@app.command()
def peers(
    folder: Folder = None,
    formats: Formats = None,
    model: Model = "reference",
    size: Size = 224,
    runtime: Runtime = "auto",
    precision: Precision = None,
    device: Device = "auto",
    workers: Workers = None,
    batch: Batch = None,
    radiographs: Radiographs = 320,
    rounds: Rounds = 3,
    peer: Annotated[
        list[str] | None, typer.Option(help="Only this way of doing it; repeatable. By default all.")
    ] = None,
    peer_precision: Annotated[
        list[str] | None,
        typer.Option(help="float32 or bfloat16, for peers that can choose; repeatable. By default float32."),
    ] = None,
    faults: Annotated[
        bool, typer.Option("--faults", help="Also: one damaged file, and one that kills its reader.")
    ] = False,
    limit_s: Annotated[
        float, typer.Option("--limit-s", help="After so many seconds a way that hangs is stopped.")
    ] = 900.0,
    price: Price = None,
    out: Out = RESULTS,
    json: Json = False,
) -> int:
    """The same weights on the same files by other means: plain torch, Ray Data, Daft, onnxruntime, DALI."""
    from mxbatch.bench.peers.race import Course, race

    with (
        _sources(folder, formats) as sources,
        _chosen(model, size, runtime, precision, device, workers, batch) as chosen,
    ):
        course = Course(
            radiographs=radiographs,
            rounds=rounds,
            names=tuple(peer or ()),
            precisions=tuple(peer_precision or ("float32",)),
            faults=faults,
            limit_s=limit_s,
        )
        return _finish(race(sources, chosen, course, _note), out, json, price)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A result file.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another of the same command.")],
    json: Json = False,
) -> int:
    """Two results side by side, with ratios, and what else differs between them."""
    from dataclasses import asdict

    from mxbatch.bench.compare import compare as compare_results
    from mxbatch.bench.result import read_result
    from mxbatch.bench.show import show_table

    found = compare_results(read_result(first), read_result(second))
    if json:
        print_json({title: asdict(table) for title, table in found.items()})
    else:
        for title, table in found.items():
            show_table(title, table)
    return 0


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mxbatch-bench-") as folder:
        yield Path(folder)


@contextmanager
def _sources(folder: Path | None, formats: list[str] | None) -> Iterator[list[Path]]:
    """The radiographs under `folder`, or phantoms that go when the measurement is done."""
    from mxbatch.bench.data import draw_phantoms, radiographs_in

    with _scratch() as scratch:
        if folder is None:
            _note("drawing phantoms in the formats of ten centres")
            folder = draw_phantoms(scratch / "phantoms")
        yield radiographs_in(folder, formats or ())


@contextmanager
def _chosen(
    model: str,
    size: int,
    runtime: str,
    precision: str | None,
    device: str,
    workers: int | None,
    batch: int | None,
) -> Iterator[Chosen]:
    from mxbatch.bench.subject import Asked, settle

    asked = Asked(
        model=model,
        size=size,
        runtime=runtime,
        precision=precision,
        device=device,
        workers=workers,
        batch=batch,
    )
    with _scratch() as scratch:
        yield settle(asked, scratch, _note)


def _finish(result: Result, out: Path, json: bool, price: float | None = None) -> int:
    """Write the result and its picture, and show it."""
    from mxbatch.bench.plot import NEEDS, draw, drawable
    from mxbatch.bench.result import write_result
    from mxbatch.bench.show import show_result

    path = write_result(result, out)
    if drawable():
        draw(result, path.with_suffix(".png"))
    else:
        _note(f"no picture without matplotlib: {NEEDS}")
    print_json(result.as_dict()) if json else show_result(result, path, price)
    return 0


def _note(text: str) -> None:
    from mxbatch.engine.progress import display_for

    display_for().note(text)
