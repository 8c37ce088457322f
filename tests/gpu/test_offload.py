"""Decoding on the GPU natively: what the gate asks, of nvImageCodec itself."""

from __future__ import annotations

import json
from pathlib import Path

import corpus
import numpy as np
import pytest
import torch

import mxbatch as front_door
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.radiograph import decode
from mxbatch.engine.offload.batches import GpuBatches
from mxbatch.engine.offload.nvimagecodec import ENGINES, NvImageCodec, hindrance
from mxbatch.engine.offload.streams import KINDS, stream_of
from mxbatch.engine.offload.trial import MEAN, MOST, Order, difference, try_offload

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(bool(hindrance("cuda:0")), reason=str(hindrance("cuda:0"))),
]
CONTRACT, LIMITS = InputContract(size=224), Limits()
FILES = {
    "jpeg": corpus.jpeg(1201, 1000),
    "colour": corpus.jpeg(1201, 1000, mode="RGB"),
    "dicom jpeg": corpus.dicom(1001, 800, syntax=corpus.JPEG_BASELINE, bits=8, photometric="MONOCHROME1"),
    "lossless": corpus.dicom(900, 600, syntax=corpus.JPEG_LOSSLESS_SV1),
    "jpeg 2000": corpus.dicom(900, 600, syntax=corpus.JPEG_2000_LOSSLESS),
}


@pytest.fixture(scope="module", params=ENGINES)
def batches(request: pytest.FixtureRequest) -> GpuBatches:
    try:
        codec = NvImageCodec("cuda:0", request.param)
    except Exception as error:
        pytest.skip(f"the engine {request.param} does not open here: {error}")
    return GpuBatches(dict.fromkeys(KINDS, codec), CONTRACT, "cuda:0")


def test_every_picture_that_it_decodes_is_the_hosts_alone_and_in_company(batches: GpuBatches) -> None:
    streams = [stream_of(data, CONTRACT, LIMITS) for data in FILES.values()]
    assert all(streams)
    together = batches.decode([stream for stream in streams if stream])
    assert any(picture is not None for picture in together)
    for stream, picture, (name, data) in zip(streams, together, FILES.items(), strict=True):
        assert stream is not None
        (alone,) = batches.decode([stream])
        assert (alone is None) == (picture is None), name
        if picture is not None:
            assert np.array_equal(alone, picture), name
            mean, most = difference(picture, decode(data, CONTRACT, LIMITS).image)
            assert mean <= MEAN, name
            assert most <= MOST, name


def test_the_trial_says_what_it_found(radiographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What does not pass through the gate is told: read it when this is first run on a GPU."""
    notes: list[str] = []
    order = Order(
        root=radiographs,
        paths=tuple(path.name for path in sorted(radiographs.glob("*.jpg"))),
        contract=CONTRACT,
        limits=LIMITS,
        device="cuda:0",
        threads=4,
    )
    found = try_offload(order, notes.append)
    with capsys.disabled():
        print(found, *notes, sep="\n")
    assert found["jpeg"].host_per_s > 0
    assert found["jpeg"].engine or notes


def test_calls_of_a_run_that_decodes_on_the_gpu_are_those_of_one_that_does_not(
    radiographs: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for n, name in enumerate(FILES):
        (archive / f"{n}.dcm").write_bytes(FILES[name])
    for path in radiographs.glob("*.jpg"):
        (archive / path.name).symlink_to(path)
    tables = {}
    for way in ("cpu", "gpu"):
        options = {"model": small_bundle.path, "device": "cuda", "decode": way, "default_view": "dv"}
        try:
            summary = front_door.score(archive, tmp_path / way, **options)
        except front_door.EnvironmentFault as error:
            pytest.skip(str(error))
        tables[way] = front_door.read_calls(tmp_path / way).to_pandas()
        record = json.loads((tmp_path / way / "runs" / summary.runs[0].run_id / "run.json").read_text())
        assert bool(record["decode"]) == (way == "gpu")
    for column in (name for name in tables["cpu"].columns if name.startswith("p_")):
        assert np.allclose(tables["gpu"][column], tables["cpu"][column], atol=0.02), column
