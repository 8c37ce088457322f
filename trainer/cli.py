"""The trainer's commands: options in, exit code out. They translate and decide nothing; heavy imports wait in them."""

from __future__ import annotations

import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mxbatch.engine.cli import Json, print_json
from mxbatch.trainer.kept import KEEP_GB

app = typer.Typer()

PANEL = "Training, and phantoms to train on"
Scores = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="IMPC's table of answers; by default experiment.csv in ARCHIVE."),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
KeepDecoded = Annotated[
    float,
    typer.Option(
        metavar="GB",
        min=0,
        envvar="MXBATCH_KEEP_DECODED",
        help="Room for decoded radiographs in the cache; what was not used for longest goes.",
    ),
]


@app.command(rich_help_panel=PANEL)
def phantom(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="A new folder.")],
    specimens: Annotated[int, typer.Option(help="How many mice to draw.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed draws the same archive.")] = 0,
    prevalence: Annotated[float, typer.Option(help="Share of mice with at least one finding.")] = 0.1,
    class_share: Annotated[
        float, typer.Option(help="Share of affected lines that have a given class; more crowds an archive.")
    ] = 0.1,
    crowded: Annotated[
        float, typer.Option(help="Share of affected lines that --class-share is for; the others have 0.1.")
    ] = 1.0,
    size: Annotated[
        int | None, typer.Option(help="Longest side in pixels; by default each centre's own.")
    ] = None,
    centre: Annotated[
        list[str] | None, typer.Option(help="Only these centres; repeatable. By default all ten.")
    ] = None,
    tidy: Annotated[
        bool, typer.Option("--tidy", help="Without what goes wrong at real centres: no nuisance at all.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Worker processes; by default one per core.")] = None,
    json: Json = False,
) -> int:
    """Draw an ARCHIVE of phantom mice with known truth, in the formats of ten centres."""
    from mxbatch.trainer.phantom.archive import draw_archive
    from mxbatch.trainer.phantom.shot import Nuisance
    from mxbatch.trainer.show import drawing, show_archive

    with drawing(specimens) as progress:
        summary = draw_archive(
            archive,
            specimens=specimens,
            seed=seed,
            prevalence=prevalence,
            class_share=class_share,
            crowded=crowded,
            centres=centre,
            size=size,
            nuisance=Nuisance.none() if tidy else Nuisance(),
            workers=workers,
            progress=progress,
        )
    print_json(asdict(summary)) if json else show_archive(summary)
    return 0


@app.command(rich_help_panel=PANEL)
def recipes(json: Json = False) -> int:
    """Show the recipes that come with mxbatch: what to build, and how to train it."""
    from mxbatch.trainer.recipes import list_recipes
    from mxbatch.trainer.show import show_recipes

    entries = list_recipes()
    if json:
        print_json([{"name": e.name, "summary": e.summary, "recipe": e.recipe.as_dict()} for e in entries])
    else:
        show_recipes(entries)
    return 0


@app.command(rich_help_panel=PANEL)
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A name of `mxbatch recipes`, or a file.")],
    archive: Annotated[Path, typer.Option(metavar="ARCHIVE", help="Radiographs with answers to learn from.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="A new folder for the trained model.")],
    run: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="What happens on the way, resumable; by default BUNDLE-run."),
    ] = None,
    scores: Scores = None,
    taxonomy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another tree of abnormalities than IMPC's.")
    ] = None,
    split: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A split.csv; by default colonies are split 70:15:15.")
    ] = None,
    leave_out: Annotated[
        str | None, typer.Option(metavar="CENTRE", help="Test on this centre, train on the others.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="In every stage, instead of the recipe's.")] = None,
    device: Device = "auto",
    keep_decoded: KeepDecoded = KEEP_GB,
    licence: Annotated[str, typer.Option(help="Of the weights; written into the bundle.")] = "not stated",
    json: Json = False,
) -> int:
    """Train RECIPE on an archive and write a bundle; a training that was stopped goes on where it was."""
    from mxbatch.trainer.progress import display_for
    from mxbatch.trainer.show import show_trained
    from mxbatch.trainer.train import train as run_training

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    trained = run_training(
        recipe,
        archive,
        out,
        run=run,
        scores=scores,
        taxonomy=taxonomy,
        split_file=split,
        leave_out=leave_out,
        epochs=epochs,
        device=device,
        keep_decoded=keep_decoded,
        licence=licence,
        display=display_for(),
    )
    if trained:
        print_json(trained.as_dict()) if json else show_trained(trained)
    return 0


@app.command(rich_help_panel=PANEL)
def evaluate(
    bundles: Annotated[list[str], typer.Argument(metavar="BUNDLE...", help="Bundles.")],
    archive: Annotated[Path, typer.Option(metavar="ARCHIVE", help="Radiographs with answers to measure on.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for tables and pictures.")],
    scores: Scores = None,
    view: Annotated[
        list[str] | None, typer.Option(help="Look at these views only; repeatable. By default at all.")
    ] = None,
    alone: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VIEW", help="Measure models of several views by this one alone, too; repeatable."
        ),
    ] = None,
    subset: Annotated[
        Path | None,
        typer.Option(
            "--split", metavar="FILE", help="A training's split.csv: measure on its test part only."
        ),
    ] = None,
    truth: Annotated[
        bool, typer.Option("--truth", help="Of phantoms: against what was drawn, not what scorers answered.")
    ] = False,
    unnamed: Annotated[
        bool, typer.Option("--unnamed", help="Do not tell the models which view a radiograph shows.")
    ] = False,
    device: Device = "auto",
    keep_decoded: KeepDecoded = KEEP_GB,
    bootstrap: Annotated[int, typer.Option(help="Replicates behind the intervals.")] = 1000,
    json: Json = False,
) -> int:
    """Measure bundles on an archive: AUC with intervals, calls, calibration, beside the paper's numbers."""
    from mxbatch.engine.model_store import resolve_model
    from mxbatch.trainer.evaluate import evaluate as run_evaluation
    from mxbatch.trainer.progress import display_for
    from mxbatch.trainer.show import show_evaluation
    from mxbatch.trainer.splits import keys_on

    evaluation = run_evaluation(
        [resolve_model(bundle).path for bundle in bundles],
        archive,
        out,
        scores=scores,
        views=view,
        alone=alone or (),
        subset=None if subset is None else keys_on(subset, "test"),
        truth=truth,
        unnamed=unnamed,
        device=device,
        keep_decoded=keep_decoded,
        bootstrap=bootstrap,
        display=display_for(),
    )
    print_json(evaluation.as_dict()) if json else show_evaluation(evaluation)
    return 0


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="A new folder for it all.")] = Path(
        "mxbatch-demo"
    ),
    specimens: Annotated[int, typer.Option(min=1, help="How many mice to draw.")] = 12,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; by default one per core or GPU.")
    ] = None,
) -> int:
    """Draw a small archive of phantoms, score it with the reference model, and show how to read the calls."""
    from mxbatch.engine.progress import display_for
    from mxbatch.trainer.demo import run_demo
    from mxbatch.trainer.show import show_demo

    summary = run_demo(folder, specimens=specimens, workers=workers, display=display_for())
    show_demo(folder, summary)
    return summary.exit_code
