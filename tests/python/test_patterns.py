import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from umbel import ConfigurationError
from umbel.patterns import LONGEST, check_signature, parameters


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
        ("x" * (LONGEST + 1), "1 to 255 bytes"),
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
def test_what_is_wrong_with_a_pattern_is_said(pattern, says):
    with pytest.raises(ConfigurationError, match=says):
        parameters(pattern)


@given(st.text())
def test_any_text_is_a_pattern_or_a_configuration_error(pattern):
    try:
        names = parameters(pattern)
    except ConfigurationError:
        return
    assert all(f"{{{name}" in pattern for name in names)


def test_a_function_that_fits():
    check_signature(lambda client, x, y: True, "p", "client", ["x", "y"])
    check_signature(lambda c, **rest: True, "p", "client", ["x"])
    check_signature(functools.partial(lambda db, client, x: True, None), "p", "client", ["x"])
    check_signature(min, "p", "client", ["x"])  # it has no signature


@pytest.mark.parametrize(
    "function", [lambda: True, lambda client: True, lambda client, z: True, lambda client, x, z: True]
)
def test_a_function_that_does_not_fit_is_told_its_signature(function):
    with pytest.raises(ConfigurationError, match=r"called as .*\(client, x\)"):
        check_signature(function, "p:{x}", "client", ["x"])


def test_a_generator_is_no_function_that_returns_something():
    def generator(client, x):
        yield True

    async def async_generator(client, x):
        yield True

    for function in (generator, async_generator):
        with pytest.raises(ConfigurationError, match=r"generator for the pattern 'p:\{x\}' has a yield"):
            check_signature(function, "p:{x}", "client", ["x"])
