"""The training loop of networks against a bare PyTorch loop: the same model, batches, optimiser and thread.

    python benchmarks/network_loop.py [--rows N] [--epochs N] [--rounds N] [--models mlp cnn gru]

The rows are random bytes of 28 x 28 images, or sequences of 30 steps of 14 values. Both loops shuffle with the same
seed and end with the same weights, which is checked. They run in turn; processor time counts, because other processes
disturb the clock on the wall.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from refit.learners.networks.architecture import architecture
from refit.learners.networks.inputs import Inputs, InputShapes, Scaling
from refit.learners.networks.loop import Task, train
from refit.learners.networks.params import ArchitectureParams

ARGUMENTS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [128], "dropout": 0.2, "batch_rows": 128},
    "cnn": {"batch_rows": 128},
    "gru": {"batch_rows": 128},
}


@dataclass(frozen=True)
class Case:
    """A model that is not trained yet, and its rows."""

    network: nn.Module
    rows: Inputs
    target: Tensor
    params: ArchitectureParams
    scaling: Scaling


def case_of(kind: str, rows: int, epochs: int) -> Case:
    chosen = architecture(kind)
    params = chosen.Params(epochs=epochs, optimizer="adam", schedule="constant", weight_decay=0.0, **ARGUMENTS[kind])
    torch.manual_seed(0)
    empty, target = (torch.empty(rows, 0).long(), torch.empty(rows, 0)), torch.randint(0, 10, (rows,))
    if kind == "gru":
        lengths = torch.randint(1, 31, (rows,))
        steps = torch.randn(rows, 30, 14) * (torch.arange(30) < lengths[:, None])[:, :, None]
        inputs, shapes = (
            Inputs(*empty, sequences={"it": steps}, lengths={"it": lengths}),
            InputShapes(sequences={"it": (30, 14)}),
        )
        return Case(chosen.build(params, shapes, 10), inputs, target, params, Scaling({}))
    pixels = torch.randint(0, 256, (rows, 28, 28, 1), dtype=torch.uint8).permute(0, 3, 1, 2)
    network = chosen.build(params, InputShapes(images={"it": (28, 28, 1)}), 10)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    factors = torch.tensor([[[1 / 74.0]]]), torch.tensor([[[-1.72]]])
    return Case(network, Inputs(*empty, {"it": pixels}), target, params, Scaling({"it": factors}))


def ours(case: Case, network: nn.Module) -> None:
    cpu, params = torch.device("cpu"), case.params
    task = Task("it", params, functional.cross_entropy, params.epochs, 0, cpu, case.scaling)
    train(network, case.rows, case.target, task)


def bare(case: Case, network: nn.Module) -> None:
    """What one would write by hand for these rows."""
    optimizer = torch.optim.Adam(network.parameters(), lr=case.params.learning_rate)
    shuffle = torch.Generator().manual_seed(0)
    codes, numbers, target = case.rows.codes, case.rows.numbers, case.target
    pixels = {name: image.permute(0, 2, 3, 1) for name, image in case.rows.images.items()}
    network.train()
    for _ in range(case.params.epochs):
        for index in torch.randperm(len(target), generator=shuffle).split(case.params.batch_rows):  # type: ignore[no-untyped-call]
            images = {}
            for name, (scale, shift) in case.scaling.factors.items():
                images[name] = pixels[name][index].permute(0, 3, 1, 2).float() * scale + shift
            sequences = {name: steps[index] for name, steps in case.rows.sequences.items()}
            lengths = {name: steps[index] for name, steps in case.rows.lengths.items()}
            optimizer.zero_grad()
            outputs = network(Inputs(codes[index], numbers[index], images, sequences, lengths))
            functional.cross_entropy(outputs, target[index]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    network.eval()


def timed(loop: Callable[[Case, nn.Module], None], case: Case) -> tuple[float, nn.Module]:
    """Processor seconds, and the trained network."""
    network = copy.deepcopy(case.network)
    torch.manual_seed(1)  # for dropout
    started = time.process_time()
    loop(case, network)
    return time.process_time() - started, network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=ARGUMENTS, default=list(ARGUMENTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{arguments.rows:,} rows x {arguments.epochs} epochs, median of {arguments.rounds} rounds; budget 1.03x")
    print("| model | bare, rows per second | refit, rows per second | time |")
    print("| --- | --- | --- | --- |")
    for kind in arguments.models:
        case = case_of(kind, arguments.rows, arguments.epochs)
        small = case_of(kind, 300, 1)
        timed(bare, small), timed(ours, small)  # the first steps allocate
        pairs = []
        for number in range(arguments.rounds):
            loops = (bare, ours) if number % 2 == 0 else (ours, bare)
            results = {loop.__name__: timed(loop, case) for loop in loops}
            weights = [network.state_dict().values() for _, network in results.values()]
            assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True)), "the loops differ"
            pairs.append((results["bare"][0], results["ours"][0]))
        seconds = [statistics.median(each) for each in zip(*pairs, strict=True)]
        ratio = statistics.median(mine / hand for hand, mine in pairs)
        by_hand, with_refit = (f"{arguments.rows * arguments.epochs / each:,.0f}" for each in seconds)
        print(f"| {kind} | {by_hand} | {with_refit} | {ratio:.3f}x |", flush=True)


if __name__ == "__main__":
    main()
