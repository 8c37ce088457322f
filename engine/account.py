"""The end of every run: is there a row for every specimen, and what do the committed files add up to?

    rows of calls + specimens wholly in quarantine = specimens in the plan

It is shown shard by shard from the files themselves, so a run's word about itself rests on what a reader finds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from mxbatch.engine.archive.index import KEY
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.ledger import Output
from mxbatch.engine.plan import Plan, Shard


@dataclass(slots=True)
class Account:
    """What a run's committed files hold."""

    counts: Counter[str] = field(default_factory=Counter)
    by_code: Counter[str] = field(default_factory=Counter)


def settle(output: Output, run_id: str, plan: Plan) -> Account:
    """Count the run's files. Raises EnvironmentFault: MX-E007 when a specimen is missing, twice or unknown."""
    account = Account()
    beside = output.quarantined(run_id)
    called = output.read_parts((output.calls_part(run_id, number) for number in plan.sizes), KEY)
    refused = output.read_parts(
        (output.quarantine_part(run_id, number) for number in plan.sizes if number in beside),
        ["path", "code"],
    )
    for number, calls in zip(plan.sizes, called, strict=True):
        shard = plan.shard(number)
        rows = next(refused).to_pylist() if number in beside else []
        account.by_code.update(row["code"] for row in rows)
        account.counts.update(settle_shard(shard, _keys(calls), {row["path"] for row in rows}))
    return account


def settle_shard(shard: Shard, called: list[tuple[str, ...]], refused: set[str]) -> dict[str, int]:
    """Counts of one shard; `called` are the keys of its calls, `refused` the paths in its quarantine."""
    lost = [
        specimen for specimen in shard.specimens if all(one.path in refused for one in specimen.radiographs)
    ]
    expected = Counter(specimen.key for specimen in shard.specimens)
    expected.subtract(specimen.key for specimen in lost)
    if Counter(called) != +expected:
        wrong = +(expected - Counter(called)) or +(Counter(called) - expected)
        key = " · ".join(next(iter(wrong)))
        raise EnvironmentFault("MX-E007", f"{shard.name} does not account for {sum(wrong.values())}: {key}")
    paths = [one.path for specimen in shard.specimens for one in specimen.radiographs]
    return {
        "calls": len(called),
        "specimens_lost": sum(bool(specimen.key[1]) for specimen in lost),
        "radiographs_quarantined": sum(path in refused for path in paths),
        "radiographs_used": sum(path not in refused for path in paths),
    }


def _keys(table: pa.Table) -> list[tuple[str, ...]]:
    return list(zip(*(table[name].to_pylist() for name in KEY), strict=True))
