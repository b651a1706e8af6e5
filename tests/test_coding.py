"""Sheets of tiles under a codec."""

import pytest
import torch

from infer.core import codec as coding


def smooth(count: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Pictures that a codec can keep: a gradient each, of its own brightness and colour."""
    levels = torch.linspace(40, 200, count).view(-1, 1, 1, 1) + torch.arange(channels).view(1, -1, 1, 1) * 15
    return (levels + torch.linspace(-20, 20, width)).expand(-1, -1, height, -1).round().to(torch.uint8)


@pytest.mark.parametrize("codec", coding.CODECS)
@pytest.mark.parametrize(("count", "shape"), [(1, (3, 32, 32)), (7, (1, 8, 8)), (12, (3, 16, 24))])
def test_tiles_come_back_in_their_order(codec, count, shape):
    images = smooth(count, *shape)
    sheets = coding.encode(images, codec, 95)
    assert len(sheets) == 1
    back = coding.decode(sheets, count, shape)
    assert back.shape == images.shape
    assert back.dtype == torch.uint8
    assert (back.int() - images.int()).abs().float().mean() < 4
    assert torch.equal(back, coding.decode(sheets, count, shape))  # what is labelled is what a reader sees


def test_quality_buys_bytes():
    torch.manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(64, 3, 4, 4), scale_factor=8, mode="bicubic").clamp(0, 1)
    images = (images * 255).to(torch.uint8)
    sizes, losses = [], []
    for quality in (20, 50, 90):
        sheets = coding.encode(images, "avif", quality)
        sizes.append(sum(map(len, sheets)))
        losses.append((coding.decode(sheets, 64, (3, 32, 32)).int() - images.int()).abs().float().mean())
    assert sizes == sorted(sizes)
    assert losses == sorted(losses, reverse=True)
    assert sizes[-1] < images.numel() / 4


def test_many_or_large_pictures_take_several_sheets(monkeypatch):
    monkeypatch.setattr(coding, "_SIDE", 32)
    images = smooth(10, 3, 16, 16)
    sheets = coding.encode(images, "webp", 95)
    assert len(sheets) == 3  # four tiles each
    assert (coding.decode(sheets, 10, (3, 16, 16)).int() - images.int()).abs().float().mean() < 4


def test_a_sheet_of_another_size_is_refused():
    sheets = coding.encode(smooth(4, 3, 16, 16), "jpeg", 90)
    with pytest.raises(ValueError, match="sheet 0"):
        coding.decode(sheets, 9, (3, 16, 16))
    with pytest.raises(OSError, match="identify"):
        coding.decode([b"nothing"], 4, (3, 16, 16))
