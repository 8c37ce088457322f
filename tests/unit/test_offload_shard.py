"""The hot path with a GPU's decoder beside the host's: the same calls, the same quarantine, the same bits again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import bad_files
import corpus
import numpy as np
import pyarrow as pa
import pytest
from echo import echo_bundle, echo_engine
from fake_codec import FakeCodec, Touchy

from mxbatch.engine.archive.open import open_archive
from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.feed import Loader
from mxbatch.engine.offload.batches import Codec
from mxbatch.engine.offload.split import falls_to_gpu
from mxbatch.engine.offload.streams import JPEG, JPEG_2000
from mxbatch.engine.offload.trial import MEAN
from mxbatch.engine.offload.worker import GpuOffload, Share, open_offload
from mxbatch.engine.plan import Shard, make_plan
from mxbatch.engine.shard import Part, Watch, score_shard

TIMES = ["scored_at", "seen_at"]


def shares(share: float) -> dict[str, Share]:
    one = Share(share=share, engine="cuda", gpu_per_s=2.0, host_per_s=1.0)
    return {JPEG: one, JPEG_2000: one}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files for the GPU, for the host, and for neither, all mixed."""
    folder = tmp_path_factory.mktemp("archive")
    files = {f"{n}.jpg": corpus.jpeg(200 + n, 260, mode=("L", "RGB")[n % 2]) for n in range(8)}
    files |= {f"{n}.dcm": corpus.dicom(90 + n, 80, syntax=corpus.JPEG_2000_LOSSLESS) for n in range(4)}
    files |= {"a.png": corpus.png(), "b.dcm": corpus.dicom(), "c.jpg": corpus.jpeg(progressive=True)}
    whole = corpus.jpeg(200, 260)
    half = len(whole) // 2
    files |= {
        "bad_cut.jpg": bad_files.truncated_jpeg(),
        "bad_hole.jpg": whole[:half] + bytes(half // 2) + whole[half + half // 2 :],
        "bad_flat.jpg": corpus.save(corpus.Image.new("L", (90, 60), 100), "JPEG"),
        "bad_text.jpg": bad_files.text(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def shard(archive: Path) -> Shard:
    return make_plan(open_archive(archive, default_view="dv").index, model_id="m").shard(0)


class Counting(FakeCodec):
    decoded = 0

    def decode(self, streams: object) -> object:  # type: ignore[override]
        self.decoded += len(streams)  # type: ignore[arg-type]
        return super().decode(streams)  # type: ignore[arg-type]


def run(
    archive: Path, shard: Shard, codec: Codec | None, share: float = 1.0, watch: Watch | None = None
) -> Part:
    with ThreadPoolExecutor(12) as pool:
        engine = echo_engine(archive, pool)
        if codec is not None:
            contract = engine.bundle.recipe.input
            offload = open_offload(shares(share), contract, Limits(), "cpu", lambda device, name: codec)
            engine = replace(engine, loader=replace(engine.loader, offload=offload))
        return score_shard(shard, engine, watch)


def rows(table: pa.Table) -> pa.Table:
    return table.drop_columns([name for name in TIMES if name in table.column_names])


@pytest.mark.parametrize("codec", [FakeCodec, Touchy])
def test_calls_are_the_hosts_probabilities_within_the_tolerance_and_the_quarantine_is_equal(
    archive: Path, shard: Shard, codec: type[FakeCodec]
) -> None:
    plain, offloaded = run(archive, shard, None), run(archive, shard, codec())
    assert rows(offloaded.quarantine).equals(rows(plain.quarantine))
    assert {path[:3] for path in plain.quarantine["path"].to_pylist()} == {"bad"}
    same = [name for name in plain.calls.column_names if not name.startswith("p_") and name not in TIMES]
    assert offloaded.calls.select(same).equals(plain.calls.select(same))
    p, q = (part.calls["p_abnormal"].to_numpy() for part in (plain, offloaded))
    assert 0 < np.abs(p - q).max() <= MEAN / 255  # the echo's probability is the mean grey


def test_the_share_says_which_radiographs_go_to_the_gpu(archive: Path, shard: Shard) -> None:
    codec = Counting()
    part = run(archive, shard, codec, share=0.5)
    paths = [radiograph.path for specimen in shard.specimens for radiograph in specimen.radiographs]
    able = [path for path in paths if path[0] in "01234567" or path in ("bad_hole.jpg", "bad_flat.jpg")]
    wanted = sum(falls_to_gpu(path, 0.5) for path in able)
    assert 0 < wanted < len(able)
    assert codec.decoded == wanted
    assert part.seconds["decode_gpu"] > 0
    assert "decode_gpu" not in run(archive, shard, None).seconds


def test_the_same_rows_come_again_with_and_without_care(archive: Path, shard: Shard) -> None:
    """Alone or in company, whoever is free: a worker that died changes no number."""
    first = run(archive, shard, FakeCodec(), share=0.5)
    again = run(archive, shard, FakeCodec(), share=0.5)
    careful = run(archive, shard, FakeCodec(), share=0.5, watch=Watch(opening=lambda path: None))
    for part in (again, careful):
        assert rows(part.calls).equals(rows(first.calls))
        assert rows(part.quarantine).equals(rows(first.quarantine))


def test_a_model_that_turns_the_animal_leaves_all_to_the_host(archive: Path) -> None:
    codec = Counting()
    contract = InputContract(size=32, upright=True)
    offload = open_offload(shares(1.0), contract, Limits(), "cpu", lambda device, name: codec)
    assert offload is not None
    assert offload.take("0.jpg", (archive / "0.jpg").read_bytes()) is None


def test_a_run_without_shares_opens_nothing() -> None:
    assert open_offload({}, InputContract(), Limits(), "cpu") is None


def test_a_worker_that_cannot_do_what_the_run_began_with_refuses() -> None:
    with pytest.raises(EnvironmentFault, match="MX-M007 nvImageCodec decodes on NVIDIA's GPUs"):
        open_offload(shares(1.0), InputContract(), Limits(), "cpu")

    def broken(device: str, engine: str) -> Codec:
        raise RuntimeError("no driver")

    with pytest.raises(EnvironmentFault, match="MX-M007 nvImageCodec cannot be opened: no driver"):
        open_offload(shares(1.0), InputContract(), Limits(), "cuda:0", broken)


def test_a_decoder_that_dies_is_no_fault_of_a_radiograph(archive: Path) -> None:
    """It must not put them in quarantine: what it raises ends the shard."""

    class Dead:
        def decode(self, streams: object) -> list[None]:
            raise RuntimeError("the device is gone")

    contract = echo_bundle().recipe.input
    offload = GpuOffload(shares(1.0), Dead(), contract, Limits())
    loader = Loader(root=archive, contract=contract, limits=Limits(), offload=offload)
    radiograph = make_plan(open_archive(archive, default_view="dv").index, model_id="m").shard(0)
    (first, *_) = (r for s in radiograph.specimens for r in s.radiographs if r.path == "0.jpg")
    with pytest.raises(RuntimeError, match="gone"):
        loader.load(first)
