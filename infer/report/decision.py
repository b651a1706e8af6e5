"""The decision: what the distilled file costs in accuracy, storage and training time, and what to do next."""

from __future__ import annotations

import math
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from infer.report.curve import command_at
from infer.report.decisions import LEVEL
from infer.report.file_facts import is_random_draw, origin_by

SMALL = 0.5
"""A file below this share of the training images' bytes under the same codec leaves room for a larger one."""

_ROUNDING = 1e-6
"""Accuracies that differ by less are equal."""


def reported_rows(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the rows of the report's student, by source."""
    student = result["evidence"]["student"]
    return {row["source"]: row for row in reversed(result["students"]) if row["backbone"] == student}


def decision(result: Mapping[str, Any], tolerance: float) -> dict[str, Any]:
    """Answer what a file costs, and advise what to do next.

    Args:
        result: The content of result.json, with ``evidence`` and ``data``.
        tolerance: Acceptable loss of accuracy, 0 to 1.

    Returns:
        ``accuracy``: what is ``lost`` against all images and ``gained`` over random images of the same bytes (0 to 1),
        each with its interval, ``low`` and ``high``; whether the students have ``hard_labels``; and ``classes``, see
        :func:`loss_of_classes`. ``storage`` in bytes: of the ``file``, of the training images' files in their
        ``folder`` (None where they have none), of the images ``coded`` as the file's; and how many times smaller the
        file is. ``time``: see :func:`time_to_same_accuracy`. ``advice``: see :func:`advise`.
    """
    lost, gained = (result["evidence"][key] for key in ("loss", "against_random"))
    file, coded, folder = result["bytes"]["file"], result["evidence"]["real_coded"], result["data"]["folder_bytes"]
    found = {
        "accuracy": {
            "lost": lost["points"],
            "low": lost["low"],
            "high": lost["high"],
            "gained": {"points": gained["points"], "low": gained["low"], "high": gained["high"]},
            "hard_labels": _has_hard_labels(result),
            "classes": loss_of_classes(result),
        },
        "storage": {
            "file": file,
            "folder": folder,
            "coded": coded,
            "times_smaller_folder": None if folder is None else folder / file,
            "times_smaller_coded": coded / file,
        },
        "time": time_to_same_accuracy(result),
    }
    return {**found, "advice": advise(result, found, tolerance)}


def loss_of_classes(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Estimate what students lose on about as many images as the file stores, labelled with their classes alone.

    They are those of random images in the learning curve: of the most images that are no more than the file's, else of
    the fewest. Half widths of the two intervals are added in quadrature.

    Args:
        result: The content of result.json.

    Returns:
        The loss ``points`` against all images (-1 to 1), the ends of its interval, ``low`` and ``high``, and the number
        of ``pictures``; None where the curve has no such students, or those of the file have hard labels themselves.
    """
    if _has_hard_labels(result):
        return None
    curve, stored = result.get("curve", []), result["evidence"]["privacy"]["naturals"]
    points = sorted((each for each in curve if each["source"] == "random_hard"), key=lambda each: each["pictures"])
    if not points:
        return None
    real = next(each for each in curve if each["source"] == "real")
    found = ([each for each in points if each["pictures"] <= stored] or points[:1])[-1]
    lost = real["accuracy"] - found["accuracy"]
    below = math.hypot(real["accuracy"] - real["low"], found["high"] - found["accuracy"])
    above = math.hypot(real["high"] - real["accuracy"], found["accuracy"] - found["low"])
    return {"points": lost, "low": lost - below, "high": lost + above, "pictures": found["pictures"]}


def _has_hard_labels(result: Mapping[str, Any]) -> bool:
    """Return whether the report's students learn from the classes of images alone; see the pretrained ones."""
    return bool(result["evidence"].get("hard_labels", result["labels"] == "hard"))


def time_to_same_accuracy(result: Mapping[str, Any]) -> dict[str, Any]:
    """Compute the seconds after which students of all images are as accurate as those of the file are at their end.

    The accuracies are those measured in the training, at the same images for both. The rate of an optimiser falls until
    the last step, so a training that is planned for fewer steps would reach the accuracy earlier: the seconds are an
    upper bound.

    Args:
        result: The content of result.json.

    Returns:
        ``file``: the mean seconds of a student of the file. ``real``: those of a student of all images to the
        measurement from which on it is as accurate; None where one of them is not, or nothing was measured. ``low`` and
        ``high``: its interval over the students, with Student's t; None for one student. ``reached`` of ``students``:
        how many students of all images get there; ``reached`` is None where nothing was measured. ``pictures``: that
        the accuracies were measured on, ``validation``: whether they are validation images, and no test images.
    """
    rows = reported_rows(result)
    file, real = rows["distilled"], rows["real"]
    found = {
        "file": file["seconds"] / file["seeds"],
        **dict.fromkeys(("real", "low", "high", "reached", "pictures")),
        "students": real["seeds"],
        "validation": result["data"]["validation"] is not None,
    }
    ends, timelines = ([*row.get("timelines", [])] for row in (file, real))
    if not ends or not timelines:
        return found
    key = "balanced_accuracy" if result["evidence"]["loss"]["balanced"] else "accuracy"
    target = statistics.fmean(timeline[-1][key] for timeline in ends)
    first = [_reached(timeline, key, target - _ROUNDING) for timeline in timelines]
    reached = [seconds for seconds in first if seconds is not None]
    found |= {"reached": len(reached), "pictures": timelines[0][-1]["pictures"]}
    if len(reached) < len(first):
        return found
    return found | {"real": statistics.fmean(reached)} | _interval(reached)


def _reached(timeline: Sequence[Mapping[str, Any]], key: str, target: float) -> float | None:
    """Return the seconds of the measurement from which on all are above ``target``; None where the last is not."""
    found = None
    for at in reversed(timeline):
        if at[key] <= target:
            break
        found = at["seconds"]
    return found


def _interval(seconds: Sequence[float]) -> dict[str, float]:
    """Return the ends of the interval of a mean; nothing for one number."""
    if (count := len(seconds)) < 2:
        return {}
    mean, error = statistics.fmean(seconds), statistics.stdev(seconds) / math.sqrt(count)
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error
    return {"low": max(0.0, mean - half), "high": mean + half}


def advise(result: Mapping[str, Any], found: Mapping[str, Any], tolerance: float) -> dict[str, Any]:
    """Advise what to do next, by the first of these rules that applies.

    ``keep``: All images take no more bytes than the file, in their folder or under the file's codec. ``use``: The loss
    is within the tolerance with its whole interval, and the file is better than random images of the same bytes with
    its whole interval. Where random images are not shown to do worse, there are three: ``others``: The method creates
    its images, so random ones are trained on instead. ``labels``: The file is used for its soft labels, as about as
    many random images with their classes alone are not shown to be within the tolerance with their whole interval.
    ``pictures``: The stored images are enough.

    ``unsure``: The loss is within the tolerance, its interval is not: more students tell more, in a run with a time
    twice of it. ``larger``: The file has less than half of the
    bytes of all images under its codec, and so has the largest file of the learning curve. ``decline``: None of these.

    Args:
        result: The content of result.json.
        found: The answers of :func:`decision`.
        tolerance: Acceptable loss of accuracy, 0 to 1.

    Returns:
        ``choice``, the rule; ``command``, to run next, or None; ``bytes``: of the larger file, or None.
    """
    accuracy, storage = found["accuracy"], found["storage"]
    file, coded = storage["file"], storage["coded"]
    tried = [point["budget"] for point in result.get("curve", []) if point["source"] == "distilled"]
    largest = max(file, *tried) if tried else file
    if min(coded, storage["folder"] or coded) <= file:
        return _advice("keep")
    if accuracy["high"] <= tolerance:
        classify = shlex.join(["infer-predict", _student(result), "FOLDER"])
        if accuracy["gained"]["low"] > 0 and not is_random_draw(result):
            return _advice("use", classify)
        if origin_by(result["method"]) != "real":
            words = [word for word in _without(result["command"], "method=") if not word.startswith("method.options.")]
            return _advice("others", shlex.join([*words, "method=random"]))
        if accuracy["classes"] and accuracy["classes"]["high"] > tolerance:
            return _advice("labels", classify)
        return _advice("pictures")
    if accuracy["lost"] <= tolerance:
        return _advice("unsure", _with_more_students(result))
    if largest < SMALL * coded:
        return _larger(result, largest)
    return _advice("decline")


def _advice(choice: str, command: str | None = None, size: int | None = None) -> dict[str, Any]:
    return {"choice": choice, "command": command, "bytes": size}


def _student(result: Mapping[str, Any]) -> str:
    """Return the folder of the first student of the file."""
    return str(Path(reported_rows(result)["distilled"]["weights"][0]).parent)


def _with_more_students(result: Mapping[str, Any]) -> str:
    """Return the command with twice as many students; where it has a time, with twice of it, with room for them."""
    words = shlex.split(result["command"])
    time = next((word.removeprefix("time=") for word in words if re.fullmatch(r"time=[\d.]+[smh]", word)), None)
    if time is not None:
        return shlex.join([*_without(result["command"], "time="), f"time={2 * float(time[:-1]):g}{time[-1]}"])
    seeds = f"students.seeds={2 * reported_rows(result)['distilled']['seeds']}"
    return shlex.join([*_without(result["command"], "students.seeds="), seeds])


def _larger(result: Mapping[str, Any], largest: int) -> dict[str, Any]:
    """Advise to distil the recommended file, where it is larger than the run's; else one of twice the bytes tried."""
    recommended = result.get("recommended")
    if recommended and recommended["budget"] > result["bytes"]["budget"]:
        return _advice("larger", recommended["command"], recommended["budget"])
    size = 2 * largest
    if result["budget"]["by"] == "bytes":
        return _advice("larger", command_at(result["command"], size), size)
    words = [*_without(result["command"], "ipc="), f"ipc={math.ceil(2 * result['ipc'])}"]
    return _advice("larger", shlex.join(words), size)


def _without(command: str, key: str) -> list[str]:
    """Return the words of a command, without those that begin with ``key``."""
    return [word for word in shlex.split(command) if not word.startswith(key)]
