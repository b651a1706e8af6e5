"""The door for pictures: which formats come in, how large, and what is said of the others."""

import io
import os
import subprocess

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from infer import UserError
from infer.core.images import MAX_PIXELS, PICTURE_FORMATS, PictureError, file_format, open_image

UNKNOWN = r"^not a picture of a known format$"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def content(kind, size=(8, 6), **options):
    buffer = io.BytesIO()
    Image.new("RGB", size, (90, 90, 90)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", PICTURE_FORMATS)
def test_every_listed_format_is_opened_from_a_file_and_from_bytes(kind, tmp_path):
    file = tmp_path / "picture"
    file.write_bytes(content(kind))
    for source in (file, file.read_bytes()):
        with open_image(source) as picture:
            assert picture.format == kind
            assert picture.size == (8, 6)
            assert np.abs(np.asarray(picture.convert("L")).astype(int) - 90).max() <= 1
    assert file_format(file) == kind


def test_only_the_asked_formats_are_opened():
    with pytest.raises(PictureError, match=UNKNOWN), open_image(content("PNG"), ["WEBP"]):
        pass
    with open_image(content("WEBP"), ["AVIF", "WEBP", "JPEG"]) as picture:
        assert picture.format == "WEBP"


def test_no_other_decoder_of_pillow_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was run"))
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("a program was run"))
    Image.init()
    others = {"EPS": EPS}
    for kind in sorted(set(Image.SAVE) & {"ICO", "TGA", "PCX", "SGI", "JPEG2000", "ICNS", "PDF", "DDS", "QOI"}):
        others[kind] = content(kind, (16, 16))
    for kind, held in others.items():
        (tmp_path / "x.png").write_bytes(held)
        assert file_format(tmp_path / "x.png") is None, kind
        for source in (tmp_path / "x.png", held):
            with pytest.raises(PictureError, match=UNKNOWN), open_image(source) as picture:
                picture.load()


@pytest.mark.parametrize(
    "text", [b"BMW and other makers, in a list that is quite long", b"P1 is the first prize", b"Python", b"II", b"GIF"]
)
def test_text_is_no_picture(text):
    with pytest.raises(PictureError, match=UNKNOWN), open_image(text):
        pass


def test_pixels_are_counted_before_they_are_decoded():
    assert MAX_PIXELS == 8192 * 8192
    with pytest.raises(PictureError, match=r"^8 x 6 pixels, more than 47$"), open_image(content("PNG"), max_pixels=47):
        pass
    with open_image(content("PNG"), max_pixels=48) as picture:
        picture.load()
    large = content("JPEG", (160, 120))
    with open_image(large, max_pixels=300, draft=(16, 12)) as picture:
        assert picture.size == (20, 15)
    with (
        pytest.raises(PictureError, match="160 x 120 pixels, more than 300"),
        open_image(content("JPEG", (160, 120), progressive=True), max_pixels=300, draft=(16, 12)),
    ):
        pass


@pytest.mark.parametrize("limit", ["error", "warning"])
def test_a_size_that_pillow_refuses_is_a_reason_too(limit, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20 if limit == "error" else 40)
    reason = r"^Image size \(48 pixels\) exceeds limit of 40 pixels$"
    with pytest.raises(PictureError, match=reason), open_image(content("PNG")):
        pass


@pytest.mark.parametrize("kind", PICTURE_FORMATS)
def test_damage_is_a_reason_in_one_line_wherever_it_is(kind):
    whole = content(kind, (64, 64))
    draw, reasons = np.random.default_rng(0), []
    for _ in range(60):
        damaged = bytearray(whole[: draw.integers(1, len(whole) + 1)])
        for place in draw.integers(0, len(damaged), 3):
            damaged[place] ^= 1 << draw.integers(8)
        try:
            with open_image(bytes(damaged), max_pixels=2**20) as picture:
                picture.load()
        except PictureError as error:
            reasons.append(str(error))
    assert reasons
    assert all(0 < len(reason) < 150 and "\n" not in reason for reason in reasons)


def test_errors_in_the_block_are_reasons_but_those_of_the_user_and_of_memory_pass():
    for error, passes in ((SystemError("tile"), False), (UserError("x=1: no"), True), (MemoryError(), True)):
        with pytest.raises(type(error) if passes else PictureError), open_image(content("PNG")):
            raise error


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path, reason in ((tmp_path / "pipe.png", "not a regular file"), (tmp_path, "not a regular file")):
        with pytest.raises(PictureError, match=reason), open_image(path):
            pass
    with pytest.raises(PictureError, match="No such file"), open_image(tmp_path / "gone"):
        pass


def test_no_room_opens_pictures_past_the_door():
    code = {path: path.read_text() for path in (ROOT / "infer").rglob("*.py")}
    opening = [path.name for path, text in code.items() if "Image.open(" in text]
    assert opening == ["images.py"]
