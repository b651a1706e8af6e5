"""Decoding of picture files of any mode into one shape."""

import numpy as np
import pytest
import torch
from PIL import Image

from infer.core.images import PictureError
from infer.data.decoder import Decoder


def decoded(file, side=8, channels=3):
    out = torch.zeros(channels, side, side, dtype=torch.uint8)
    Decoder(side, channels).decode(file, out)
    return out


def test_sixteen_bit_grey_is_scaled(tmp_path):
    Image.fromarray(np.full((8, 8), 257 * 100, np.uint16)).save(tmp_path / "deep.png")
    assert decoded(tmp_path / "deep.png").unique().tolist() == [100]


def test_pictures_are_turned_by_their_exif_orientation(tmp_path):
    turned = np.zeros((8, 8, 3), np.uint8)
    turned[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(turned).save(tmp_path / "turned.png", exif=exif)
    image = decoded(tmp_path / "turned.png")
    assert image[:, 0].max() == 0
    assert image[:, 7].min() == 255


def test_a_picture_of_floats_is_unreadable_and_not_black(tmp_path):
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "float.tiff")
    out = torch.full((1, 8, 8), 7, dtype=torch.uint8)
    with pytest.raises(PictureError, match="floating-point values without a stated range"):
        Decoder(8, 1).decode(tmp_path / "float.tiff", out)
    assert out.unique().tolist() == [7]


def test_sets_larger_than_half_the_memory_are_streamed():
    assert not Decoder(16, 3).streams(1000)
    assert Decoder(4096, 3).streams(10**6)


@pytest.mark.parametrize("stream", [True, None])
def test_the_identity_of_a_decoder_is_that_of_earlier_versions(stream):
    """Fingerprints of streamed pictures, and so the names of stored results, contain it."""
    expected = f"Layout(side=16, channels=3, centre=False, stream={stream})".encode()
    assert Decoder(16, 3, stream=stream).identity == expected
    others = {Decoder(16, 3, stream=stream, **more).identity for more in ({"background": "black"}, {"depth": 12})}
    assert len(others | {expected}) == 3
