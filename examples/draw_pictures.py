"""Draw a folder of pictures to try the commands on: four shapes in any colour, size, place and rotation.

    python examples/draw_pictures.py parts

writes parts/<class>/<number>.png, 120 pictures of 32 x 32 pixels for each of four classes. The same seed draws the same
pictures. They are made here, so anyone may use them for anything.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CORNERS = {"triangle": 3, "square": 4, "star": 10, "disc": 24}
SCALE = 4  # shapes are drawn larger, then reduced, so that their edges are smooth


def outline(name: str, draw: np.random.Generator, side: int) -> list[tuple[float, float]]:
    """Return the corners of a shape of random size, place and rotation, (x, y) in pixels."""
    centre, radius, turn = draw.uniform(0.38, 0.62, 2) * side, draw.uniform(0.2, 0.36) * side, draw.uniform(0, math.tau)
    corners = []
    for corner in range(CORNERS[name]):
        angle = turn + math.tau * corner / CORNERS[name]
        length = radius * (0.45 if name == "star" and corner % 2 else 1)
        corners.append((centre[0] + length * math.cos(angle), centre[1] + length * math.sin(angle)))
    return corners


def picture(name: str, draw: np.random.Generator, side: int = 32) -> Image.Image:
    """Draw one RGB picture of ``side`` x ``side`` pixels: a shape on a shaded background, with a little noise."""
    shape, ground = (tuple(int(level) for level in draw.integers(*span, 3)) for span in ((140, 256), (0, 120)))
    canvas = Image.new("RGB", (SCALE * side, SCALE * side), ground)
    ImageDraw.Draw(canvas).polygon(outline(name, draw, SCALE * side), fill=shape)
    levels = np.asarray(canvas.filter(ImageFilter.BoxBlur(1)).resize((side, side), Image.Resampling.BOX), dtype=float)
    shade = np.linspace(-1, 1, side)[:, None, None] * draw.uniform(-30, 30)
    noisy = levels + shade + draw.normal(0, 8, levels.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to write to")
    parser.add_argument("--pictures", type=int, default=120, help="pictures of each class; default: 120")
    options = parser.parse_args()
    draw = np.random.default_rng(0)
    for name in sorted(CORNERS):
        (options.folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(options.pictures):
            picture(name, draw).save(options.folder / name / f"{number:03}.png")
    print(f"{options.folder}: {options.pictures} pictures of each of {', '.join(sorted(CORNERS))}")


if __name__ == "__main__":
    main()
