"""Compressed sheets of tiles, compared with Pillow and loops."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from infer.core import codec


def gradients(count: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Images that a codec keeps: a gradient each, of its own brightness and colour."""
    levels = torch.linspace(40, 200, count).view(-1, 1, 1, 1) + torch.arange(channels).view(1, -1, 1, 1) * 15
    return (levels + torch.linspace(-20, 20, width)).expand(-1, -1, height, -1).round().to(torch.uint8)


def cut_by_hand(sheet: bytes, count: int, height: int, width: int) -> list[np.ndarray]:
    """The tiles of a sheet by Pillow's crop, row after row."""
    picture = Image.open(io.BytesIO(sheet))
    tiles = []
    for top in range(0, picture.height, height):
        for left in range(0, picture.width, width):
            tiles.append(np.array(picture.crop((left, top, left + width, top + height))))
    return tiles[:count]


@pytest.mark.parametrize("name", codec.CODECS)
@pytest.mark.parametrize(("count", "shape"), [(1, (3, 32, 32)), (7, (1, 8, 8)), (12, (3, 16, 24))])
def test_tiles_keep_their_order(name, count, shape):
    images = gradients(count, *shape)
    sheets = codec.encode(images, name, 95)
    assert len(sheets) == 1
    decoded = codec.decode(sheets, count, shape)
    assert decoded.shape == images.shape
    assert decoded.dtype == torch.uint8
    assert (decoded.int() - images.int()).abs().float().mean() < 4
    assert torch.equal(decoded, codec.decode(sheets, count, shape))


@pytest.mark.parametrize("name", codec.CODECS)
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_compressed_at_the_highest_quality(name, channels):
    """Its file is larger than its pixels: more than Pillow's own buffer for an optimised JPEG."""
    buffer = ImageFile.MAXBLOCK
    images = torch.randint(256, (20, channels, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    decoded = codec.decode(codec.encode(images, name, 100), 20, (channels, 64, 64))
    assert decoded.shape == images.shape
    if name == "jpeg":
        assert (decoded.int() - images.int()).abs().float().mean() < 2
    assert buffer == ImageFile.MAXBLOCK


@pytest.mark.parametrize("name", codec.CODECS)
def test_decoding_equals_crops_of_the_sheet(name):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (11, 3, 8, 12), generator=generator, dtype=torch.uint8)
    sheets = codec.encode(images, name, 80)
    decoded = codec.decode(sheets, 11, (3, 8, 12))
    for tile, expected in zip(decoded, cut_by_hand(sheets[0], 11, 8, 12), strict=True):
        assert np.array_equal(tile.permute(1, 2, 0).numpy(), expected)


def sheet_of_pillow(tiles: np.ndarray, columns: int, **options) -> bytes:
    """A sheet that Pillow writes after pasting the tiles [N, H, W, 3] one by one."""
    count, height, width, _ = tiles.shape
    rows = -(-count // columns)
    picture = Image.new("RGB", (columns * width, rows * height))
    for number in range(count):
        picture.paste(Image.fromarray(tiles[number]), (number % columns * width, number // columns * height))
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return buffer.getvalue()


def test_a_lossless_sheet_of_another_writer_is_read_to_the_bit():
    tiles = np.random.default_rng(0).integers(256, size=(7, 6, 10, 3), dtype=np.uint8)
    sheet = sheet_of_pillow(tiles, columns=3, format="WEBP", lossless=True)
    decoded = codec.decode([sheet], 7, (3, 6, 10))
    assert np.array_equal(decoded.permute(0, 2, 3, 1).numpy(), tiles)


def test_an_avif_sheet_of_another_writer_is_read():
    images = gradients(7, 3, 16, 16)
    sheet = sheet_of_pillow(images.permute(0, 2, 3, 1).numpy(), columns=3, format="AVIF", quality=95)
    decoded = codec.decode([sheet], 7, (3, 16, 16))
    assert (decoded.int() - images.int()).abs().float().mean() < 4


def test_higher_quality_takes_more_bytes():
    torch.manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(64, 3, 4, 4), scale_factor=8, mode="bicubic").clamp(0, 1)
    images = (images * 255).to(torch.uint8)
    sizes, losses = [], []
    for quality in (20, 50, 90):
        sheets = codec.encode(images, "avif", quality)
        sizes.append(sum(map(len, sheets)))
        losses.append((codec.decode(sheets, 64, (3, 32, 32)).int() - images.int()).abs().float().mean())
    assert sizes == sorted(sizes)
    assert losses == sorted(losses, reverse=True)
    assert sizes[-1] < images.numel() / 4


@pytest.mark.parametrize("name", ["avif", "jpeg"])
def test_half_of_the_colours_takes_fewer_bytes_and_loses_colours_only(name):
    torch.manual_seed(0)
    images = torch.randint(256, (64, 3, 16, 16), dtype=torch.uint8)
    full, half = (codec.encode(images, name, 80, subsampling=kind) for kind in ("4:4:4", "4:2:0"))
    assert sum(map(len, half)) < 0.8 * sum(map(len, full))
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    differences = [codec.decode(sheets, 64, (3, 16, 16)).float() - images.float() for sheets in (full, half)]
    of_full, of_half = ((part * luma).sum(dim=1).abs().mean() for part in differences)
    assert of_half < 2 * of_full
    assert differences[1].abs().mean() > 2 * differences[0].abs().mean()


def test_a_slow_encoder_is_nearer_to_the_images_for_its_bytes():
    torch.manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(256, 3, 8, 8), scale_factor=4, mode="bicubic").clamp(0, 1)
    images = (images * 255).to(torch.uint8)
    costs = []
    for speed in (4, 10):
        sheets = codec.encode(images, "avif", 40, speed=speed)
        error = (codec.decode(sheets, 256, (3, 32, 32)).float() - images.float()).square().mean()
        costs.append(float(sum(map(len, sheets)) * error))
    assert costs[0] < 0.9 * costs[1]


def test_many_or_large_images_take_several_sheets(monkeypatch):
    monkeypatch.setattr(codec, "_SIDE", 32)
    images = gradients(10, 3, 16, 16)
    sheets = codec.encode(images, "webp", 95)
    assert len(sheets) == 3  # four tiles each
    assert (codec.decode(sheets, 10, (3, 16, 16)).int() - images.int()).abs().float().mean() < 4


def test_damaged_sheets_are_refused():
    sheets = codec.encode(gradients(4, 3, 16, 16), "jpeg", 90)
    with pytest.raises(ValueError, match="sheet 0"):
        codec.decode(sheets, 9, (3, 16, 16))
    with pytest.raises(ValueError, match="2 sheets for 4 images, 1 expected"):
        codec.decode([*sheets, *sheets], 4, (3, 16, 16))
    with pytest.raises(ValueError, match="sheet 0: not a picture"):
        codec.decode([b"nothing"], 4, (3, 16, 16))


@pytest.mark.parametrize("format", ["PNG", "EPS", "GIF", "TIFF"])
def test_only_the_codecs_of_the_format_are_read(format, monkeypatch):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, format)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="sheet 0: not a picture of a known format"):
        codec.decode([buffer.getvalue()], 4, (3, 16, 16))


@pytest.mark.parametrize("name", codec.CODECS)
def test_every_damage_of_a_sheet_is_a_value_error(name):
    """The decoders raise OSError, SyntaxError, RuntimeError and others."""
    sheet = codec.encode(gradients(4, 3, 16, 16), name, 80)[0]
    messages = []
    for position in range(len(sheet)):
        damaged = bytearray(sheet)
        damaged[position] ^= 0xFF
        try:
            assert codec.decode([bytes(damaged)], 4, (3, 16, 16)).shape == (4, 3, 16, 16)
        except ValueError as error:
            messages.append(str(error))
    assert messages
    assert all(message.startswith("sheet 0: ") for message in messages)


def test_the_number_of_sheets_fits_the_images(monkeypatch):
    monkeypatch.setattr(codec, "_SIDE", 32)
    assert [codec.sheet_count(count, (16, 16)) for count in (1, 4, 5, 8)] == [1, 1, 2, 2]
    sheets = codec.encode(gradients(8, 3, 16, 16), "webp", 80)
    for wrong in (sheets[:1], [*sheets, sheets[0]]):
        with pytest.raises(ValueError, match="sheets for 8 images, 2 expected"):
            codec.decode(wrong, 8, (3, 16, 16))
