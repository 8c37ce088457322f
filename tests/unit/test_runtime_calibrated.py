"""int8 and float8: asked for by name, calibrated on the user's radiographs, and kept only where they pass the gate."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mxbatch.engine.bundle import Bundle, load_model, write_bundle
from mxbatch.engine.drawing import draw_radiograph
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.file_formats import FILE_FORMATS
from mxbatch.engine.models.hierarchical import build_model
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.runtime import calibration, golden, tensorrt
from mxbatch.engine.runtime.calibration import CALIBRATED, HELD_OUT, LEAST, SEEN, Sample, read_sample
from mxbatch.engine.runtime.encoder import EngineSpec
from mxbatch.engine.runtime.gate import accepted
from mxbatch.engine.runtime.golden import Tolerance, golden_images
from mxbatch.engine.runtime.onnx_graph import write_onnx
from mxbatch.engine.runtime.prepare import require_possible
from mxbatch.engine.runtime.scorer import RUNTIMES, Scorer, open_scorer
from mxbatch.engine.runtime.tensorrt_library import TENSORRT_RTX
from mxbatch.engine.taxonomy import read_taxonomy

BATCH, SIZE, COUNT = 4, 64, 72
BACKBONES = {
    "convnext": {"name": "convnext_atto", "depths": [1, 1, 1, 1], "dims": [16, 32, 48, 64]},
    "cae": {"kind": "cae", "name": "tiny", "widths": [8, 16, 16]},
}
ENDS = {"convnext": 2, "cae": 4}
"""Products that stay in float32, by their number."""


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for n in range(COUNT):
        grey = draw_radiograph("dv", seed=n, height=90, width=70)
        (folder / f"{n:03}.png").write_bytes(FILE_FORMATS["png"](grey))
    return folder


@pytest.fixture(scope="module", params=BACKBONES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Random weights without the untrained example's calibration, which makes every difference huge."""
    recipe = Recipe.from_dict(
        {
            "name": request.param,
            "backbone": BACKBONES[request.param],
            "head": {"width": 32},
            "input": {"size": SIZE},
        }
    )
    model = build_model(recipe, read_taxonomy(), seed=0)
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    return write_bundle(folder, model, recipe=recipe, taxonomy=read_taxonomy(), learned_from="nothing")


@pytest.fixture(scope="module")
def sample(bundle: Bundle, archive: Path) -> Sample:
    return read_sample(bundle, archive, silent)


def int8(bundle: Bundle, engines: Path, sample: Sample | None = None) -> Scorer:
    return open_scorer(
        bundle, runtime="onnxruntime", precision="int8", batch=BATCH, engines=engines, sample=sample
    )


def built(engines: Path) -> list[Path]:
    return sorted(engines.glob("*-int8-*"))


@pytest.fixture(scope="module")
def engines(bundle: Bundle, sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the bundle's engine, calibrated."""
    folder = tmp_path_factory.mktemp("engines")
    int8(bundle, folder, sample)
    return folder


def test_the_sample_is_the_same_every_time_and_judges_by_others(
    bundle: Bundle, archive: Path, sample: Sample
) -> None:
    again = read_sample(bundle, archive, silent)
    assert (again.digest, len(sample.digest)) == (sample.digest, 16)
    assert sample.seen.shape == sample.held_out.shape == (COUNT // 2, SIZE, SIZE)
    both = np.concatenate([sample.seen, sample.held_out])
    assert len(np.unique(both, axis=0)) == COUNT


def test_another_archive_is_another_sample(
    bundle: Bundle, archive: Path, sample: Sample, tmp_path: Path
) -> None:
    other = shutil.copytree(archive, tmp_path / "other")
    (other / "000.png").unlink()
    assert read_sample(bundle, other, silent).digest != sample.digest


def test_what_cannot_be_read_is_passed_over_and_too_little_is_refused(
    bundle: Bundle, archive: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(archive, tmp_path / "other")
    for n in range(COUNT - 2 * LEAST):
        (other / f"{n:03}.png").write_bytes(b"no picture")
    assert len(read_sample(bundle, other, silent).seen) == LEAST
    (other / "071.png").write_bytes((other / "070.png").read_bytes())  # a copy is none more
    with pytest.raises(UsageError, match=f"holds {2 * LEAST - 1} readable radiographs") as raised:
        read_sample(bundle, other, silent)
    assert raised.value.code == "MX-U001"


def test_a_large_archive_gives_no_more_than_is_needed(
    bundle: Bundle, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (SEEN, HELD_OUT) == (64, 256)
    monkeypatch.setattr(calibration, "SEEN", 10)
    monkeypatch.setattr(calibration, "HELD_OUT", 54)
    few = read_sample(bundle, archive, silent)
    assert (len(few.seen), len(few.held_out), len(few.views)) == (10, 54, 54)


@pytest.mark.parametrize("precision", CALIBRATED)
def test_products_are_quantised_but_for_those_at_the_ends(
    bundle: Bundle, sample: Sample, tmp_path: Path, precision: str
) -> None:
    path = tmp_path / "encoder.onnx"
    write_onnx(bundle, EngineSpec(device="cpu", precision=precision, batch=BATCH), path, sample)
    graph = onnx.load(path).graph
    made_by = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kind = {"int8": onnx.TensorProto.INT8, "float8": onnx.TensorProto.FLOAT8E4M3FN}[precision]
    plain = 0
    for node in (node for node in graph.node if node.op_type == "Conv"):
        feeding = [made_by[name].op_type if name in made_by else None for name in node.input[:2]]
        if feeding == ["DequantizeLinear"] * 2:
            weight, scale = (weights[name] for name in made_by[node.input[1]].input[:2])
            assert weight.data_type == kind
            assert list(scale.dims) == [weight.dims[0]]  # per channel
        else:
            plain += 1
    assert plain == ENDS[bundle.recipe.name]


def test_an_engine_that_passed_is_used_afterwards_and_gives_the_same_bits(
    bundle: Bundle, engines: Path, sample: Sample
) -> None:
    notes: list[str] = []
    scorer = open_scorer(
        bundle, runtime="onnxruntime", precision="int8", batch=BATCH, engines=engines, note=notes.append
    )
    assert (scorer.name, notes) == ("onnxruntime-int8", [])
    images = golden_images(SIZE, 3)
    features = scorer.encode(images)
    plain = open_scorer(bundle, batch=BATCH).encode(images)
    assert 0 < np.abs(features - plain).max() / np.abs(plain).max() < 0.1
    for shift in range(1, BATCH):
        assert np.array_equal(scorer.encode(np.roll(images, shift, axis=0)), np.roll(features, shift, axis=0))


def test_what_it_was_calibrated_on_is_part_of_its_name(
    bundle: Bundle, engines: Path, sample: Sample, archive: Path, tmp_path: Path
) -> None:
    cache = shutil.copytree(engines, tmp_path / "engines")
    other = shutil.copytree(archive, tmp_path / "other")
    (other / "000.png").unlink()
    (first,) = built(cache)
    int8(bundle, cache, read_sample(bundle, other, silent))
    assert first in built(cache)
    assert len(built(cache)) == 2


def test_none_is_made_without_radiographs_to_calibrate_on(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="has no engine in int8 that was calibrated here") as raised:
        int8(bundle, tmp_path)
    assert raised.value.code == "MX-M006"
    command = (
        f"mxbatch compile {bundle.path} --runtime onnxruntime --precision int8 --batch 4 --calibrate ARCHIVE"
    )
    assert command in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("check", ["gate", "golden numbers"])
def test_one_that_is_off_is_refused_and_not_kept(
    bundle: Bundle, engines: Path, sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    cache = shutil.copytree(engines, tmp_path / "engines")
    strict = {"gate": Tolerance(1, 0), "golden numbers": Tolerance(0, 1)}[check]
    monkeypatch.setitem(golden.TOLERANCES, "int8", strict)
    if check == "gate":
        monkeypatch.setattr("mxbatch.engine.runtime.golden.check_golden", lambda *_: None)
    words = {
        "gate": r"onnxruntime-int8 is off by up to .* on 36 held-out",
        "golden numbers": "golden features",
    }
    with pytest.raises(EnvironmentFault, match=words[check]) as raised:
        int8(bundle, cache, sample)
    assert raised.value.code == "MX-M003"
    assert built(cache) == []
    with pytest.raises(EnvironmentFault, match="calibrated here"):
        int8(bundle, cache)


def test_one_that_was_built_and_not_judged_is_not_used(bundle: Bundle, engines: Path, tmp_path: Path) -> None:
    """As a process leaves it that is killed in between."""
    cache = shutil.copytree(engines, tmp_path / "engines")
    shutil.rmtree(cache / "passed")
    spec = EngineSpec(device="cpu", precision="int8", batch=BATCH)
    assert accepted(engines, bundle, RUNTIMES["onnxruntime"], spec)
    with pytest.raises(EnvironmentFault, match="calibrated here"):
        int8(bundle, cache)


def test_a_damaged_one_is_not_built_again_but_asked_for(
    bundle: Bundle, engines: Path, tmp_path: Path
) -> None:
    cache = shutil.copytree(engines, tmp_path / "engines")
    (entry,) = built(cache)
    (entry / "encoder.onnx").write_bytes(b"damaged")
    with pytest.raises(EnvironmentFault, match=r"any more: encoder.onnx differs from its checksum") as raised:
        int8(bundle, cache)
    assert "--calibrate ARCHIVE" in str(raised.value)


@pytest.mark.parametrize("precision", CALIBRATED)
def test_tensorrt_takes_the_graph(bundle: Bundle, sample: Sample, tmp_path: Path, precision: str) -> None:
    """Built by the real TensorRT-RTX, which needs no GPU for it."""
    spec = EngineSpec(device="cpu", precision=precision, batch=BATCH)
    tensorrt.build(TENSORRT_RTX, bundle, spec, tmp_path, silent, sample)
    assert (tmp_path / tensorrt.PLAN).stat().st_size > 10_000


def test_float8_numbers_are_near_though_no_processor_computes_in_them(
    bundle: Bundle, sample: Sample, tmp_path: Path
) -> None:
    """The graph as it stands, no kernel replaced: onnxruntime's own kernels take no float8."""
    import onnxruntime

    path = tmp_path / "encoder.onnx"
    write_onnx(bundle, EngineSpec(device="cpu", precision="float8", batch=BATCH), path, sample)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    images = golden_images(SIZE)[:, None]
    (features,) = session.run(None, {"images": images})
    with torch.inference_mode():
        plain = load_model(bundle).encoder(torch.from_numpy(images)).numpy()
    assert 0 < np.abs(features - plain).max() / np.abs(plain).max() < 0.2


def test_they_are_never_chosen() -> None:
    for runtime in RUNTIMES.values():
        assert not set(CALIBRATED) & {*runtime.precisions("cpu"), *runtime.precisions("cuda:0")}
    with pytest.raises(UsageError, match="int8 is never chosen by itself") as raised:
        require_possible("auto", "int8", "cpu")
    assert raised.value.code == "MX-U001"


@pytest.mark.parametrize(("runtime", "precision"), [("eager", "int8"), ("onnxruntime", "float8")])
def test_a_runtime_that_has_no_kernels_for_them_says_so(runtime: str, precision: str) -> None:
    with pytest.raises(UsageError, match=f"{runtime} does not compute in {precision}"):
        require_possible(runtime, precision, "cpu")
