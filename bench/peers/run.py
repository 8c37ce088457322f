"""`python -m mxbatch.bench.peers.run NAME ORDER`: one peer in a process of its own, as its user would start it."""

from __future__ import annotations

import json
import sys
from importlib import import_module

from mxbatch.bench.peers.order import Order


def main(name: str, order: str) -> None:
    import_module(f"mxbatch.bench.peers.{name}").run(Order(**json.loads(order)))


if __name__ == "__main__":
    main(*sys.argv[1:3])
