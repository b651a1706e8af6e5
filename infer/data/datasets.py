"""Data sets by options: folders of pictures, torchvision's downloads, and scikit-learn's digits."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch

from infer.core.checks import check
from infer.core.errors import UserError, choices
from infer.core.paths import user_path
from infer.data.auto import resolved
from infer.data.decoder import Decoder
from infer.data.folder import folder_splits
from infer.data.options import DatasetOptions
from infer.data.pictures import Pictures
from infer.data.splits import Splits, required_fraction
from infer.data.stored import StoredPictures
from infer.data.stratified import stratified
from infer.data.walk import Walk

log = logging.getLogger("infer")


class Decoding(TypedDict, total=False):
    """How the files of a folder are decoded.

    Args:
        centre: keep the proportions and cut the middle square; otherwise pictures are resized to a square.
        stream: decode on request (True) or keep in memory (False); None does so up to half of the memory.
        background: colour behind transparent pixels, a name or ``#rrggbb``; white unless given.
        depth: bits that the pixel values use, as 12 in the 16-bit files of a camera; None: what each file states.
    """

    centre: bool
    stream: bool | None
    background: str
    depth: int | None


def read_folder(
    root: str | Path,
    image_size: int | str = 64,
    *,
    channels: int | str = 3,
    test_fraction: float | None = 0.2,
    seed: int = 0,
    name: str = "image_folder",
    **decoding: Unpack[Decoding],
) -> Splits:
    """Read a folder with ``train/<class>/`` and ``test/<class>/`` (or ``val/<class>/``), or with ``<class>/`` alone.

    PNG, JPEG, BMP, TIFF, WebP, GIF, PPM and AVIF files, of up to 67 million pixels, are turned upright and resized; of
    animations, the first frame is read. Colour profiles (ICC) are ignored. Hidden files, and those of systems, are not
    read; what else is left out or unreadable is listed in ``notes``. Parts may have their other usual names, in any
    case: training, testing, valid, validation.

    Args:
        root: the folder; ``~`` is the home folder.
        image_size: height and width of a picture in pixels, 4 to 1024; ``"auto"``: 32, 64 or 128, by the pictures.
        channels: 1 for grey, 3 for colour; ``"auto"`` is grey where every picture is.
        test_fraction: share of each class, 0.01 to 0.9, to test on where there is no test folder.
        seed: of the choice of these test pictures.
        name: of the data set.
        **decoding: ``centre``, ``stream``, ``background`` and ``depth``, as in :class:`Decoding`.

    Returns:
        The data set, with pictures uint8 [N, channels, image_size, image_size].

    Raises:
        UserError: if a value is out of range, a class has no picture, or over 1 % of the pictures cannot be read.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> noise = np.random.default_rng(0).integers(0, 256, (2, 10, 48, 64), dtype=np.uint8)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name, pictures in zip(("bolt", "nut"), noise):
        ...         Path(root, name).mkdir()
        ...         for index, picture in enumerate(pictures):
        ...             Image.fromarray(picture).save(Path(root, name, f"{index}.png"))
        ...     data = read_folder(root, image_size=32, channels=1)
        >>> data.classes, len(data.train), len(data.test), data.train.shape
        (['bolt', 'nut'], 16, 4, (1, 32, 32))
    """
    folder = user_path(root)
    options = DatasetOptions(name, root=str(folder), test_fraction=test_fraction, split_seed=seed)
    options = replace(options, image_size=image_size, channels=channels, **_known(decoding))
    check(options)
    return _source_splits(options)


def _known(decoding: Decoding) -> Decoding:
    """Return ``decoding``; raise :class:`UserError` for a keyword that is none of its keys."""
    for key, value in decoding.items():
        if key not in Decoding.__annotations__:
            raise choices(key, value, Decoding.__annotations__)
    return decoding


def read_dataset(options: DatasetOptions, stored: StoredPictures | None = None) -> Splits:
    """Read the data set of ``options`` and log its size.

    The last data set is kept: equal options return it again unless a file in its folder changed.

    Args:
        options: of the data set.
        stored: train pictures of an earlier file, to which those of a folder come.

    Returns:
        The data set, with the imbalance and the validation split that the options ask for.

    Raises:
        UserError: if an option is out of its range, the data cannot be read, or their shape is not the one of the
            options.
    """
    check(options, "dataset.")
    root = None if options.root is None else str(user_path(options.root))
    options = replace(options, root=root, data_dir=str(user_path(options.data_dir)))
    splits = _read(options, _folder_state(options.root), stored)
    for note in splits.notes:
        log.warning(note)
    log.info(
        "%s: %d train and %d test pictures, %d classes, %d x %d, %s",
        splits.name,
        len(splits.train),
        len(splits.test),
        len(splits.classes),
        splits.side,
        splits.side,
        "grey" if splits.channels == 1 else "colour",
    )
    return splits


def _folder_state(root: str | None) -> str:
    """Return a digest of the names, sizes and modification times of the files below ``root``."""
    digest = blake2b(digest_size=16)
    folder = Path(root or "")
    if root and folder.is_dir():
        for file in Walk(folder).files([folder])[0]:
            with suppress(OSError):  # it is gone since; reading says so
                status = file.stat()
                digest.update(os.fsencode(file) + f" {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _read(options: DatasetOptions, folder_state: str, stored: StoredPictures | None) -> Splits:
    """Read the data set of ``options``; ``folder_state`` is a part of the cache key."""
    try:
        splits = _source_splits(options, stored)
    except UserError as error:  # of an argument of read_folder, which is a key here
        raise UserError(
            f"dataset.{error}" if str(error).startswith(("root=", "test_fraction=")) else str(error)
        ) from error
    if options.mean is not None and options.std is not None:
        mean, std = (torch.tensor(values, dtype=torch.float32) for values in (options.mean, options.std))
        splits = replace(splits, given_moments=(mean, std))
    if options.imbalance is not None:
        splits = splits.long_tailed(options.imbalance, options.split_seed)
    if options.validation is not None:
        splits = splits.held_out(options.validation, options.split_seed)
    for key, found in (("channels", splits.channels), ("image_size", splits.side)):
        if getattr(options, key) not in (found, "auto"):
            raise UserError(
                f"dataset.{key}={getattr(options, key)}: the pictures of {options.name} have {found}; leave it, or "
                "give dataset.root=<folder of pictures>, which are converted"
            )
    return splits


def _source_splits(options: DatasetOptions, stored: StoredPictures | None = None) -> Splits:
    """Read the data as their source has them."""
    if options.root is not None:
        share, seed, decoder = options.test_fraction, options.split_seed, _decoder(resolved(options))
        return folder_splits(options.name, Path(options.root), decoder, share, seed, stored)
    if options.kind == "digits":
        return digits_splits(options.name, options.test_fraction, options.split_seed)
    return torchvision_splits(options.name, str(options.torchvision), Path(options.data_dir))


def _decoder(options: DatasetOptions) -> Decoder:
    """Return the decoder of ``options`` in which nothing is ``auto``."""
    assert isinstance(options.image_size, int)
    assert isinstance(options.channels, int)
    shape = options.image_size, options.channels, options.centre, options.stream
    return Decoder(*shape, options.background, options.depth)


def digits_splits(name: str, test_fraction: float | None, seed: int) -> Splits:
    """Load the 1,797 grey digits of scikit-learn, 8 x 8 pixels, with ``test_fraction`` of each class for the test."""
    from sklearn.datasets import load_digits

    share = required_fraction(name, test_fraction)
    bunch = load_digits()
    images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    targets = torch.from_numpy(bunch.target).long()
    train, test = stratified(targets, share, seed)
    whole = Pictures(images, targets)
    return Splits(name, [str(number) for number in range(10)], whole.part(train), whole.part(test))


def torchvision_splits(name: str, dataset: str, folder: Path) -> Splits:
    """Load a data set of torchvision, which is downloaded into ``folder`` if it is not there.

    Raises:
        UserError: if it can neither be read nor downloaded.
    """
    import torchvision

    parts = []
    try:
        for train in (True, False):
            parts.append(getattr(torchvision.datasets, dataset)(folder, train=train, download=True))
    except Exception as error:  # torchvision raises the errors of urllib, tarfile, zlib and its own checks
        raise UserError(
            f"dataset={name}: {dataset} is not in {folder} and could not be downloaded ({error}); put the archive "
            f"that torchvision.datasets.{dataset} names there, or pass dataset.root=<folder with train/<class>/ and "
            "test/<class>/ pictures>"
        ) from error
    splits = []
    for part in parts:
        images = torch.as_tensor(part.data)
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
        splits.append(Pictures(images, torch.as_tensor(part.targets).long()))
    return Splits(name, [str(c) for c in parts[0].classes], splits[0], splits[1])
