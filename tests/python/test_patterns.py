import pytest
from hypothesis import given
from hypothesis import strategies as st
from umbel import ConfigurationError
from umbel._core import NAME_BYTES
from umbel._declaring.patterns import parameters


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("news", ()),
        ("task:{task_id}", ("task_id",)),
        ("a:{x}:b:{y}", ("x", "y")),
        ("/files/{path:path}", ("path",)),
        ("{name:path}", ("name",)),
    ],
)
def test_names_of_parameters(pattern, names):
    assert parameters(pattern) == names


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "1 to 255 bytes"),
        ("x" * (NAME_BYTES + 1), "1 to 255 bytes"),
        ("a\nb", "control character"),
        ("a{", "brace"),
        ("a}b", "brace"),
        ("{a{b}}", "brace"),
        ("{}", "is not a name"),
        ("{1a}", "is not a name"),
        ("{ä}", "is not a name"),
        ("{a:int}", "only {a:path} is"),
        ("{a}{b}", "needs a character between"),
        ("{a}:{a}", "twice"),
    ],
)
def test_an_error_says_what_is_wrong_with_a_pattern(pattern, says):
    with pytest.raises(ConfigurationError, match=says):
        parameters(pattern)


@given(st.text())
def test_any_text_is_a_pattern_or_a_configuration_error(pattern):
    try:
        names = parameters(pattern)
    except ConfigurationError:
        return
    assert all(f"{{{name}" in pattern for name in names)
