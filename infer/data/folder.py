"""Reading of a folder of pictures with one subfolder for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from infer.core.errors import UserError
from infer.core.images import PictureError
from infer.core.progress import counted
from infer.data.decoder import Decoder
from infer.data.duplicates import label_conflicts
from infer.data.layout import Part, find_layout, first_few
from infer.data.levels import Levels, UnstatedRangeError, bits_of, range_notes
from infer.data.pictures import Pictures, Streamed
from infer.data.splits import Splits, known_duplicates, required_fraction
from infer.data.stored import StoredPictures, untested_note
from infer.data.stratified import stratified
from infer.data.walk import printable

_MAX_UNREADABLE = 0.01
"""A folder with a larger share of unreadable pictures is refused; a smaller share is skipped and listed."""

_SAMPLE = 64
"""Streamed pictures whose range of values is looked at."""

_DEPTHS = (8, 16, 32)
"""Bits that 32-bit values whose range is not stated may use; the fewest that hold all values of the folder count."""


def folder_splits(
    name: str,
    root: Path,
    decoder: Decoder,
    test_fraction: float | None,
    seed: int,
    stored: StoredPictures | None = None,
) -> Splits:
    """Read the pictures below ``root``, which :func:`find_layout` finds, and join them to those that are ``stored``.

    Where there is no test part, ``test_fraction`` of each class is taken for it, chosen by ``seed``, and
    near-duplicates stay together unless the pictures are streamed; those of stored pictures are trained on.

    Raises:
        UserError: if a part or a class has no readable picture, or more than 1 % of the pictures cannot be read.
    """
    layout = find_layout(root, stored.classes if stored else ())
    share = required_fraction(name, test_fraction) if "test" not in layout.parts else None
    readings = _read(layout.parts, decoder)
    parts = {part: reading.pictures(layout.classes) for part, reading in readings.items()}
    notes = (*layout.notes, *(note for own in readings.values() for note in own.notes()))
    levels = [levels for own in readings.values() for levels in own.outcomes if not isinstance(levels, PictureError)]
    notes += (*range_notes(levels, decoder.depth), *_conflict_notes(root, parts))
    test = parts.get("test", parts["train"])
    assumed = next((bits_of(each.full) for each in levels if each and each.source == "folder"), None)
    again = replace(decoder, depth=decoder.depth or assumed)
    splits = Splits(
        name, layout.classes, parts["train"], test, notes, validation=parts.get("validation"), decoder=again
    )
    splits = stored.join(splits) if stored else splits
    splits = _divided(splits, share, seed, stored) if share is not None else splits
    return replace(splits, notes=(*splits.notes, *untested_note(splits))) if stored else splits


@dataclass
class _Reading:
    """The files of one part, and what became of those that were decoded.

    Args:
        part: the files and their class numbers.
        decoder: of the files.
        images: decoded pictures, uint8 [N, ch, H, W]; None if they are streamed.
        outcomes: of every decoded file; of some, where the pictures are streamed.
    """

    part: Part
    decoder: Decoder
    images: Tensor | None
    outcomes: list[Levels | PictureError | None]

    @property
    def kept(self) -> Tensor:
        """Which files were decoded, bool [N]."""
        return torch.tensor([not isinstance(outcome, PictureError) for outcome in self.outcomes])

    def pictures(self, classes: Sequence[str]) -> Pictures | Streamed:
        """Return the readable pictures; refuse too many unreadable ones, and a class without any."""
        targets, bad = torch.tensor(self.part.targets), self._unreadable()
        if self.images is None:
            if len(bad) == len(self.outcomes):
                raise UserError(f"root={printable(self.part.root)}: no picture can be read: {first_few(bad)}")
            return Streamed(self.part.files, targets, self.decoder)
        if len(bad) > _MAX_UNREADABLE * len(targets):
            of = f"{len(bad)} of {len(targets)} pictures cannot be read"
            raise UserError(f"root={printable(self.part.root)}: {of}: {first_few(bad)}")
        found = set(targets[self.kept].tolist())
        if missing := [classes[number] for number in targets.unique().tolist() if number not in found]:
            raise UserError(
                f"root={printable(self.part.root)}: no readable picture of {first_few(missing)}: {first_few(bad)}"
            )
        whole = Pictures(self.images, targets, self.part.files)
        return whole.part(self.kept) if bad else whole

    def notes(self) -> list[str]:
        """Describe the skipped files."""
        bad = self._unreadable() if self.images is not None else []
        root, of = printable(self.part.root), f"{len(bad)} of {len(self.outcomes)} pictures"
        return [f"{of} in {root} skipped, unreadable: {first_few(bad)}"] if bad else []

    def _unreadable(self) -> list[str]:
        files = _sampled(self.part.files) if self.images is None else self.part.files
        outcomes = zip(files, self.outcomes, strict=True)
        return [f"{file} ({error})" for file, error in outcomes if isinstance(error, PictureError)]


def _read(parts: Mapping[str, Part], decoder: Decoder) -> dict[str, _Reading]:
    """Decode the files of each part, or a sample of those that are streamed."""
    readings = {}
    for name, part in parts.items():
        streams = decoder.streams(len(part.files))
        files = _sampled(part.files) if streams else part.files
        images = torch.empty(len(files), *decoder.shape, dtype=torch.uint8)
        readings[name] = _Reading(part, decoder, None if streams else images, decoder.decode_all(files, images))
    errors = [each for own in readings.values() for each in own.outcomes if isinstance(each, UnstatedRangeError)]
    if errors:
        top = max(error.maximum for error in errors)
        _read_unstated(readings, replace(decoder, depth=next(bits for bits in _DEPTHS if top < 2**bits)), errors[0])
    return readings


def _read_unstated(readings: Mapping[str, _Reading], decoder: Decoder, error: UnstatedRangeError) -> None:
    """Decode pictures whose range is not stated by one range for all of them; refuse to do so for streamed ones."""
    for reading in readings.values():
        waiting = [at for at, each in enumerate(reading.outcomes) if isinstance(each, UnstatedRangeError)]
        if waiting and reading.images is None:
            raise UserError(f"root={printable(reading.part.root)}: has streamed pictures of {error}")
        if waiting and reading.images is not None:
            files = [reading.part.files[at] for at in waiting]
            images = torch.empty(len(files), *decoder.shape, dtype=torch.uint8)
            for at, image, found in zip(waiting, images, decoder.decode_all(files, images), strict=True):
                reading.images[at] = image
                reading.outcomes[at] = found._replace(source="folder") if isinstance(found, Levels) else found


def _sampled(files: Sequence[Path]) -> list[Path]:
    """Return some files, evenly spaced."""
    return [files[at] for at in torch.linspace(0, len(files) - 1, min(len(files), _SAMPLE)).long().tolist()]


def _conflict_notes(root: Path, parts: Mapping[str, Pictures | Streamed]) -> list[str]:
    """Name equal pictures in different classes."""
    kept = [own for own in parts.values() if isinstance(own, Pictures)]
    conflicts = label_conflicts(kept)
    if not conflicts:
        return []
    files = [[file for file in own.files if file] for own in kept]
    pairs = [" and ".join(printable(files[part][at].relative_to(root)) for part, at in pair) for pair in conflicts]
    return [f"conflict of labels: {counted(len(pairs), 'picture')} in two classes, such as {'; '.join(pairs[:2])}"]


def _divided(whole: Splits, share: float, seed: int, stored: StoredPictures | None) -> Splits:
    """Move ``share`` of each class's train pictures, without those ``stored``, to the test split."""
    groups, pictures = known_duplicates(whole.train), torch.arange(len(whole.train))
    free = pictures if groups is None or stored is None else stored.free(whole, groups)
    _, test = stratified(
        whole.train.targets[free], share, seed, None if groups is None else groups[free], whole.classes
    )
    test = free[test]
    train = pictures[~torch.isin(pictures, test)]
    notes = (*whole.notes, *_duplicate_notes(groups, train, test))
    return replace(whole, train=whole.train.part(train), test=whole.train.part(test), notes=notes)


def _duplicate_notes(groups: Tensor | None, train: Tensor, test: Tensor) -> list[str]:
    """Describe the near-duplicates in a divided set."""
    if groups is None:
        return ["near-duplicates were not looked for: the pictures are streamed"]
    notes = []
    repeated = groups[groups.bincount()[groups] > 1]
    if len(repeated):
        sets = counted(len(repeated.unique()), "set")
        notes.append(
            f"{len(repeated)} pictures are near-duplicates of another, {sets} of them; a split keeps each together"
        )
    if divided := len(set(groups[train].tolist()) & set(groups[test].tolist())):
        sets = counted(divided, "set")
        notes.append(f"{sets} of near-duplicates had to be divided, because a class had nothing else")
    return notes
