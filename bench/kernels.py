"""How near to its memory's speed does each kernel run? `python -m mxbatch.bench.kernels --help`. Needs a GPU.

For every kernel: the bytes that it cannot avoid to move, its time, the rate that follows and its share of what a
plain copy reaches on this GPU; and the time of what it takes the place of. A benchmark, not a test: it judges nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from mxbatch.bench.machine import describe_machine
from mxbatch.bench.result import Figure, Result, Subject, Table, write_result
from mxbatch.kernels.calls import PER_WORD, CallRules, calls, calls_plainly
from mxbatch.kernels.dwnorm import SIDE, DepthwiseNorm, milliseconds
from mxbatch.kernels.prepare import Normalise, Picture, prepare, prepare_plainly

Work = Callable[[], object]
WINDOW = (0.5, 99.5)
ROUNDS = 15
COLUMNS = ("case", "bytes", "GB/s", "of a copy", "ms", "ms, instead", "times faster")
COPY_BYTES = 1 << 30

SOURCES = (("jpeg", 64, 2368, 2340, torch.uint8), ("dicom", 64, 2048, 1024, torch.uint16))
"""Name, pictures, rows, columns and type: the sizes of real radiographs."""
TREE = (-1, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3)
"""Parents in the built-in taxonomy."""
SPECIMENS = 54_046
"""Of the published corpus."""
STAGES = ((56, 96), (28, 192), (14, 384), (7, 768))
"""Side and channels of ConvNeXt-tiny's stages at 224 pixels."""
BATCH = 128


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel on one input."""

    name: str
    bytes: int
    """What has to be read and written, each once: inputs and results."""
    kernel: Work
    instead: Work
    """What does the same without the kernel."""


def prepare_case(
    name: str, count: int, height: int, width: int, dtype: torch.dtype, size: int, device: torch.device
) -> Case:
    """`count` pictures of noise to `uint8` and `bfloat16[size, size]`."""
    top = 256 if dtype == torch.uint8 else 1 << 16
    pictures = [
        Picture(torch.randint(top, (height, width), device=device).to(dtype), width, height)
        for _ in range(count)
    ]
    normalise = Normalise(mean=0.5, std=0.25, dtype=torch.bfloat16)
    moved = count * (height * width * dtype.itemsize + size**2 * (1 + normalise.dtype.itemsize))
    return Case(
        f"prepare {name} {height}x{width}",
        moved,
        lambda: prepare(pictures, size, WINDOW, normalise),
        lambda: prepare_plainly(pictures, size, WINDOW, normalise),
    )


def calls_case(specimens: int, parents: tuple[int, ...], device: torch.device) -> Case:
    nodes = len(parents)
    ones = torch.ones(nodes, device=device)
    rules = CallRules(
        parents=parents,
        scale_K=ones,
        bias_K=0 * ones,
        normal_below_K=0.4 * ones,
        abnormal_from_K=0.6 * ones,
        conditional=True,
    )
    logits_NK = torch.randn(specimens, nodes, device=device)
    moved = 4 * (2 * specimens * nodes + specimens * -(-nodes // PER_WORD))
    return Case(
        f"calls {specimens}x{nodes}",
        moved,
        lambda: calls(logits_NK, rules),
        lambda: calls_plainly(logits_NK, rules),
    )


def dwnorm_case(batch: int, side: int, channels: int, dtype: torch.dtype, device: torch.device) -> Case:
    """Against torch's own convolution and norm, both in `dtype`."""
    conv = nn.Conv2d(channels, channels, SIDE, padding=SIDE // 2, groups=channels, device=device, dtype=dtype)
    norm = nn.LayerNorm(channels, device=device, dtype=dtype)
    fused = DepthwiseNorm(conv, norm)
    conv = conv.to(memory_format=torch.channels_last)
    x_BCHW = torch.randn(batch, channels, side, side, device=device).to(dtype)
    x_BCHW = x_BCHW.to(memory_format=torch.channels_last)

    def in_torch() -> Tensor:
        y: Tensor = norm(conv(x_BCHW).permute(0, 2, 3, 1))
        return y

    moved = 2 * batch * side**2 * channels * dtype.itemsize + SIDE**2 * channels * dtype.itemsize
    return Case(f"dwnorm {batch}x{side}x{side}x{channels}", moved, lambda: fused(x_BCHW), in_torch)


def cases(device: torch.device) -> Iterator[Case]:
    """One after the other, so that no two inputs are in memory together."""
    for source in SOURCES:
        yield prepare_case(*source, 224, device)
    yield calls_case(SPECIMENS, TREE, device)
    for side, channels in STAGES:
        yield dwnorm_case(BATCH, side, channels, torch.bfloat16, device)


def copy_rate(device: torch.device, timer: Callable[[Work], float], count: int = COPY_BYTES) -> float:
    """GB/s of a plain copy, read and write counted: the roof."""
    source = torch.zeros(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / min(timer(lambda: target.copy_(source)) for _ in range(5)) / 1e6


@dataclass(frozen=True, slots=True)
class Measured:
    """One case, round by round, in milliseconds."""

    case: Case
    kernel_ms: tuple[float, ...]
    instead_ms: tuple[float, ...]

    @property
    def rates(self) -> Figure:
        return Figure(unit="GB/s", rounds=tuple(self.case.bytes / ms / 1e6 for ms in self.kernel_ms))

    @property
    def times_faster(self) -> float:
        return median(other / own for own, other in zip(self.kernel_ms, self.instead_ms, strict=True))


def measure(case: Case, timer: Callable[[Work], float], rounds: int = ROUNDS) -> Measured:
    """Kernel and alternative in turns; the first round, in which kernels are compiled, is not counted."""
    pairs = [(timer(case.kernel), timer(case.instead)) for _ in range(rounds + 1)][1:]
    return Measured(case, *(tuple(column) for column in zip(*pairs, strict=True)))


def result(found: Sequence[Measured], roof: float) -> Result:
    """In the form of all benchmarks: rates, shares of a copy, and a table of bytes and times."""
    rows = [
        (
            each.case.name,
            each.case.bytes,
            round(each.rates.median, 1),
            round(each.rates.median / roof, 3),
            round(median(each.kernel_ms), 4),
            round(median(each.instead_ms), 4),
            round(each.times_faster, 2),
        )
        for each in found
    ]
    return Result(
        kind="kernels",
        what="bytes that cannot but be moved, over the time of the kernel; beside it what it takes the place of",
        subject=Subject(runtime="triton", batch=BATCH),
        figures={"copy": Figure(unit="GB/s", rounds=(roof,))}
        | {each.case.name: each.rates for each in found},
        shares={f"{each.case.name} of a copy": each.rates.median / roof for each in found},
        tables={"kernels": Table(columns=COLUMNS, rows=tuple(rows))},
        machine=describe_machine(("triton",)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the result file, such as bench/results")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("the kernels' benchmark needs an NVIDIA GPU, and torch sees none here")
    device = torch.device("cuda")
    roof = copy_rate(device, milliseconds)
    print(f"{'copy':28} {roof:8.1f} GB/s")
    found = []
    with torch.inference_mode():
        for case in cases(device):
            one = measure(case, milliseconds)
            found.append(one)
            share, times = f"{one.rates.median / roof:.0%} of a copy", f"{one.times_faster:.2f} x torch"
            print(
                f"{case.name:28} {one.rates.median:8.1f} GB/s  {share:14} {median(one.kernel_ms):8.4f} ms  {times}"
            )
    if asked.out:
        print(write_result(result(found, roof), asked.out))


if __name__ == "__main__":
    main()
