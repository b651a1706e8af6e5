"""Make docs/images/idea.png, the picture of the method: python docs/images/make_idea.py

It distils drawn pictures (examples/draw_pictures.py) and shows the first round of the file: a natural image of each
class, one compensator, and the images that reading composes of them.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import infer

HERE = Path(__file__).parent
SIZE, GAP, LINE = 96, 10, 26  # pixels of a picture, between pictures, and of a line of text


def distilled(pictures: int, epochs: int, steps: int) -> infer.DistilledSet:
    """Distil drawn pictures, ``pictures`` of each class, with one teacher."""
    with tempfile.TemporaryDirectory() as folder:
        script = HERE.parents[1] / "examples" / "draw_pictures.py"
        subprocess.run([sys.executable, script, folder, "--pictures", str(pictures)], check=True, capture_output=True)
        data = infer.read_folder(folder, image_size=32)
    recipe = infer.TeacherOptions(epochs=epochs, batch=64, optimizer="nesterov", schedule="one_cycle")
    teachers = infer.train_teachers(data, ["convnet_narrow"], options=recipe)
    options = infer.SetOptions.of_method("infer", ufc=infer.UFCOptions(steps=steps))
    return infer.distill(data, teachers, ipc=2, options=options)


def enlarged(image: np.ndarray) -> Image.Image:
    """Return ``image`` uint8 [3, H, W] as SIZE x SIZE pixels; each pixel stays a square."""
    return Image.fromarray(image.transpose(1, 2, 0)).resize((SIZE, SIZE), Image.Resampling.NEAREST)


def drawn(small: infer.DistilledSet) -> Image.Image:
    """Draw the compensator on the left; beside it the naturals and, below them, the composed images."""
    count, first = len(small.classes), len(small.naturals)
    levels = small.header.step * small.compensators[0].numpy().astype(np.int16)
    compensator = (128 + levels // 2).clip(0, 255).astype(np.uint8)
    rows = {
        "stored: one natural image of each class": small.naturals[:count].numpy(),
        "composed on reading: each natural + the same compensator": small[first : first + count][0].numpy(),
    }
    step, height, left = SIZE + GAP, LINE + SIZE + GAP, SIZE + 6 * GAP
    canvas = Image.new("RGB", (left + count * step, len(rows) * height), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=15)
    for row, (title, images) in enumerate(rows.items()):
        pen.text((left, row * height + 4), title, "black", font)
        for column, image in enumerate(images):
            canvas.paste(enlarged(image), (left + column * step, row * height + LINE))
    top = (canvas.height - SIZE) // 2
    pen.multiline_text((GAP, top - 40), "stored: one\ncompensator", "black", font)
    canvas.paste(enlarged(compensator), (GAP, top))
    return canvas


def main() -> None:
    """Distil, draw and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=HERE / "idea.png", help="file to write")
    parser.add_argument("--pictures", type=int, default=120, help="drawn pictures of each class")
    parser.add_argument("--epochs", type=int, default=60, help="passes of the teacher over them")
    parser.add_argument("--steps", type=int, default=500, help="steps of the compensator")
    options = parser.parse_args()
    drawn(distilled(options.pictures, options.epochs, options.steps)).save(options.to, optimize=True)


if __name__ == "__main__":
    main()
