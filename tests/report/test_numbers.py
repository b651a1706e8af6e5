"""Numbers on a report: rounded, signed and with their units alike."""

import pytest

from infer.report.numbers import number_formats
from infer.report.wording import page_texts

CASES = [
    ("percent", 0.954, "95.4 %", "95.4%"),
    ("percent", -0.00001, "0.0 %", "0.0%"),
    ("whole_percent", 0.95, "95 %", "95%"),
    ("points", -0.0123, "−1.2", "−1.2"),
    ("count", 1234567, "1,234,567", "1,234,567"),
    ("bytes", 0, "0 B", "0 B"),
    ("bytes", 999, "999 B", "999 B"),
    ("bytes", 5670, "5.7 kB", "5.7 kB"),
    ("bytes", 999_960, "1.0 MB", "1.0 MB"),
    ("bytes", 2.5e12, "2500.0 GB", "2500.0 GB"),
    ("seconds", 0.24, "0.2 s", "0.2秒"),
    ("seconds", 118, "118 s", "118秒"),
    ("seconds", 9.97, "10 s", "10秒"),
    ("seconds", 119.7, "2.0 min", "2.0分"),
    ("seconds", 150, "2.5 min", "2.5分"),
    ("seconds", -150, "−2.5 min", "−2.5分"),
    ("seconds", 2400, "40 min", "40分"),
    ("seconds", 7199.9, "2.0 h", "2.0時間"),
    ("seconds", 90_000, "25.0 h", "25.0時間"),
    ("hours", 0.5, "30 min", "30分"),
    ("kwh", 0.0123, "12.3 Wh", "12.3 Wh"),
    ("kwh", 0.09998, "0.10 kWh", "0.10 kWh"),
    ("kwh", 1.5, "1.50 kWh", "1.50 kWh"),
    ("watts", 250, "250 W", "250 W"),
    ("times", 9.96, "10", "10"),
    ("times", 16.2, "16", "16"),
    ("number", 999.4, "999", "999"),
    ("number", 999.5, "1,000", "1,000"),
    ("number", -999.8, "−1,000", "−1,000"),
    ("number", 12345.6, "12,346", "12,346"),
    ("number", -0.00228, "−0.00228", "−0.00228"),
    ("number", -0.00001234, "−0.00001", "−0.00001"),
    ("number", 0.0, "0.00000", "0.00000"),
    ("hundredth", -0.004, "0.00", "0.00"),
    ("hundredth", -0.126, "−0.13", "−0.13"),
]


@pytest.mark.parametrize(("unit", "value", "english", "japanese"), CASES)
def test_a_number_has_one_form_in_each_language(unit, value, english, japanese):
    assert number_formats(page_texts("en")["unit"])[unit](value) == english
    assert number_formats(page_texts("ja")["unit"])[unit](value) == japanese
