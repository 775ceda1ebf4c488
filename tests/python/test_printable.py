import pytest
from umbel._printable import MOST, printable


@pytest.mark.parametrize("text", ["", "ann", "/ws/Grüße 漢字", "x" * MOST])
def test_ordinary_text_stays_as_it_is(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\r\nb", r"a\r\nb"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\N{LINE SEPARATOR}\N{RIGHT-TO-LEFT OVERRIDE}\udc80", r"\u2028\u202e\udc80"),
    ],
)
def test_characters_that_would_change_the_line_are_escaped(text, line):
    assert printable(text) == line


@pytest.mark.parametrize("text", ["x" * (1 << 20), "\n" * 200, "\U0001f600" * 1000])
def test_a_long_text_is_cut(text):
    line = printable(text)
    assert len(line) == MOST
    assert line.endswith("...")
    assert len(line.encode()) <= 4 * MOST
