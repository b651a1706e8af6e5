"""What the benchmarks share: the hardware and its rate, alternating timing, and the output as a table and JSON."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent))
warnings.filterwarnings("ignore", module="pytorch_lightning")

from infer.core.batch_norm import batch_norms  # noqa: E402
from infer.models.networks import build  # noqa: E402


def parser(doc: str, backbones: Sequence[str]) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    created = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    created.add_argument("--backbones", nargs="+", default=list(backbones))
    created.add_argument("--classes", type=int, default=10)
    created.add_argument("--side", type=int, default=32, help="height and width of the images in pixels")
    created.add_argument("--turns", type=int, default=3, help="runs of each of the two, which alternate: A B A B ...")
    created.add_argument("--seconds", type=float, default=8.0, help="approximate duration of a run of the reference")
    created.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    created.add_argument("--json", type=Path, help="file to write the results to")
    return created


def network(name: str, classes: int, side: int) -> nn.Module:
    """Build a frozen backbone, the same at every call, with the statistics of noise in its BatchNorm layers."""
    torch.manual_seed(0)
    model = build(name, classes, 3, side)
    for layer in batch_norms(model):
        layer.momentum = None
    with torch.no_grad():
        model.train()(torch.randn(64 if side <= 64 else 8, 3, side, side))
    return model.eval().requires_grad_(False)


def machine(device: str) -> dict[str, Any]:
    """Describe the hardware and software of a measurement, with its date."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(": ")[2] for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }


def wait(device: str) -> None:
    """Wait until the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], Any], device: str) -> float:
    """Measure the seconds that ``work`` takes."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def matrix_rate(device: str) -> float:
    """Measure the floating-point operations per second of a float32 matrix product, the best of eight."""
    side = 8192 if device == "cuda" else 2048
    a, b = torch.randn(2, side, side, device=device)
    return 2 * side**3 / min(seconds(lambda: a @ b, device) for _ in range(8))


def operations(work: Callable[[], Any]) -> int:
    """Count the floating-point operations of the convolutions and matrix products in ``work``."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def in_turn(
    reference: Callable[[], Any], ours: Callable[[], Any], turns: int, device: str
) -> list[tuple[float, float]]:
    """Measure the seconds of both in alternation, A B A B; the caller has warmed them up."""
    return [(seconds(reference, device), seconds(ours, device)) for _ in range(turns)]


def ratios(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Summarise the times of :func:`in_turn`: reference over ours of each pair, and the median seconds of both."""
    found = [reference / ours for reference, ours in times]
    return {
        "ratio_median": statistics.median(found),
        "ratio_min": min(found),
        "ratio_max": max(found),
        "seconds_reference": statistics.median(reference for reference, _ in times),
        "seconds_ours": statistics.median(ours for _, ours in times),
    }


def printed(case: dict[str, Any]) -> dict[str, Any]:
    """Print a case as soon as it is measured, and return it."""
    words = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in case.items())
    print(", ".join(words), flush=True)
    return case


def report(title: str, hardware: Mapping[str, Any], cases: Sequence[Mapping[str, Any]], file: Path | None) -> None:
    """Print the table of the cases and write them to ``file`` as JSON."""
    table = Table(title=f"{title}\n{hardware}")
    for key in cases[0]:
        table.add_column(key, justify="right")
    for case in cases:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in case.values()))
    Console(width=None if sys.stdout.isatty() else 240, markup=False).print(table)
    if file:
        file.write_text(json.dumps({"hardware": hardware, "cases": list(cases)}, indent=2) + "\n")
