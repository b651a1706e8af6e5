"""Two thousand mutated files; the command ``fuzz_reading.py`` reads more."""

from collections import Counter

import fuzz_reading


def test_a_mutated_file_is_refused_in_one_line_or_is_a_whole_set():
    found = list(fuzz_reading.results(count=2000, seed=0))
    failed = [each for each in found if each[2] not in ("refused", "loaded")]
    assert not failed, f"{len(failed)} failed, the first: {failed[0]}"
    counts = Counter(result for _, _, result in found)
    assert counts["refused"] + counts["loaded"] == 2000
    assert min(counts.values()) > 200
