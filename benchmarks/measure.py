"""What the benchmarks share: the machine, its matrix rate, timing in turn, and one table and JSON for all."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent))
warnings.filterwarnings("ignore", module="pytorch_lightning")

from infer.cli.schema import backbone  # noqa: E402
from infer.core.ufc import batch_norms  # noqa: E402
from infer.models.networks import build  # noqa: E402


def parser(doc: str, backbones: Sequence[str]) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--backbones", nargs="+", default=list(backbones))
    made.add_argument("--classes", type=int, default=10)
    made.add_argument("--side", type=int, default=32, help="pixels")
    made.add_argument("--turns", type=int, default=3, help="A B A B ...: so many of each")
    made.add_argument("--seconds", type=float, default=8.0, help="a turn of the reference takes about so long")
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--json", type=Path, help="write the figures there")
    return made


def network(name: str, classes: int, side: int) -> nn.Module:
    """A backbone with the statistics of noise in its BatchNorm layers; frozen, and the same at every call."""
    torch.manual_seed(0)
    options = backbone(name)
    model = build(options.model, options.options, options.stem, classes, 3, side)
    for layer in batch_norms(model):
        layer.momentum = None
    with torch.no_grad():
        model.train()(torch.randn(64 if side <= 64 else 8, 3, side, side))
    return model.eval().requires_grad_(False)


def machine(device: str) -> dict[str, Any]:
    """What the figures were taken on, and when."""
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
    """Until the device has done what was asked of it."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], Any], device: str) -> float:
    """That ``work`` takes."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def matrix_rate(device: str) -> float:
    """Floating-point operations a second of a float32 matrix product, the best of several: the floor's rate."""
    side = 8192 if device == "cuda" else 2048
    a, b = torch.randn(2, side, side, device=device)
    return 2 * side**3 / min(seconds(lambda: a @ b, device) for _ in range(8))


def operations(work: Callable[[], Any]) -> int:
    """Floating-point operations of the convolutions and products in ``work``."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def in_turn(
    reference: Callable[[], Any], ours: Callable[[], Any], turns: int, device: str
) -> list[tuple[float, float]]:
    """Seconds of each, A B A B; the caller has warmed both up."""
    return [(seconds(reference, device), seconds(ours, device)) for _ in range(turns)]


def ratios(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Reference over ours, a pair of neighbours each."""
    found = [reference / ours for reference, ours in times]
    return {
        "ratio_median": statistics.median(found),
        "ratio_min": min(found),
        "ratio_max": max(found),
        "seconds_reference": statistics.median(reference for reference, _ in times),
        "seconds_ours": statistics.median(ours for _, ours in times),
    }


def said(case: dict[str, Any]) -> dict[str, Any]:
    """The case, told as soon as it is known."""
    words = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in case.items())
    print(", ".join(words), flush=True)
    return case


def report(title: str, hardware: dict[str, Any], cases: Sequence[dict[str, Any]], file: Path | None) -> None:
    """Print the table; write the JSON."""
    table = Table(title=f"{title}\n{hardware}")
    for key in cases[0]:
        table.add_column(key, justify="right")
    for case in cases:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in case.values()))
    Console(width=None if sys.stdout.isatty() else 240).print(table)
    if file:
        file.write_text(json.dumps({"hardware": hardware, "cases": list(cases)}, indent=2) + "\n")
