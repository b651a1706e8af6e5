"""The command infer-predict: classify the pictures of a folder with a student of a run, or write it as ONNX."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from infer.core.errors import UserError
from infer.core.extras import missing_extra

if TYPE_CHECKING:
    from infer.training.student_file import StoredStudent

_DESCRIPTION = """\
Classify the pictures of a folder with a student of a run, and write a table as CSV: the class of each picture, whether
it is unsure, and the probability of each class. Files that cannot be read are in it too, with the reason.
"""

_EXAMPLES = """\
examples:
  infer-predict outputs/distill/parts/infer_plus-ipc2/seed0/students/convnet_narrow-distilled/seed0 new --output new.csv
  infer-predict outputs/train/parts/convnet_narrow/real-seed0 --onnx parts.onnx
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are those of all commands: one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help explains the command")


def main() -> None:
    """Run the command; a user's mistake prints one line and exits with 2."""
    try:
        _run(_parser().parse_args())
    except UserError as error:
        _fail(str(error), 2)
    except ModuleNotFoundError as error:
        missing = missing_extra(error, "infer-predict")
        if missing is None:
            raise
        _fail(str(missing), 2)
    except KeyboardInterrupt:
        _fail("interrupted; no table was written", 130)
    except BrokenPipeError:  # the program that reads the table has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for the flush at the exit
        raise SystemExit(128 + signal.SIGPIPE) from None


def _fail(line: str, status: int) -> NoReturn:
    """Print the line and exit."""
    print(f"error: {' '.join(line.splitlines())}", file=sys.stderr)
    raise SystemExit(status)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "infer-predict",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("student", help="folder of a student, or its student.safetensors")
    parser.add_argument("folder", nargs="?", help="folder of pictures, which may have folders in it")
    parser.add_argument("--output", metavar="FILE", help="file for the table; without it, the table is printed")
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="flag pictures whose largest probability is below P, 0 to 1, in place of the student's own threshold, "
        "above which 95 %% of held-out pictures were right",
    )
    parser.add_argument("--onnx", metavar="FILE", help="write the student as an ONNX file (extra [onnx])")
    return parser


def _run(words: argparse.Namespace) -> None:
    if words.folder is None and words.onnx is None:
        raise UserError("folder: is missing; give a folder of pictures to classify, or --onnx=FILE")
    if words.folder is None and (words.output is not None or words.threshold is not None):
        raise UserError("folder: is missing; --output and --threshold are for a folder of pictures")
    if words.threshold is not None and not 0 <= words.threshold <= 1:
        raise UserError(f"--threshold={words.threshold}: must lie between 0 and 1")
    # torch is imported late, so that --help and mistakes answer at once.
    from infer.training.student_file import read_student

    student = read_student(words.student)
    if words.onnx is not None:
        from infer.models.onnx import export_onnx

        export_onnx(student.network, words.onnx, centre=student.card.decoder.centre)
        print(f"written: {words.onnx}", file=sys.stderr)
    if words.folder is not None:
        _classify(student, words)


def _classify(student: StoredStudent, words: argparse.Namespace) -> None:
    """Write the table of a folder's pictures, and say on stderr what is in it."""
    from infer.core.files import write_bytes
    from infer.core.paths import user_path
    from infer.core.progress import reporting
    from infer.training.options import TrainerOptions
    from infer.training.prediction import find_pictures, predict, prediction_table

    card, found = student.card, find_pictures(words.folder)
    threshold = card.threshold if words.threshold is None else words.threshold
    logging.getLogger("infer").addHandler(logging.StreamHandler())  # to stderr: stdout is for the table
    with reporting(True):
        predictions = predict(student, found.pictures, TrainerOptions().device)
        table, counts = prediction_table(predictions, card.classes, found.root, threshold)
    content = table.encode("utf-8", "backslashreplace")
    if words.output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        write_bytes(user_path(words.output), content)
    below = "the student has no threshold" if threshold is None else f"largest probability below {threshold:.3g}"
    print(
        f"{counts.classified} classified, {counts.unsure} of them unsure ({below}); "
        f"{counts.unreadable} cannot be read; {found.others} left out, which are no pictures",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
