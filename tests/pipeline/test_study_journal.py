"""The journal of a study: a torn last line is cut, and any other damage is one line."""

import json
import logging
from pathlib import Path

import optuna
import pytest
from small_disks import PAGE, small_disk

import infer
from infer.pipeline.study_process import open_journal


@pytest.fixture(autouse=True)
def _silent():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def study(journal: Path) -> optuna.Study:
    return optuna.create_study(study_name="s", storage=open_journal(journal), load_if_exists=True)


def tried(journal: Path, trials: int) -> optuna.Study:
    """The study of a journal, after that number of further trials."""
    found = study(journal)
    found.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=trials)
    return found


@pytest.fixture
def journal(tmp_path) -> Path:
    """The journal of two trials."""
    path = tmp_path / "study.journal"
    tried(path, 2)
    return path


def test_a_journal_that_ends_anywhere_goes_on_with_its_whole_lines(journal):
    whole = journal.read_bytes()
    for end in range(0, len(whole), 7):
        journal.write_bytes(whole[:end])
        before = len(study(journal).trials)
        tried(journal, 1)
        lines = journal.read_bytes().splitlines(keepends=True)
        assert all(json.loads(line) for line in lines)
        assert lines[: whole[:end].count(b"\n")] == whole[:end].splitlines(keepends=True)[: whole[:end].count(b"\n")]
        assert len(study(journal).trials) == before + 1


def test_a_full_disk_is_one_line_and_the_study_goes_on_with_room(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        journal = disk.folder / "study.journal"
        with disk.room(PAGE):
            begun = study(journal)
            with pytest.raises(infer.UserError) as told:  # noqa: PT012
                for _ in range(100):
                    begun.tell(begun.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), 1)
        assert str(told.value).startswith(f"{journal}: cannot be written ({disk.reason}); ")
        held = len(study(journal).trials)
        assert 0 < held < 100
        assert len(tried(journal, 1).trials) == held + 1
        assert all(json.loads(line) for line in journal.read_bytes().splitlines())


@pytest.mark.parametrize("torn", [b'{"op_code": 6, "trial', b"{", b"\0" * 300])
def test_a_process_that_is_killed_while_it_writes_does_not_stop_the_others(journal, caplog, torn):
    running = study(journal)
    with journal.open("ab") as file:
        file.write(torn)
    with caplog.at_level(logging.WARNING, "infer"):
        running.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert f"{len(torn)} bytes are cut" in caplog.text
    assert str(journal) in caplog.text
    assert len(study(journal).trials) == 3


def test_a_last_line_that_lacks_only_its_end_is_kept(journal):
    whole = journal.read_bytes()
    journal.write_bytes(whole.removesuffix(b"\n"))
    open_journal(journal)
    assert journal.read_bytes() == whole


@pytest.mark.parametrize(
    "line", [b'{"op_code": 6, "tri', b"[]", b"5", b"", b"null", b"{}", b'{"op_code": 99}', b"\xff\xfe", b"[" * 100_000]
)
@pytest.mark.parametrize("at", [0, 3, 99])
def test_damage_elsewhere_is_one_line_that_names_the_file_and_nothing_is_changed(journal, line, at):
    lines = journal.read_bytes().splitlines()
    damaged = b"".join(part + b"\n" for part in [*lines[:at], line, *lines[at:]])
    journal.write_bytes(damaged)
    with pytest.raises(infer.UserError) as caught:
        study(journal)
    assert str(caught.value).startswith(f"{journal}: is damaged, or not the journal of a study (")
    assert "\n" not in str(caught.value)
    assert journal.read_bytes() == damaged


@pytest.mark.parametrize(
    "content", [b"SQLite format 3\0" + bytes(90), b"\x80\x04\x95 pickled", b'{"version": 3}', b"trial,state\n"]
)
def test_a_file_of_another_format_is_one_line_and_stays_whole(journal, content):
    journal.write_bytes(content)
    with pytest.raises(infer.UserError, match="not the journal of a study"):
        study(journal)
    assert journal.read_bytes().startswith(content)


def test_a_folder_in_its_place_is_one_line(tmp_path):
    with pytest.raises(infer.UserError, match="cannot be opened"):
        open_journal(tmp_path)
