"""Before a run: what is chosen, what is tried for it, what is said, and what is remembered."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.runtime import prepare as module
from mxbatch.engine.runtime import scorer
from mxbatch.engine.runtime.cache import entry_path
from mxbatch.engine.runtime.choose import Key
from mxbatch.engine.runtime.compile import LASTING, Order
from mxbatch.engine.runtime.encoder import Note
from mxbatch.engine.runtime.prepare import (
    Prepared,
    Wish,
    compile_bundle,
    disown,
    engine_cache,
    prepare,
    prepare_again,
    require_possible,
)
from mxbatch.engine.runtime.scorer import RUNTIMES
from mxbatch.engine.runtime.speeds import FASTEST, Trial, remember, remember_failure

RATES: dict[Key, float] = {
    ("eager", "float32"): 9,
    ("eager", "bfloat16"): 23,
    ("onnxruntime", "float32"): 17,
    ("inductor", "float32"): 19,
    ("inductor", "bfloat16"): 41,
}
MANY = 10**12
WISH = Wish(runtime="auto", precision=None, device="cpu", batch=16, radiographs=MANY, workers=2)


class FakeBench:
    """Builds nothing: has an empty entry where a build would be, and the rates of `RATES`."""

    tried: list[Key]
    fails: dict[Key, EnvironmentFault]
    fits = 16
    bundle: Bundle

    def __enter__(self) -> FakeBench:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def try_engine(self, order: Order, note: Note) -> Trial:
        key = (order.runtime, order.spec.precision)
        self.tried.append(key)
        runtime, batch = RUNTIMES[order.runtime], min(order.spec.batch or 8, self.fits)
        if error := self.fails.get(key):
            if error.code in LASTING:
                remember_failure(order.engines, self.bundle, runtime, order.spec, error)
            raise error
        trial = Trial(runtime=key[0], precision=key[1], batch=batch, rate=RATES[key], build_s=30)
        spec = dataclasses.replace(order.spec, batch=batch)
        entry_path(order.engines, self.bundle, runtime, spec).mkdir(parents=True, exist_ok=True)
        remember(order.engines, self.bundle, runtime, order.spec, trial)
        return trial


class Case:
    """A machine whose processor has bfloat16 and on which every CPU runtime is installed."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self.bundle, self.folder = bundle, folder
        self.notes: list[str] = []

    def prepare(self, **wish: Any) -> Prepared:
        self.notes.clear()
        FakeBench.tried = []
        return prepare(self.bundle, dataclasses.replace(WISH, **wish), self.folder, self.notes.append)


@pytest.fixture
def case(small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(module, "_Bench", FakeBench)
    monkeypatch.setattr(FakeBench, "fails", {}, raising=False)
    monkeypatch.setattr(FakeBench, "bundle", small_bundle, raising=False)
    for name in ("eager", "inductor", "onnxruntime"):
        both = ("bfloat16", "float32") if name == "inductor" else ("float32", "bfloat16")
        able = ("float32",) if name == "onnxruntime" else both
        fake = dataclasses.replace(
            RUNTIMES[name], usable=lambda device: None, precisions=lambda device, able=able: able
        )
        monkeypatch.setitem(scorer.RUNTIMES, name, fake)
    return Case(small_bundle, tmp_path / "engines")


def unusable(monkeypatch: pytest.MonkeyPatch, name: str, why: str) -> None:
    monkeypatch.setitem(RUNTIMES, name, dataclasses.replace(RUNTIMES[name], usable=lambda device: why))


def fault(code: str, what: str) -> EnvironmentFault:
    return EnvironmentFault(code, what)


def test_a_small_run_takes_plain_torch_and_tries_nothing(case: Case) -> None:
    assert case.prepare(radiographs=20).name == "eager-float32"
    assert FakeBench.tried == []
    assert case.notes == ["runtime eager-float32: no other saves 10 s on 20 radiographs"]


def test_a_large_run_relies_on_what_was_measured_and_not_on_a_guess(case: Case) -> None:
    prepared = case.prepare()
    assert prepared == Prepared(runtime="inductor", precision="bfloat16", batch=16, device="cpu")
    assert FakeBench.tried == [("inductor", "bfloat16"), ("eager", "float32")]
    assert case.notes[0].startswith("trying inductor-bfloat16: about ")
    assert case.notes[-1] == (
        "runtime inductor-bfloat16: measured 41/s against measured 9/s of eager-float32, ready"
    )


def test_a_precision_that_training_found_too_coarse_for_the_model_is_neither_tried_nor_taken(
    case: Case,
) -> None:
    metrics = {"test_auc_l1": 0.9, "bfloat16_difference": 0.03}
    case.bundle = dataclasses.replace(case.bundle, info={**case.bundle.info, "metrics": metrics})
    assert case.prepare().name == "inductor-float32"
    assert {precision for _, precision in FakeBench.tried} == {"float32"}
    assert case.notes[0] == (
        "bfloat16 is left out: in bfloat16 its probabilities were off by up to 0.03 in training, allowed 0.02"
    )
    case.prepare(radiographs=20)
    assert case.notes == ["runtime eager-float32: no other saves 10 s on 20 radiographs"]
    metrics["bfloat16_difference"] = 0.02
    assert case.prepare().name == "inductor-bfloat16"


def test_what_is_known_is_not_tried_again(case: Case) -> None:
    first = case.prepare()
    assert case.prepare() == first
    assert FakeBench.tried == []
    assert len(case.notes) == 1


def test_a_guess_that_proves_wrong_gives_way_to_the_next(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RATES, ("inductor", "bfloat16"), 8)
    assert case.prepare().name == "eager-bfloat16"
    assert FakeBench.tried == [("inductor", "bfloat16"), ("eager", "float32"), ("eager", "bfloat16")]


@pytest.mark.parametrize("code", ["MX-M003", "MX-M006", "MX-M005", "MX-E004"])
def test_a_runtime_that_fails_is_announced_and_the_next_is_taken(case: Case, code: str) -> None:
    FakeBench.fails[("inductor", "bfloat16")] = fault(code, "it differs by 0.3")
    assert case.prepare().name == "eager-bfloat16"
    assert "inductor-bfloat16 cannot be used: it differs by 0.3" in case.notes


def test_a_lasting_failure_is_remembered_and_said(case: Case) -> None:
    FakeBench.fails[("inductor", "bfloat16")] = fault("MX-M003", "it differs by 0.3")
    case.prepare()
    case.prepare()
    assert FakeBench.tried == []
    assert case.notes[0] == (
        "inductor-bfloat16 is left out: it differs by 0.3; `mxbatch compile --runtime inductor` tries it again"
    )
    FakeBench.fails.clear()
    assert case.prepare(runtime="inductor").name == "inductor-bfloat16"
    assert case.prepare().name == "inductor-bfloat16"


def test_a_passing_failure_is_not_remembered(case: Case) -> None:
    FakeBench.fails[("inductor", "bfloat16")] = fault("MX-E004", "the disk is full")
    case.prepare()
    FakeBench.fails.clear()
    assert case.prepare().name == "inductor-bfloat16"


def test_where_plain_torch_itself_fails_nothing_is_left(case: Case) -> None:
    for key in RATES:
        FakeBench.fails[key] = fault("MX-M003", "all is wrong")
    with pytest.raises(EnvironmentFault, match="all is wrong"):
        case.prepare(batch=FASTEST)


def test_a_damaged_bundle_is_no_runtimes_fault(case: Case) -> None:
    FakeBench.fails[("inductor", "bfloat16")] = fault("MX-M001", "a file differs")
    with pytest.raises(EnvironmentFault, match="a file differs"):
        case.prepare()


def test_without_a_compiler_auto_says_so_and_goes_to_onnxruntime(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    unusable(monkeypatch, "inductor", "there is no C++ compiler: apt-get install g++")
    assert case.prepare(precision="float32").name == "onnxruntime-float32"
    assert case.notes[0] == (
        "inductor-float32 would be faster, but there is no C++ compiler: apt-get install g++"
    )


def test_without_compiler_and_onnxruntime_plain_torch_is_left(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("inductor", "onnxruntime"):
        unusable(monkeypatch, name, f"{name} is not installed: pip install {name}")
    assert case.prepare(precision="float32").name == "eager-float32"
    assert len([note for note in case.notes if "would be faster, but" in note]) == 2


def test_a_precision_that_was_asked_for_holds_for_every_candidate(case: Case) -> None:
    assert case.prepare(precision="bfloat16", radiographs=20).name == "eager-bfloat16"
    assert case.prepare(precision="bfloat16").name == "inductor-bfloat16"
    assert {precision for _, precision in FakeBench.tried} == {"bfloat16"}


def test_a_runtime_by_name_is_built_once_however_small_the_run(case: Case) -> None:
    assert case.prepare(runtime="inductor", radiographs=1).name == "inductor-bfloat16"
    assert FakeBench.tried == [("inductor", "bfloat16")]
    assert case.prepare(runtime="inductor", radiographs=1).name == "inductor-bfloat16"
    assert FakeBench.tried == []


def test_a_runtime_by_name_that_fails_is_a_fault(case: Case) -> None:
    FakeBench.fails[("inductor", "bfloat16")] = fault("MX-M003", "it differs by 0.3")
    with pytest.raises(EnvironmentFault, match="it differs by"):
        case.prepare(runtime="inductor")


def test_an_engine_that_was_deleted_is_built_again(case: Case) -> None:
    case.prepare(runtime="inductor")
    for path in case.folder.iterdir():
        if path.name != "speeds":
            path.rmdir()
    case.prepare(runtime="inductor")
    assert FakeBench.tried == [("inductor", "bfloat16")]


def test_the_fastest_batch_is_looked_for_once(case: Case) -> None:
    assert case.prepare(runtime="inductor", batch=FASTEST).batch == 8
    assert case.prepare(runtime="inductor", batch=FASTEST).batch == 8
    assert FakeBench.tried == []


def test_a_batch_that_did_not_fit_is_remembered(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeBench, "fits", 4)
    assert case.prepare(runtime="inductor").batch == 4
    assert case.prepare(runtime="inductor").batch == 4
    assert FakeBench.tried == []


BEFORE = Prepared(runtime="inductor", precision="float32", batch=8, device="cpu")


def test_a_run_that_was_begun_keeps_its_runtime(case: Case) -> None:
    FakeBench.tried = []
    again = prepare_again(case.bundle, BEFORE, WISH, case.folder, case.notes.append)
    assert again == BEFORE
    assert case.notes == []


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (BEFORE, "it differs"),
        (dataclasses.replace(BEFORE, device="cuda"), "it computed on cuda"),
        (dataclasses.replace(BEFORE, precision="float16"), "does not compute in float16"),
        (dataclasses.replace(BEFORE, runtime="gone"), "no runtime 'gone'"),
    ],
)
def test_a_run_whose_runtime_is_gone_says_so_and_goes_on(case: Case, before: Prepared, words: str) -> None:
    FakeBench.tried = []
    FakeBench.fails[("inductor", "float32")] = fault("MX-M003", "it differs")
    small = dataclasses.replace(WISH, radiographs=20)
    again = prepare_again(case.bundle, before, small, case.folder, case.notes.append)
    assert again.name == "eager-float32"
    assert f"{before.name}, with which the run began, is of no use now: " in case.notes[0]
    assert words in case.notes[0]


def test_a_runtime_that_fails_in_the_workers_is_left_out_from_then_on(case: Case) -> None:
    chosen = case.prepare()
    assert disown(case.bundle, chosen, WISH, case.folder, fault("MX-M003", "differs here"))
    assert case.prepare().name == "eager-bfloat16"
    assert case.notes[0].startswith("inductor-bfloat16 is left out: differs here")


@pytest.mark.parametrize(
    ("runtime", "code", "asked"),
    [
        ("eager", "MX-M003", "auto"),
        ("inductor", "MX-E001", "auto"),
        ("inductor", "MX-M001", "auto"),
        ("inductor", "MX-M003", "inductor"),
    ],
)
def test_other_faults_end_the_run(case: Case, runtime: str, code: str, asked: str) -> None:
    prepared, wish = dataclasses.replace(BEFORE, runtime=runtime), dataclasses.replace(WISH, runtime=asked)
    assert not disown(case.bundle, prepared, wish, case.folder, fault(code, "so be it"))
    assert case.prepare().name == "inductor-bfloat16"


def test_what_cannot_be_is_refused_before_anything_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    require_possible("auto", None, "cpu")
    with pytest.raises(UsageError, match="does not compute in float16"):
        require_possible("auto", "float16", "cpu")
    with pytest.raises(UsageError, match="no runtime 'tensort'"):
        require_possible("tensort", None, "cpu")
    unusable(monkeypatch, "onnxruntime", "onnxruntime is not installed: pip install 'mxbatch[onnx]'")
    with pytest.raises(EnvironmentFault, match=r"pip install 'mxbatch\[onnx\]'") as raised:
        require_possible("onnxruntime", None, "cpu")
    assert raised.value.code == "MX-M006"


def test_a_cache_that_cannot_be_written_is_replaced_for_one_run_and_announced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    notes: list[str] = []
    with engine_cache(notes.append) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    assert len(notes) == 1
    assert "will not outlive this run" in notes[0]


def test_a_cache_that_others_can_write_stops_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "mxbatch" / "engines").mkdir(parents=True)
    (tmp_path / "mxbatch" / "engines").chmod(0o777)
    with pytest.raises(EnvironmentFault, match="MX-E012"), engine_cache(print):
        pass


def test_compiling_says_what_came_of_it(case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    FakeBench.tried = []
    made = compile_bundle(case.bundle, device="cpu", note=case.notes.append)
    assert Path(made.pop("engine")).is_dir()
    assert made == {
        "model_id": case.bundle.model_id,
        "runtime": "inductor",
        "precision": "bfloat16",
        "batch": 16,
        "device": "cpu",
        "radiographs_per_s": 41,
        "build_s": 30,
    }


def test_a_process_that_dies_while_it_compiles_is_the_runtimes_fault(
    small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    wish = dataclasses.replace(WISH, runtime="inductor", precision="float32")
    with pytest.raises(EnvironmentFault, match="the process that compiled it died") as raised:
        prepare(small_bundle, wish, tmp_path / "engines", print)
    assert raised.value.code == "MX-M006"
