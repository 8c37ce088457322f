"""From bundles and a labelled archive to a folder of figures, tables and pictures, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from sklearn.metrics import average_precision_score, roc_auc_score

from mxbatch.engine.archive.open import open_archive
from mxbatch.engine.bundle import Bundle, write_untrained
from mxbatch.engine.decode.contract import Limits
from mxbatch.engine.errors import UsageError
from mxbatch.engine.feed import Loader
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.plan import ShardSizes, make_plan
from mxbatch.engine.runtime.scorer import Scorer, open_scorer
from mxbatch.engine.shard import Engine, score_shard
from mxbatch.engine.taxonomy import Taxonomy, read_taxonomy
from mxbatch.trainer.compare import HIERARCHICAL, MULTIVIEW
from mxbatch.trainer.data import load_dataset
from mxbatch.trainer.evaluate import Evaluation, evaluate
from mxbatch.trainer.judge import probabilities
from mxbatch.trainer.progress import Silent
from mxbatch.trainer.results_table import backbone_grid

TAXONOMY = read_taxonomy()
NEVER = TAXONOMY.level(3)[-1].name
"""The class that no animal of the test archive has."""
MICE = 48
PLACE = ("phenotyping_center", "pipeline_stable_id", "procedure_stable_id", "parameter_stable_id")
ANIMAL = ("external_sample_id", "date_of_experiment", "colony_id", "biological_sample_group")
IMAGES = ("observation_id", "full_resolution_file_path", *PLACE, *ANIMAL)
SCORES = ("observation_id", *PLACE, *ANIMAL, "category", "data_point")
VIEWS = {"IMPC_XRY_034_001": "dv", "IMPC_XRY_048_001": "lv"}


def write_archive(root: Path, *, scored: bool = True) -> Path:
    """Noise of various greys; the last mouse has no lateral view. Answers follow from the mouse's number."""
    rng = np.random.default_rng(0)
    images, answers = [], []
    for mouse in range(MICE):
        animal = (f"mouse-{mouse:02d}", "2020-01-01T00:00:00Z", f"line-{mouse // 3}", "experimental")
        for parameter in list(VIEWS)[: 1 if mouse == MICE - 1 else 2]:
            place = ("Centre", "IMPC_001", "IMPC_XRY_001", parameter)
            path = Path(*place, f"{mouse}.png")
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            grey = rng.integers(0, 40 + 4 * mouse, (40, 24)).astype(np.uint8)
            Image.fromarray(grey).save(root / path)
            images.append((f"i{len(images)}", path.as_posix(), *place, *animal))
        for number, node in enumerate(TAXONOMY.level(3)):
            asked = next(p for p in node.parameters if p.kind == "category" and p.reliable)
            found = node.name != NEVER and mouse % (number + 2) == 0
            word = (asked.abnormal if found else asked.normal)[0]
            place = ("Centre", "IMPC_001", "IMPC_XRY_001", f"{asked.id}_001")
            answers.append((f"a{len(answers)}", *place, *animal, word, ""))
    _write_csv(root / "impc_images.csv", IMAGES, images)
    if scored:
        _write_csv(root / "experiment.csv", SCORES, answers)
    return root


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *rows])


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Decoded radiographs do not go to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Small and untrained: both views and each alone, and a direct head."""
    folder = tmp_path_factory.mktemp("bundles")
    plans = {
        "mv": (["dv", "lv"], "hierarchical"),
        "dv": (["dv"], "hierarchical"),
        "lv": (["lv"], "hierarchical"),
        "direct": (["dv", "lv"], "direct"),
    }
    return {
        name: write_untrained(
            folder / name,
            recipe=Recipe.from_dict(
                {
                    "name": name,
                    "views": views,
                    "backbone": {"kind": "cae", "name": "small", "widths": [4, 8], "latent": 8},
                    "head": {"kind": head, "width": 16},
                    "input": {"size": 32},
                }
            ),
        )
        for name, (views, head) in plans.items()
    }


@pytest.fixture(scope="module")
def found(bundles: dict[str, Bundle], archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    out = tmp_path_factory.mktemp("evaluated") / "all"
    return evaluate([bundle.path for bundle in bundles.values()], archive, out, bootstrap=30, device="cpu")


def rows_of(found: Evaluation, bundle: Bundle) -> dict[str, np.ndarray[Any, Any]]:
    table = pq.read_table(found.out / "predictions.parquet").to_pydict()
    mine = np.array(table["bundle"]) == bundle.model_id
    return {name: np.array(values, dtype=object)[mine] for name, values in table.items()}


def test_the_folder_holds_what_it_promises(found: Evaluation) -> None:
    names = {"metrics.json", "metrics.csv", "predictions.parquet", "report.md"}
    assert {path.name for path in found.out.iterdir()} == names | {"roc.png", "pr.png", "reliability.png"}
    for picture in found.out.glob("*.png"):
        with Image.open(picture) as image:
            assert min(image.size) > 500
            assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 10
    assert len(list(found.out.parent.iterdir())) == 1  # no temporary folder stays


def test_what_is_evaluated_is_what_scores(
    found: Evaluation, bundles: dict[str, Bundle], archive: Path
) -> None:
    bundle = bundles["mv"]
    index = open_archive(archive).index
    plan = make_plan(index, model_id="", sizes=ShardSizes(most=len(index), least=len(index)))
    with ThreadPoolExecutor(1) as pool:
        engine = Engine(
            bundle=bundle,
            scorer=open_scorer(bundle, batch=16),
            loader=Loader(root=archive, contract=bundle.recipe.input, limits=Limits()),
            pool=pool,
            run_id="run",
        )
        scored = score_shard(plan.shard(0), engine).calls
    evaluated = rows_of(found, bundle)
    assert scored["specimen_id"].to_pylist() == evaluated["specimen_id"].tolist()
    for name in TAXONOMY.names:
        ours = evaluated[f"p_{name}"].astype(np.float32)
        assert ours == pytest.approx(scored[f"p_{name}"].to_numpy(), abs=1e-6)


def test_the_figures_are_those_of_the_predictions(found: Evaluation, bundles: dict[str, Bundle]) -> None:
    rows = rows_of(found, bundles["lv"])
    with (found.out / "metrics.csv").open(encoding="utf-8") as handle:
        figures = [row for row in csv.DictReader(handle) if row["bundle"] == bundles["lv"].model_id]
    for node in ("abnormal", "axial", "ribs"):
        true, p = rows[f"true_{node}"].astype(bool), rows[f"p_{node}"].astype(np.float32)
        for metric, expected in (
            ("auc", roc_auc_score(true, p)),
            ("average_precision", average_precision_score(true, p)),
        ):
            [row] = [r for r in figures if (r["node"], r["kind"], r["metric"]) == (node, "marginal", metric)]
            assert float(row["value"]) == pytest.approx(expected)
            assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
            assert int(row["positives"]) == true.sum()


def test_a_class_without_a_positive_is_named_and_left_out_of_the_mean(found: Evaluation) -> None:
    stored = json.loads((found.out / "metrics.json").read_text(encoding="utf-8"))
    figures = stored["bundles"][0]["figures"]
    [absent] = [f for f in figures if (f["node"], f["kind"], f["metric"]) == (NEVER, "marginal", "auc")]
    assert absent["value"] is None
    [mean] = [
        f
        for f in figures
        if (f["level"], f["node"], f["kind"], f["metric"]) == (3, "mean", "marginal", "auc")
    ]
    assert mean["nodes"] == "9/10"
    assert "n/a, 0 positive" in (found.out / "report.md").read_text(encoding="utf-8")


def test_a_single_view_model_leaves_out_specimens_without_it_and_says_so(
    found: Evaluation, bundles: dict[str, Bundle]
) -> None:
    told = {entry.judged.bundle.recipe.name: entry.judged for entry in found.entries}
    assert (len(told["lv"].keys), told["lv"].left_out) == (MICE - 1, 1)
    assert (len(told["dv"].keys), told["dv"].left_out) == (MICE, 0)


def test_differences_are_paired_on_common_specimens(found: Evaluation) -> None:
    multiview = [d for d in found.differences if d.what == MULTIVIEW]
    assert {(d.level, d.kind) for d in multiview} == {
        (1, "marginal"),
        *((level, kind) for level in (2, 3) for kind in ("marginal", "conditional")),
    }
    assert {d.specimens for d in multiview} == {MICE - 1}
    assert {d.specimens for d in found.differences if d.what == HIERARCHICAL} == {MICE}
    entries = {entry.judged.bundle.recipe.name: entry for entry in found.entries}
    common = entries["lv"].judged.keys
    auc = {}
    for name in ("mv", "dv", "lv"):
        judged = entries[name].judged.only(common)
        auc[name] = roc_auc_score(judged.labels_NK[:, 0], judged.p_NK[:, 0])
    [level_1] = [d for d in multiview if d.level == 1]
    assert level_1.value == pytest.approx(auc["mv"] - max(auc["dv"], auc["lv"]))
    assert level_1.over == max(("dv", "lv"), key=lambda name: auc[name]).upper()
    assert level_1.low <= level_1.value <= level_1.high


def test_the_papers_numbers_stand_beside_ours_and_are_marked(found: Evaluation) -> None:
    grid = backbone_grid(found.entries, "conditional", found.data)
    papers = [row for n, row in enumerate(grid.rows) if n in grid.dim]
    assert ("L3", "paper: CAE", "0.74", "0.78", "0.81") in papers
    assert ("L1", "paper: any backbone", "", "", "0.95") in papers
    assert not any("ConvNeXt" in row[1] for row in papers)  # no ConvNeXt was evaluated
    ours = {row[:2]: row[2:] for n, row in enumerate(grid.rows) if n not in grid.dim}
    assert all(ours["L2", "CAE (small), hierarchical"])  # DV, LV and MV
    assert ours["L2", "CAE (small), direct"][:2] == ("", "")
    assert "Different data" in grid.note
    text = (found.out / "report.md").read_text(encoding="utf-8")
    assert "*paper: CAE*" in text
    assert "untrained model: they mean nothing" in text


def test_every_table_can_be_shown_on_a_terminal(found: Evaluation) -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    for grid in found.grids():
        console.print(grid.rich())
    shown = console.export_text()
    assert "paper: CAE" in shown
    assert "MV - best single view" in shown
    assert "[" in shown  # an interval is text, not markup


def test_a_multiview_model_can_be_shown_one_view_of_the_test_specimens(
    bundles: dict[str, Bundle], archive: Path, tmp_path: Path
) -> None:
    keys = [("Centre", f"mouse-{n:02d}", "IMPC_XRY_001", "2020-01-01") for n in (*range(20, MICE), 99)]
    one = evaluate(
        [bundles["mv"].path], archive, tmp_path / "lv", views=["lv"], subset=keys, bootstrap=0, device="cpu"
    )
    [entry] = one.entries
    assert entry.judged.keys == tuple(keys[:-2])
    assert entry.judged.left_out == 2  # mouse-47 has no lateral view, mouse-99 does not exist
    assert entry.judged.radiographs == len(keys) - 2
    assert all(np.isnan(figure.interval).all() for figure in entry.figures)
    assert "Ranking" in [grid.title for grid in one.grids()]
    assert backbone_grid(one.entries, "marginal", one.data).rows[0][3] != ""  # under LV


def test_what_one_model_gains_by_all_its_views_is_measured_against_each_of_them_alone(
    bundles: dict[str, Bundle], archive: Path, tmp_path: Path
) -> None:
    paths = [bundles[name].path for name in ("mv", "dv")]
    found = evaluate(paths, archive, tmp_path / "out", alone=["dv", "lv"], bootstrap=0, device="cpu")
    shown = [(entry.judged.bundle.recipe.name, entry.judged.views) for entry in found.entries]
    assert shown == [("mv", ("dv", "lv")), ("mv", ("dv",)), ("mv", ("lv",)), ("dv", ("dv",))]
    assert {difference.plus for difference in found.differences} == {bundles["mv"].model_id}
    table = pq.read_table(found.out / "predictions.parquet").to_pydict()
    assert set(zip(table["bundle"], table["views"], strict=True)) == {
        (entry.judged.bundle.model_id, " ".join(entry.judged.views)) for entry in found.entries
    }


class Told:
    """A scorer that sees nothing and keeps which views it was told of."""

    batch, feature_dim = 4, 3

    def __init__(self) -> None:
        self.views: list[int] = []

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.zeros((len(images), self.feature_dim), np.float32)

    def fuse(
        self, features: NDArray[np.float32], views: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        self.views += views[mask].tolist()
        return np.zeros((len(mask), len(TAXONOMY.nodes)), np.float32)


def test_a_model_need_not_be_told_which_view_a_radiograph_shows(
    bundles: dict[str, Bundle], archive: Path, tmp_path: Path
) -> None:
    recipe = bundles["mv"].recipe
    dataset = load_dataset(archive, recipe, TAXONOMY)
    asked: tuple[Any, ...] = (dataset, np.arange(len(dataset.keys)), recipe, recipe.views)
    told, untold = Told(), Told()
    probabilities(cast("Scorer", told), *asked)
    probabilities(cast("Scorer", untold), *asked, unnamed=True)
    assert set(told.views) == {1, 2}
    assert untold.views == [0] * len(told.views)
    paths = [bundles["mv"].path]
    found = evaluate(paths, archive, tmp_path / "out", unnamed=True, bootstrap=0, device="cpu")
    assert "Models were not told which view a radiograph shows." in found.warnings
    assert found.as_dict()["views_named"] is False


class Notes(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_what_holds_for_every_model_is_said_once(
    bundles: dict[str, Bundle], archive: Path, tmp_path: Path
) -> None:
    recipe = bundles["lv"].recipe
    flat = write_untrained(tmp_path / "flat", recipe=replace(recipe, head=bundles["direct"].recipe.head))
    display = Notes()
    found = evaluate(
        [bundles["lv"].path, flat.path],
        archive,
        tmp_path / "out",
        bootstrap=0,
        device="cpu",
        display=display,
    )
    assert len(found.entries) == 2
    [said] = [text for text in display.said if "left out" in text]  # of mouse-47, by both
    assert "no usable radiograph of the views lv" in said


def test_hierarchical_is_compared_with_direct_only_where_both_learned_from_the_same_views(
    bundles: dict[str, Bundle], archive: Path, tmp_path: Path
) -> None:
    paths = [bundles[name].path for name in ("dv", "mv", "direct")]
    found = evaluate(paths, archive, tmp_path / "out", alone=["dv"], bootstrap=0, device="cpu")
    compared = {(d.plus, d.minus, d.model) for d in found.differences if d.what == HIERARCHICAL}
    mv, direct = bundles["mv"].model_id, bundles["direct"].model_id
    assert {(plus, minus) for plus, minus, _ in compared} == {(mv, direct)}  # never the model of `dv`
    assert {model for _, _, model in compared} == {"CAE (small), MV", "CAE (small), trained on MV, DV"}


def test_an_archive_without_labels_is_named_and_leaves_nothing(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    bare = write_archive(tmp_path / "bare", scored=False)
    with pytest.raises(UsageError, match="MX-T001"):
        evaluate([bundles["mv"].path], bare, tmp_path / "out", device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


def test_what_cannot_be_asked_is_refused_before_anything_is_written(
    bundles: dict[str, Bundle], archive: Path, tmp_path: Path
) -> None:
    other: Taxonomy = replace(TAXONOMY, version=2)
    foreign = replace(bundles["mv"], taxonomy=other, model_id="foreign")
    mv = bundles["mv"].path
    with pytest.raises(UsageError, match="would replace"):
        evaluate([mv], archive, archive)
    with pytest.raises(UsageError, match="no view 'tail'; it knows dv, lv"):
        evaluate([mv], archive, tmp_path / "out", views=["tail"])
    with pytest.raises(UsageError, match="no view 'tail'; it knows dv, lv"):
        evaluate([mv], archive, tmp_path / "out", alone=["tail"], device="cpu")
    with pytest.raises(UsageError, match="-1 cannot be"):
        evaluate([mv], archive, tmp_path / "out", bootstrap=-1)
    with pytest.raises(UsageError, match="no bundle"):
        evaluate([], archive, tmp_path / "out")
    with pytest.raises(UsageError, match="no specimen that was asked for"):
        evaluate([mv], archive, tmp_path / "out", subset=[("Centre", "mouse-99", "X", "")], device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        opened = iter([bundles["mv"], foreign])
        patch.setattr("mxbatch.trainer.evaluate.read_bundle", lambda path: next(opened))
        with pytest.raises(UsageError, match="different taxonomies"):
            evaluate([mv, mv], archive, tmp_path / "out")
    assert not list(tmp_path.iterdir())
