"""The training loop of networks against a bare PyTorch loop: the same model, batches, optimiser and thread.

    python benchmarks/network_loop.py [--rows N] [--epochs N] [--rounds N] [--models mlp cnn gru]

Where Lightning is installed, its trainer runs such batches too, without its logger, progress bar and checkpoints; it
draws other random numbers for dropout.
Memory is the most that a process of its own has while one loop trains, above what it has before.
The rows are random bytes of 28 x 28 images, or sequences of 30 steps of 14 values. Both loops shuffle with the same
seed and end with the same weights, which is checked. They run in turn; processor time counts, because other processes
disturb the clock on the wall.
"""

from __future__ import annotations

import argparse
import copy
import logging
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional

from refit.learners.networks.architecture import architecture
from refit.learners.networks.inputs import ImageScaling, Inputs, InputShapes
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
    scaling: ImageScaling


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
        return Case(chosen.build(params, shapes, 10), inputs, target, params, ImageScaling({}))
    pixels = torch.randint(0, 256, (rows, 28, 28, 1), dtype=torch.uint8).permute(0, 3, 1, 2)
    network = chosen.build(params, InputShapes(images={"it": (28, 28, 1)}), 10)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    factors = torch.tensor([[[1 / 74.0]]]), torch.tensor([[[-1.72]]])
    return Case(network, Inputs(*empty, {"it": pixels}), target, params, ImageScaling({"it": factors}))


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


def lightning(case: Case, network: nn.Module) -> None:
    """The same steps by Lightning's trainer."""
    from lightning.pytorch import LightningModule, Trainer

    target = case.target

    class Module(LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, index: Tensor, step: int) -> Tensor:
            batch = case.scaling(case.rows.take(index))
            return functional.cross_entropy(self.network(batch), target[index])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=case.params.learning_rate)

    class Batches:
        def __init__(self) -> None:
            self.shuffle = torch.Generator().manual_seed(0)

        def __len__(self) -> int:
            return -(-len(target) // case.params.batch_rows)

        def __iter__(self) -> Iterator[Tensor]:
            order = torch.randperm(len(target), generator=self.shuffle)
            return iter(order.split(case.params.batch_rows))  # type: ignore[no-untyped-call]

    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_checkpointing", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=case.params.epochs, **quiet)
    trainer.fit(Module(), Batches())
    network.eval()


LOOPS: dict[str, Callable[[Case, nn.Module], None]] = {"bare": bare, "refit": ours, "lightning": lightning}


def peak_megabytes(loop: str, kind: str, rows: int) -> float:
    """The most memory of a new process above what it has before it trains one epoch."""
    command = [sys.executable, __file__, "--memory-of", loop, "--models", kind, "--rows", str(rows)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(loop: str, kind: str, rows: int) -> None:
    case = case_of(kind, rows, 1)
    before = psutil.Process().memory_info().rss
    LOOPS[loop](case, case.network)
    status = Path("/proc/self/status").read_text()  # not getrusage, which counts the process that started this one
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print((peak * 1024 - before) / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=ARGUMENTS, default=list(ARGUMENTS))
    parser.add_argument("--memory-of", choices=LOOPS, help="print the peak of one loop alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory_of:
        print_peak(arguments.memory_of, arguments.models[0], arguments.rows)
        return
    names = [name for name in LOOPS if name != "lightning" or find_spec("lightning")]
    print(f"{arguments.rows:,} rows x {arguments.epochs} epochs, median of {arguments.rounds} rounds; budget 1.03x")
    print("| model | loop | rows per second | time | peak memory |")
    print("| --- | --- | --- | --- | --- |")
    for kind in arguments.models:
        case = case_of(kind, arguments.rows, arguments.epochs)
        small = case_of(kind, 300, 1)
        for name in names:
            timed(LOOPS[name], small)  # the first steps allocate
        rounds: list[dict[str, float]] = []
        for number in range(arguments.rounds):
            results = {name: timed(LOOPS[name], case) for name in (names if number % 2 == 0 else names[::-1])}
            weights = [results[name][1].state_dict().values() for name in ("bare", "refit")]
            assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True)), "the loops differ"
            rounds.append({name: seconds for name, (seconds, _) in results.items()})
        for name in names:
            speed = arguments.rows * arguments.epochs / statistics.median(each[name] for each in rounds)
            ratio = statistics.median(each[name] / each["bare"] for each in rounds)
            peak = peak_megabytes(name, kind, arguments.rows)
            print(f"| {kind} | {name} | {speed:,.0f} | {ratio:.3f}x | {peak:.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
