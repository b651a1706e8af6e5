"""Mutated distilled files: each is refused in one line, or is a set that indexes, iterates and exports in its folder.

    python tests/distilled/fuzz_reading.py --count 20000 --seed 0

The files are read in a child process with a limit of memory, and of time for each file. A number and a seed always give
the same file; ``--first <number> --count 1 --keep <folder>`` writes one that failed.
"""

from __future__ import annotations

import argparse
import collections
import copy
import faulthandler
import json
import math
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

EXTRA_MEMORY = 3 * 2**30
SECONDS_PER_FILE = 30
MOST_SHOWN = 20
DEEP = "@deep"
"""Placeholder of a text that json.dumps cannot write."""

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 7, 255, 256, 1000, 2**31, 2**63, 2**64, 10**30, -(10**30)),
    *(0.0, 0.5, -0.5, 1.0, 1e-320, 1e-30, 1e30, 1e308, math.nan, math.inf, -math.inf),
    *("", "x", "1", "hard", "logits", "none", "\ud800", "../../x", "a" * 10**5, "\n"),
    *([], [1], [0.5], ["a"], [None], [True] * 9, [1] * 10**4, [[]], ["a", "b", "c"], [math.nan] * 3, [1e-320] * 3),
    *({}, {"a": 1}, {"files": 5}, {"count": 1}, *(f"{DEEP}{depth}" for depth in (50, 240, 900, 50_000))),
]
DTYPES = ["U8", "I8", "U16", "F16", "F32", "I64", "BOOL", "BF16", "F8_E4M3", "F64", "x"]


class File:
    """The parts of a safetensors file, with any content."""

    def __init__(self, content: bytes) -> None:
        length = struct.unpack("<Q", content[:8])[0]
        entries = json.loads(content[8 : 8 + length])
        self.header: Any = json.loads(entries.pop("__metadata__")["infer"])
        self.tensors: list[tuple[str, str, list[int], bytes]] = []
        for name, entry in entries.items():
            start, stop = (8 + length + offset for offset in entry["data_offsets"])
            self.tensors.append((name, entry["dtype"], entry["shape"], content[start:stop]))

    def to_bytes(self) -> bytes:
        text = json.dumps(self.header)
        for value in VALUES:
            if isinstance(value, str) and value.startswith(DEEP):
                depth = int(value.removeprefix(DEEP))
                text = text.replace(f'"{value}"', "[" * depth + "]" * depth)
        entries, data = [f'"__metadata__": {json.dumps({"infer": text})}'], b""
        for name, dtype, shape, content in self.tensors:
            offsets = [len(data), len(data) + len(content)]
            entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
            entries.append(f"{json.dumps(name)}: {json.dumps(entry)}")  # a name may come twice
            data += content
        head = f"{{{', '.join(entries)}}}".encode()
        return struct.pack("<Q", len(head)) + head + data


def edit_header(file: File, draw: random.Random) -> None:
    """Replace, remove or add a field, an entry of a list, or a field of the mixed views."""
    place = file.header
    if isinstance(place.get("views"), dict) and draw.random() < 0.4:
        place = place["views"]
    name = draw.choice([*place, "unknown"])
    present = place.get(name)
    if isinstance(present, list) and present and draw.random() < 0.4:
        present[draw.randrange(len(present))] = copy.deepcopy(draw.choice(VALUES))
    elif isinstance(present, list) and draw.random() < 0.3:
        place[name] = draw.choice([present[:-1], present * 2, [*present, 1]])
    elif isinstance(present, int) and draw.random() < 0.3:
        place[name] = present + draw.choice([-1, 1])
    elif draw.random() < 0.1:
        place.pop(name, None)
    else:
        place[name] = copy.deepcopy(draw.choice(VALUES))


def replace_header(file: File, draw: random.Random) -> None:
    """Replace the whole header."""
    file.header = copy.deepcopy(draw.choice(VALUES))


def edit_tensors(file: File, draw: random.Random) -> None:
    """Remove, duplicate or rename a tensor, or change its type, shape or numbers."""
    at = draw.randrange(len(file.tensors))
    name, dtype, shape, content = file.tensors[at]
    kind = draw.choice(["remove", "twice", "copy", "rename", "dtype", "shape", "size", "shorter", "noise", "fill"])
    if kind == "remove":
        file.tensors.pop(at)
    elif kind == "twice":
        file.tensors.append(file.tensors[at])
    elif kind == "copy":
        file.tensors.append((draw.choice(["extra", "naturals", "labels", "choices", "sheets"]), dtype, shape, content))
    else:
        edited = {
            "rename": (draw.choice(["naturals", "labels", "sheets", "\ud800", ""]), dtype, shape, content),
            "dtype": (name, draw.choice(DTYPES), shape, content),
            "shape": (name, dtype, draw.sample(shape, len(shape)), content),
            "size": (name, dtype, [draw.choice([size, 0, 1, size + 1, 2**40, 2**63, -1]) for size in shape], content),
            "shorter": (name, dtype, [*shape[:-1], shape[-1] // 2], content[: len(content) // 2]),
            "noise": (name, dtype, shape, draw.randbytes(len(content))),
            "fill": (name, dtype, shape, draw.choice([b"\0", b"\x01", b"\x7f", b"\xff"]) * len(content)),
        }
        file.tensors[at] = edited[kind]


def flip_bits(content: bytes, draw: random.Random) -> bytes:
    """Flip up to eight bits, anywhere or in the header."""
    changed = bytearray(content)
    end = len(changed) if draw.random() < 0.7 else min(len(changed), 1500)
    for _ in range(draw.choice([1, 1, 2, 8])):
        changed[draw.randrange(end)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(content: bytes, draw: random.Random) -> bytes:
    """Cut the end off, or a piece out, or add to it."""
    at, size = draw.randrange(len(content)), draw.randrange(1, 64)
    return draw.choice([content[:at], content[:at] + content[at + size :], content + content[:size]])


STRUCTURED: list[Callable[[File, random.Random], None]] = [edit_header] * 6 + [edit_tensors] * 3 + [replace_header]
RAW: list[Callable[[bytes, random.Random], bytes]] = [flip_bits, flip_bits, flip_bits, cut]


def mutated(bases: list[bytes], seed: int, number: int) -> tuple[str, bytes]:
    """The name of the mutation, and the file."""
    draw = random.Random(f"{seed}-{number}")
    content = draw.choice(bases)
    if draw.random() < 0.35:
        raw = draw.choice(RAW)
        return raw.__name__, raw(content, draw)
    file, names = File(content), []
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        structured = draw.choice(STRUCTURED if isinstance(file.header, dict) and file.tensors else [replace_header])
        structured(file, draw)
        names.append(structured.__name__)
    return names[0], file.to_bytes()


def base_files() -> list[bytes]:
    """Small whole files of every kind: labels, codecs, mixings, versions."""
    from dataclasses import replace

    from distilled_sets import pool_set, views_set

    from infer.core import codec

    plain, views = pool_set(), views_set()
    probabilities = replace(
        plain, labels=plain.labels.float().softmax(1).half(), header=replace(plain.header, space="probabilities")
    )
    sets = [plain, probabilities, pool_set(labels="hard"), pool_set(labels="dynamic"), views, views_set(label_bits=4)]
    for mixing, changes in (("mixup", {"resized_crop": 0.3}), ("none", {"crop": 4}), ("cutmix", {"seed": 2**64 - 1})):
        noisy = views_set(mixing=mixing, smooth_noise=3)
        sets.append(replace(noisy, header=replace(noisy.header, views={**noisy.header.views, **changes})))
    for name in codec.CODECS:
        sets.append(replace(pool_set(labels="hard"), coded=tuple(codec.encode(plain.naturals, name, 60))))
    sets.append(replace(views, coded=(), choices=views.choices))
    old = File(plain.to_bytes())
    old.header = {**old.header, "version": 1}
    del old.header["sheets"], old.header["views"]
    return [*(each.to_bytes() for each in sets), old.to_bytes()]


def check(file: Path, folder: Path) -> str:
    """Read a file and, where it is a set, use all of it; return "refused" or "loaded"."""
    import torch

    import infer
    from infer.core.errors import UserError

    try:
        dataset = infer.load(file)
    except UserError as error:
        message = str(error)
        assert message.startswith(f"{file}: "), message
        assert message.isprintable(), message
        assert len(message) < len(str(file)) + 500, message
        return "refused"
    count, classes = len(dataset), len(dataset.classes)
    shape = dataset.naturals.shape[1:]
    assert count == len(dataset.targets) > 0
    assert dataset[-1][0].shape == shape
    small = count * (3 * shape.numel() + classes) < 2**22
    for part in torch.arange(count).split(64) if small else [torch.tensor([0, count // 2, count - 1])]:
        images, labels = dataset[part]
        assert images.dtype == torch.uint8
        assert images.shape == (len(part), *shape)
        assert dataset.normalise(images).isfinite().all()
        assert labels.shape == (len(part), classes)
        assert (labels >= 0).all()
        torch.testing.assert_close(labels.sum(dim=1), torch.ones(len(part)), atol=2e-3, rtol=0)
    assert int(dataset.targets.max()) < classes
    assert repr(dataset)
    if small and count <= 200:
        file.write_bytes(dataset.to_bytes())
        assert torch.equal(infer.load(file)[:][0], dataset[:][0])
        before = outside(folder)
        dataset.export(folder / "out", "imagefolder" if count % 2 else "huggingface")
        assert outside(folder) == before
        assert sum(path.suffix == ".png" for path in (folder / "out").rglob("*")) == count
    return "loaded"


def outside(folder: Path) -> list[Path]:
    """Everything beside the export."""
    return sorted(path for path in folder.parent.rglob("*") if folder / "out" not in [path, *path.parents])


def read_many(first: int, count: int, seed: int, keep: Path | None) -> None:
    """Child process: read the files and print a JSON line before and after each."""
    bases = base_files()
    limit_memory()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / "place"
        for number in range(first, first + count):
            name, content = mutated(bases, seed, number)
            place.mkdir()
            (place / "file").write_bytes(content)
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{seed}-{number}").write_bytes(content)
            print(json.dumps({"number": number, "mutation": name, "started": True}), flush=True)
            faulthandler.dump_traceback_later(SECONDS_PER_FILE, exit=True)
            try:
                result = check(place / "file", place)
            except Exception:
                result = traceback.format_exc()
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps({"number": number, "mutation": name, "result": result}), flush=True)
            shutil.rmtree(place)


def limit_memory() -> None:
    """Allow so much address space beyond what is taken now; on Linux alone."""
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + EXTRA_MEMORY,) * 2)


def results(count: int, seed: int, first: int = 0, keep: Path | None = None) -> Iterator[tuple[int, str, str]]:
    """Number, mutation and result of each file; a child process that dies is one result, and another one goes on."""
    last = first + count
    while first < last:
        command = [sys.executable, __file__, "--child", "--first", first, "--count", last - first, "--seed", seed]
        arguments = [*map(str, command), *(["--keep", str(keep)] if keep else [])]
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, text=True) as child,
        ):
            assert child.stdout
            started = None
            for line in child.stdout:
                record = json.loads(line)
                started = None if "result" in record else record
                if "result" in record:
                    first = record["number"] + 1
                    yield record["number"], record["mutation"], record["result"]
            child.wait()
            errors.seek(0)
            if started:
                first = started["number"] + 1
                yield started["number"], started["mutation"], f"died with {child.returncode}: {errors.read()[-3000:]}"
            elif first < last:
                raise RuntimeError(f"the child process failed: {errors.read()}")


def main() -> None:
    """Command: read mutated files, print what became of them, and fail if one was neither refused nor a whole set."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder to write the mutated files to")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        read_many(given.first, given.count, given.seed, given.keep)
        return
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    failed = 0
    for number, mutation, result in results(given.count, given.seed, given.first, given.keep):
        kind = result if result in ("refused", "loaded") else "failed"
        counts[mutation, kind] += 1
        if kind == "failed":
            failed += 1
            if failed <= MOST_SHOWN:
                print(f"file {number} ({mutation}): {result}")
    for (mutation, kind), each in sorted(counts.items()):
        print(f"{mutation:16}{kind:8}{each:7,}")
    print(f"{given.count:,} files: {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
