"""The engine cache builds once, believes nothing that it did not build, and shares with nobody."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.runtime import cache
from mxbatch.engine.runtime.cache import engine_facts, entry_path, load_engine, require_own_folder
from mxbatch.engine.runtime.calibration import Sample
from mxbatch.engine.runtime.encoder import Encoder, EngineSpec, Note, Runtime

SPEC = EngineSpec(device="cpu", precision="float32", batch=4)


class Toy:
    """A runtime whose engine is two files, and which counts what is asked of it."""

    def __init__(self) -> None:
        self.builds = self.loads = 0
        self.refuses = 0
        self.breaks: Exception | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    def build(
        self, bundle: Bundle, spec: EngineSpec, folder: Path, note: Note, sample: Sample | None
    ) -> None:
        self.builds += 1
        self.meanwhile()
        (folder / "part").mkdir()
        (folder / "part" / "code").write_bytes(b"native code")
        (folder / "shape").write_text(f"{spec.batch}")
        if self.breaks:
            raise self.breaks

    def load(self, bundle: Bundle, spec: EngineSpec, folder: Path, threads: int) -> Encoder:
        self.loads += 1
        if self.loads <= self.refuses:
            raise EnvironmentFault("MX-M005", "not my version", path=folder)
        return lambda images: images  # type: ignore[return-value]

    @property
    def entry(self) -> Runtime:
        return Runtime(
            name="toy",
            summary="",
            precisions=lambda device: ("float32",),
            distributions=("numpy",),
            usable=lambda device: None,
            build=self.build,
            load=self.load,
        )


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mxbatch" / "engines"


def load(toy: Toy, bundle: Bundle, folder: Path, spec: EngineSpec = SPEC) -> list[str]:
    """Load, and say what was said."""
    notes: list[str] = []
    load_engine(bundle, toy.entry, spec, folder=folder, threads=1, note=notes.append)
    return notes


def only_entry(folder: Path) -> Path:
    (entry,) = (path for path in folder.iterdir() if path.is_dir())
    return entry


def test_what_is_built_is_not_built_again(toy: Toy, small_bundle: Bundle, folder: Path) -> None:
    assert load(toy, small_bundle, folder) == load(toy, small_bundle, folder) == []
    assert (toy.builds, toy.loads) == (1, 2)
    assert only_entry(folder) == entry_path(folder, small_bundle, toy.entry, SPEC)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_runtime_with_nothing_to_build_needs_no_folder(
    toy: Toy, small_bundle: Bundle, folder: Path
) -> None:
    entry = dataclasses.replace(toy.entry, build=None)
    load_engine(small_bundle, entry, SPEC, folder=folder, threads=1, note=print)
    assert not folder.exists()


def test_two_that_need_one_engine_build_one(toy: Toy, small_bundle: Bundle, folder: Path) -> None:
    together = Barrier(2)
    notes: list[str] = []

    def say(text: str) -> None:
        notes.append(text)
        together.wait(10)  # the builder goes on once the other has found the lock taken

    toy.meanwhile = lambda: together.wait(10)  # type: ignore[assignment]

    def need(_: int) -> None:
        load_engine(small_bundle, toy.entry, SPEC, folder=folder, threads=1, note=say)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(need, range(2)))
    assert (toy.builds, toy.loads) == (1, 2)
    assert notes == ["another process is compiling: waiting for it"]


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: (entry / "part" / "code").write_bytes(b"native c0de"),
        lambda entry: (entry / "part" / "code").unlink(),
        lambda entry: (entry / "part" / "more").write_bytes(b"code from elsewhere"),
        lambda entry: (entry / "engine.json").write_text("{"),
        lambda entry: (entry / "engine.json").unlink(),
    ],
    ids=["a flipped byte", "a missing file", "a file too many", "a cut manifest", "no manifest"],
)
def test_a_damaged_engine_is_built_again_and_never_loaded(
    toy: Toy, small_bundle: Bundle, folder: Path, change: Callable[[Path], object]
) -> None:
    load(toy, small_bundle, folder)
    change(only_entry(folder))
    (note,) = load(toy, small_bundle, folder)
    assert "damaged" in note
    assert (toy.builds, toy.loads) == (2, 2)
    assert load(toy, small_bundle, folder) == []


def test_an_engine_that_the_library_refuses_is_built_again_once(
    toy: Toy, small_bundle: Bundle, folder: Path
) -> None:
    toy.refuses = 1
    assert load(toy, small_bundle, folder) == [
        "the compiled encoder in the cache is damaged (not my version): building it again"
    ]
    toy.refuses, toy.loads = 2, 0
    with pytest.raises(EnvironmentFault, match="not my version") as raised:
        load(toy, small_bundle, folder)
    assert raised.value.code == "MX-M005"
    assert toy.builds == 3


def test_another_version_batch_precision_weight_or_processor_is_another_engine(
    toy: Toy, small_bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place(spec: EngineSpec = SPEC, bundle: Bundle = small_bundle) -> Path:
        return entry_path(folder, bundle, toy.entry, spec)

    places = {
        place(),
        place(dataclasses.replace(SPEC, batch=8)),
        place(dataclasses.replace(SPEC, precision="bfloat16")),
        place(dataclasses.replace(SPEC, device="cuda:0")),
        place(bundle=dataclasses.replace(small_bundle, info={"weights_sha256": "0" * 64})),
    }
    monkeypatch.setattr(cache, "installed", lambda name: "99.0")
    places.add(place())
    monkeypatch.setattr(cache, "machine_facts", lambda device: {"flags": ["other"]})
    places.add(place())
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    places.add(place())
    assert len(places) == 8


def test_an_engine_of_another_version_is_left_alone(
    toy: Toy, small_bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(toy, small_bundle, folder)
    monkeypatch.setattr(cache, "installed", lambda name: "99.0")
    assert load(toy, small_bundle, folder) == []
    assert toy.builds == 2
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 2


def test_thresholds_do_not_matter_to_an_engine(toy: Toy, small_bundle: Bundle) -> None:
    other = dataclasses.replace(small_bundle, model_id="other", learned_from="phantoms")
    assert engine_facts(other, toy.entry, SPEC) == engine_facts(small_bundle, toy.entry, SPEC)


@pytest.mark.parametrize(
    ("breaks", "expected", "words"),
    [
        (RuntimeError("no such operator\nand more"), "MX-M006", "toy cannot build .* in float32: no such operator"),
        (KeyError(), "MX-M006", "KeyError"),
        (OSError(28, "No space left on device"), "MX-E004", "No space left"),
        (EnvironmentFault("MX-M002", "bad weights"), "MX-M002", "bad weights"),
    ],
)  # fmt: skip
def test_a_build_that_fails_leaves_nothing_behind(
    toy: Toy, small_bundle: Bundle, folder: Path, breaks: Exception, expected: str, words: str
) -> None:
    toy.breaks = breaks
    with pytest.raises(EnvironmentFault, match=words) as raised:
        load(toy, small_bundle, folder)
    assert raised.value.code == expected
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_out_of_memory_goes_to_whoever_can_take_a_smaller_batch(
    toy: Toy, small_bundle: Bundle, folder: Path
) -> None:
    toy.breaks = torch.OutOfMemoryError("2 GiB")
    with pytest.raises(torch.OutOfMemoryError):
        load(toy, small_bundle, folder)


def test_what_a_killed_build_left_is_swept(toy: Toy, small_bundle: Bundle, folder: Path) -> None:
    place = entry_path(folder, small_bundle, toy.entry, SPEC)
    left = folder / f".{place.name}.abc"
    left.mkdir(parents=True)
    folder.chmod(0o700)
    load(toy, small_bundle, folder)
    assert not left.exists()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_cache_that_others_can_write_is_refused(
    toy: Toy, small_bundle: Bundle, folder: Path, mode: int
) -> None:
    folder.mkdir(parents=True)
    folder.chmod(mode)
    with pytest.raises(EnvironmentFault, match="others can write here") as raised:
        load(toy, small_bundle, folder)
    assert raised.value.code == "MX-E012"
    assert toy.builds == 0


def test_an_engine_that_others_can_write_is_refused(toy: Toy, small_bundle: Bundle, folder: Path) -> None:
    load(toy, small_bundle, folder)
    only_entry(folder).chmod(0o777)
    with pytest.raises(EnvironmentFault, match="MX-E012"):
        load(toy, small_bundle, folder)


def test_a_cache_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True, mode=0o700)
    os.chown(folder, 12345, -1) if os.geteuid() == 0 else monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(EnvironmentFault, match="MX-E012"):
        require_own_folder(folder)


def test_a_cache_that_cannot_be_written_is_a_plain_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(EnvironmentFault, match="cannot be written") as raised:
        require_own_folder(folder)
    assert raised.value.code == "MX-E005"


def test_a_cache_that_cannot_be_made_is_a_plain_answer(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="MX-E005"):
        require_own_folder(tmp_path / "file" / "engines")
