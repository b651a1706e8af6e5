"""The distilled set: what the file holds, and the images that reading composes from it.

The file is safetensors: ``naturals`` uint8 [N, ch, H, W], or in its place ``sheets`` uint8 [bytes], the files of
infer/coding.py one behind the other; ``targets`` [N] (the smallest unsigned integers that hold them); ``compensators``
int8 [U, ch, H, W] in steps of ``step`` pixel levels; ``labels`` float16 [N + P, C], or uint8 [V, C] of views
(infer/views.py), with ``choices`` where these are chosen among candidates, or none where labels are hard or dynamic;
and one metadata entry, ``infer``: the JSON of :class:`Header`.

Nothing says which natural a compensator is added to, because the order does: the j-th natural of a class belongs to
round j, and compensator i to round ``i // compensators_per_round``. It meets every natural of that round.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor
from torch.utils.data import Dataset

from infer.core import codec as coding
from infer.core import ufc
from infer.core.budget import Ledger
from infer.core.errors import UserError
from infer.core.files import write_bytes
from infer.core.labels import distribution
from infer.core.mixed_views import MOST_COMPENSATORS, Drawn, Views, bits, dequantise, pack, unpack
from infer.distilled.artifacts import SCHEME, fetch

VERSION = 2
_LARGEST_SIDE = 4096


@dataclass(frozen=True)
class Header:
    """What the tensors mean. ``mean`` and ``std`` are of pixels in 0 to 1, a value a channel."""

    classes: list[str]
    mean: list[float]
    std: list[float]
    labels: str  # static | views | dynamic | hard
    space: str  # logits | probabilities
    temperature: float
    compensators_per_round: int
    label_bytes: int = 0  # of the teachers that dynamic labels need
    step: int = ufc.STEP
    sheets: list[int] = field(default_factory=list)  # bytes of each file that holds naturals; none: they are raw
    views: dict[str, Any] | None = None  # the arguments of infer.views.Views
    version: int = VERSION
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DistilledSet(Dataset[tuple[Tensor, Tensor]]):
    """A torch Dataset over its pool, naturals and then composed images; or over views of the pool, where it has such.

    An item is (image uint8 [ch, H, W], label float32 [C]): the distribution a student is to match at ``temperature``,
    one-hot where the file holds no labels. Indexing with an int64 tensor gives a batch.
    """

    naturals: Tensor
    targets: Tensor
    compensators: Tensor
    labels: Tensor | None
    header: Header
    coded: tuple[bytes, ...] = ()
    choices: Tensor | None = None

    def to(self, device: torch.device) -> DistilledSet:
        """The same set with its tensors on ``device``, where batches are then composed."""
        labels = None if self.labels is None else self.labels.to(device)
        naturals, targets = self.naturals.to(device), self.targets.to(device)
        return replace(
            self, naturals=naturals, targets=targets, compensators=self.compensators.to(device), labels=labels
        )

    @property
    def device(self) -> torch.device:
        """Where the set lies, and indices have to."""
        return self.naturals.device

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.naturals.nbytes + self.compensators.nbytes + (0 if self.labels is None else self.labels.nbytes)

    @cached_property
    def pairs(self) -> Tensor:
        """The composed images, int64 [P, 2]: (position of the natural, position of the compensator)."""
        if not len(self.compensators):
            return torch.empty(0, 2, dtype=torch.int64, device=self.targets.device)
        order = self.targets.argsort(stable=True)
        first = torch.searchsorted(self.targets[order], self.targets[order])
        rounds = torch.empty_like(order)
        rounds[order] = torch.arange(len(order), device=order.device) - first
        numbers = torch.arange(len(self.compensators), device=order.device)
        per_round = numbers // self.header.compensators_per_round
        met = (per_round[:, None] == rounds[None, :]).nonzero()
        return met.flip(dims=(1,))

    @property
    def pool(self) -> int:
        """Naturals and composed images."""
        return len(self.naturals) + len(self.pairs)

    @cached_property
    def views(self) -> Views | None:
        """What the set shows in the place of its pool."""
        return None if self.header.views is None else Views(**self.header.views)

    @cached_property
    def _drawn(self) -> Drawn:
        assert self.views is not None
        return Drawn(*(part.to(self.device) for part in self.views.drawn(self.choices)))

    def __len__(self) -> int:
        return self.views.count if self.views else self.pool

    @cached_property
    def _made_of(self) -> tuple[Tensor, Tensor]:
        """Every image's (natural, compensator), int64 [N + P, 2], and the compensators with a last one of zeros, which
        is that of the naturals: so that a batch is composed without asking, which on a GPU means waiting."""
        numbers = torch.arange(len(self.naturals), device=self.targets.device)
        naturals = torch.stack([numbers, torch.full_like(numbers, len(self.compensators))], dim=1)
        zeros = torch.zeros_like(self.naturals[:1], dtype=torch.int8)
        return torch.cat([naturals, self.pairs]), torch.cat([self.compensators, zeros])

    def images(self, indices: Tensor) -> Tensor:
        """Images uint8 [B, ch, H, W] of ``indices`` int64 [B]: views where there are such, else of the pool."""
        return self.views.images(self._drawn, self.of_pool, indices) if self.views else self.of_pool(indices)

    def of_pool(self, indices: Tensor) -> Tensor:
        """Images uint8 [B, ch, H, W] of the pool, composed where they lie behind the naturals."""
        made_of, compensators = self._made_of
        natural, compensator = made_of[indices].unbind(dim=1)
        levels = self.header.step * compensators[compensator].short()
        return ufc.compose(self.naturals[natural].short(), levels).to(torch.uint8)

    def classes_of(self, indices: Tensor) -> Tensor:
        """Class numbers int64 [B]: a composed image has that of its natural, a view that of its first image."""
        if self.views:
            indices = self._drawn.first[indices]
        return torch.cat([self.targets, self.targets[self.pairs[:, 0]]])[indices]

    def raw_labels(self, indices: Tensor) -> Tensor:
        """Labels float32 [B, C] in the header's space, as they are mixed; one-hot where none are stored."""
        if self.labels is None:
            return torch.nn.functional.one_hot(self.classes_of(indices), len(self.header.classes)).float()
        return dequantise(self.labels[indices]) if self.views else self.labels[indices].float()

    def __getitem__(self, index: int | Tensor) -> tuple[Tensor, Tensor]:
        indices = torch.atleast_1d(torch.as_tensor(index))
        labels = self.raw_labels(indices)
        if self.labels is not None:
            labels = distribution(labels, self.header.space, self.header.temperature)
        images = self.images(indices)
        return (images, labels) if isinstance(index, Tensor) and index.ndim else (images[0], labels[0])

    @property
    def natural_bytes(self) -> int:
        """Bytes that the naturals take in the file."""
        return sum(map(len, self.coded)) if self.coded else self.naturals.numel()

    @property
    def label_bytes(self) -> int:
        """Bytes of labels: stored ones, and which views they are of, or the teachers that give them."""
        if self.labels is None:
            return self.header.label_bytes
        chosen = self.views.count * bits(self.views.candidates) if self.views and self.choices is not None else 0
        return self.labels.nbytes + -(-chosen // 8)

    @property
    def payload(self) -> int:
        """Bytes a consumer needs beside the header: images, their classes, compensators, labels or who gives them."""
        targets = len(self.targets) * _target_dtype(len(self.header.classes)).itemsize
        return self.natural_bytes + self.compensators.numel() + targets + self.label_bytes

    def ledger(self, ipc: int, real: int, file: int) -> Ledger:
        """Bytes by purpose; ``real`` and ``file`` are those of the real set and of this set's file."""
        image = self.naturals[0].numel()
        natural, compensators = self.natural_bytes, self.compensators.numel()
        labels = self.payload - natural - compensators
        header = file - (self.payload - self.header.label_bytes)
        budget = ipc * len(self.header.classes) * image
        return Ledger(natural, compensators, labels, header, self.payload + header, budget, file, real)

    def to_bytes(self) -> bytes:
        """The file's bytes: the same set gives the same bytes."""
        header = replace(self.header, sheets=[len(sheet) for sheet in self.coded])
        pixels = torch.frombuffer(bytearray(b"".join(self.coded)), dtype=torch.uint8) if self.coded else self.naturals
        tensors = {
            "sheets" if self.coded else "naturals": pixels,
            "targets": self.targets.to(_target_dtype(len(self.header.classes))),
            "compensators": self.compensators,
        }
        if self.labels is not None:
            tensors["labels"] = self.labels
        if self.choices is not None and self.views:
            tensors["choices"] = pack(self.choices, self.views.candidates)
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        return to_safetensors(tensors, metadata={"infer": json.dumps(asdict(header), sort_keys=True)})

    def save(self, path: str | Path) -> int:
        """Write the file whole or not at all; returns its bytes. Raises :class:`UserError` where it cannot."""
        content = self.to_bytes()
        write_bytes(Path(path), content)
        return len(content)

    def export(self, folder: str | Path) -> None:
        """Write ``folder``/<class>/<number>.png for every image, composed ones too, and ``folder``/labels.csv.

        What a folder's name cannot hold of a class's is replaced by _.

        The table has a line an image: file, class (its true name), kind (natural, composed or view), and the
        probability of each class.
        """
        from PIL import Image

        folder = Path(folder)
        try:
            folders = _folder_names(self.header.classes)
            for name in folders:
                (folder / name).mkdir(parents=True, exist_ok=True)
            with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as table:
                writer = csv.writer(table)
                writer.writerow(["file", "class", "kind", *self.header.classes])
                for index in range(len(self)):
                    image, label = self[index]
                    number = int(self.classes_of(torch.tensor([index])))
                    file = f"{folders[number]}/{index:06d}.png"
                    pixels = image.permute(1, 2, 0).squeeze(-1).numpy()
                    Image.fromarray(pixels).save(folder / file)
                    kind = "view" if self.views else "natural" if index < len(self.naturals) else "composed"
                    writer.writerow([file, self.header.classes[number], kind, *(f"{p:.6g}" for p in label.tolist())])
        except OSError as error:
            raise UserError(f"export to {folder}: {error.strerror or error}; choose a folder to write to") from error


def load(path: str | Path) -> DistilledSet:
    """Read a distilled file. Its header, shapes and sizes are checked before any tensor is made.

    ``path`` may name a published one, as wandb:<entity>/<project>/<artifact>:<version>. Raises :class:`UserError` for a
    file that is missing, truncated, foreign, inconsistent or from a newer version.
    """
    path = fetch(str(path)) if str(path).startswith(SCHEME) else Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such distilled file; write one with python distill.py")
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(path, (file.metadata() or {}).get("infer"))
            shapes = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            _check(path, header, {n: (s.get_dtype(), tuple(s.get_shape())) for n, s in shapes.items()})
            tensors = {name: file.get_tensor(name) for name in shapes}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole distilled file ({error}); copy it again or distil anew") from error
    targets = tensors["targets"].long()
    if len(targets) and int(targets.max()) >= len(header.classes):
        raise UserError(f"{path}: class number {int(targets.max())} where there are {len(header.classes)} classes")
    labels = tensors.get("labels")
    if labels is not None and not (labels.isfinite().all() and (header.views is None or labels.any(dim=1).all())):
        raise UserError(f"{path}: its labels are not all finite numbers with a largest one")
    compensators = tensors["compensators"]
    coded = _cut(tensors["sheets"], header.sheets) if header.sheets else ()
    naturals = _decoded(path, coded, len(targets), compensators.shape[1:]) if coded else tensors["naturals"]
    choices = None
    if header.views and header.views["candidates"] > 1:
        choices = unpack(tensors["choices"], header.views["count"], header.views["candidates"])
        if int(choices.max()) >= header.views["candidates"]:
            raise UserError(f"{path}: it names a view that is none of {header.views['candidates']} candidates")
    distilled = DistilledSet(naturals, targets, compensators, labels, header, coded, choices)
    if header.views and header.views["pool"] != distilled.pool:
        raise UserError(f"{path}: its views are of {header.views['pool']} images, but it holds {distilled.pool}")
    if labels is not None and len(labels) != len(distilled):
        raise UserError(f"{path}: {len(labels)} labels for {len(distilled)} images")
    return distilled


def _cut(content: Tensor, sizes: list[int]) -> tuple[bytes, ...]:
    return tuple(part.numpy().tobytes() for part in content.split(sizes))


def _decoded(path: Path, sheets: tuple[bytes, ...], count: int, shape: torch.Size) -> Tensor:
    try:
        return coding.decode(sheets, count, (shape[0], shape[1], shape[2]))
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises of a broken picture
        raise UserError(f"{path}: its naturals cannot be decoded ({error}); copy it again or distil anew") from error


def _header(path: Path, text: str | None) -> Header:
    try:
        content = json.loads(text or "")
        version = content["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: a safetensors file, but not a distilled set: it has no infer header") from error
    if version != VERSION:
        cure = "update infer to read it" if version > VERSION else "distil it anew"
        raise UserError(f"{path}: format version {version}, this infer reads {VERSION}; {cure}")
    known = {f.name for f in fields(Header)}
    if set(content) != known:
        raise UserError(f"{path}: its header is incomplete or foreign: {', '.join(sorted(known ^ set(content)))}")
    header = Header(**content)
    numbers = (header.compensators_per_round, header.label_bytes, header.step)
    whole = (
        isinstance(header.classes, list)
        and len(set(map(str, header.classes))) == len(header.classes) > 0
        and all(isinstance(name, str) for name in header.classes)
        and all(isinstance(number, int) and number >= 0 for number in numbers)
        and header.step > 0
        and all(
            isinstance(values, list) and all(isinstance(v, float) for v in values)
            for values in (header.mean, header.std)
        )
        and len(header.mean) == len(header.std)
        and all(std > 0 for std in header.std)
        and isinstance(header.temperature, float)
        and header.temperature > 0
        and header.labels in ("static", "views", "dynamic", "hard")
        and (header.views is not None) == (header.labels == "views")
        and _views_in_range(header.views)
        and isinstance(header.sheets, list)
        and all(isinstance(size, int) and size > 0 for size in header.sheets)
        and header.space in ("logits", "probabilities")
        and isinstance(header.provenance, dict)
    )
    if not whole:
        raise UserError(f"{path}: its header has values out of range")
    return header


def _views_in_range(views: Any) -> bool:
    """Whether the arguments of views are all there, of their types and sane."""
    if views is None:
        return True
    known = {"count": int, "pool": int, "seed": int, "crop": int, "flip": bool, "mixing": str, "candidates": int}
    return (
        isinstance(views, dict)
        and set(views) - {"compensators"} == {*known, "resized_crop"}
        and all(type(views[name]) is kind for name, kind in known.items())
        and type(views.get("compensators", 0)) is int
        and 0 <= views.get("compensators", 0) <= MOST_COMPENSATORS
        and views["count"] > 0
        and views["pool"] > 0
        and 0 <= views["seed"] < 2**64
        and 1 <= views["candidates"] <= 256
        and 0 <= views["crop"] <= _LARGEST_SIDE
        and views["mixing"] in ("mixup", "cutmix", "none")
        and (views["resized_crop"] is None or 0 < views["resized_crop"] <= 1)
    )


def _check(path: Path, header: Header, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """Refuse tensors that do not fit the header or each other."""
    pixels = "sheets" if header.sheets else "naturals"
    for name in (pixels, "compensators", "targets"):
        if name not in tensors:
            raise UserError(f"{path}: it lacks the tensor {name}")
    expected = {pixels: ("U8", 1 if header.sheets else 4), "compensators": ("I8", 4), "targets": (None, 1)}
    for name, (dtype, dimensions) in expected.items():
        if tensors[name][0] != (dtype or tensors[name][0]) or len(tensors[name][1]) != dimensions:
            raise UserError(f"{path}: {name} is {tensors[name]}, {dtype} of {dimensions} dimensions was expected")
    compensators, count = tensors["compensators"][1], tensors["targets"][1][0]
    classes = len(header.classes)
    fits = (
        (tensors[pixels][1] == ((sum(header.sheets),) if header.sheets else (count, *compensators[1:])))
        and len(header.mean) == compensators[1]
        and min(compensators[1:]) > 0
        and max(compensators[2:]) <= _LARGEST_SIDE
        and tensors["targets"][0] == ("U8" if classes <= 256 else "U16")
        and count > 0
        and compensators[0] % max(1, header.compensators_per_round) == 0
        and (compensators[0] == 0 or header.compensators_per_round > 0)
        and set(tensors) <= {pixels, "targets", "compensators", "labels", "choices"}
        and ("labels" in tensors) == (header.labels in ("static", "views"))
    )
    views = header.views or {"count": 0, "candidates": 1}
    packed = -(-views["count"] * bits(views["candidates"]) // 8)
    fits = fits and tensors.get("choices", ("U8", (0,))) == ("U8", (packed,))
    if "labels" in tensors:
        dtype, shape = tensors["labels"]
        fits = fits and len(shape) == 2 and shape[1] == classes and shape[0] > 0
        fits = fits and dtype == ("U8" if header.labels == "views" else "F16")
    if not fits:
        raise UserError(f"{path}: its tensors do not fit its header or each other: {tensors}")


def _folder_names(classes: list[str]) -> list[str]:
    """Names that are folders everywhere and lead nowhere else, one a class and none twice."""
    names = [re.sub(r"[^\w \-.]", "_", name).strip(". ") or "_" for name in classes]
    return [name if names.count(name) == 1 else f"{name}-{number}" for number, name in enumerate(names)]


def _target_dtype(classes: int) -> torch.dtype:
    return torch.uint8 if classes <= 256 else torch.uint16
