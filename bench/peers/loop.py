"""The loop that a centre has today: read, resize, one picture per forward pass, float32, a line of CSV.

The form is that of the IMPC's own view checker (EBI, 2019): a network in eval mode, files one after the other.
"""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from mxbatch.bench.naive import open_grey
from mxbatch.bench.peers.order import Order, inference, load_model


def run(order: Order) -> None:
    """Answer `order`: `out/answers.csv`."""
    model = load_model(order)
    Path(order.out).mkdir(parents=True)
    with (Path(order.out) / "answers.csv").open("w", newline="") as file, inference(order):
        answers = csv.writer(file)
        for number, path in enumerate(order.files):
            image = torch.from_numpy(open_grey(path, order.size))[None, None]
            found = model(image.to(order.device))[0].float().tolist()
            if number == 0:
                answers.writerow(["path", *(f"p{k}" for k in range(len(found)))])
            answers.writerow([path, *found])
