import pytest
from umbel import ConfigurationError, ConnectionClosed, Refused, UmbelError, _core


def test_one_root():
    assert issubclass(ConfigurationError, UmbelError)
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(Refused, UmbelError)
    assert issubclass(ConnectionClosed, UmbelError)


@pytest.mark.parametrize("code", [1000, 1001, 1006, 2999, 5000, 0])
def test_codes_that_say_something_else_than_no(code):
    with pytest.raises(ValueError, match="not a close code for a refusal"):
        Refused(code)


@pytest.mark.parametrize("code", [1008, 1013, 3000, 4401, 4499, 4500, 4999])
def test_codes_for_refusals(code):
    assert Refused(code).code == code


@pytest.mark.parametrize("code", [4501, 4502, 4503])
def test_codes_of_later_versions_are_reserved(code):
    with pytest.raises(ValueError, match="reserved for Umbel"):
        Refused(code)


def test_reasons():
    assert Refused().reason == "authentication required"
    assert Refused(4500).reason == "not allowed"
    assert Refused(4500, "ä" * 61).reason == "ä" * 61
    with pytest.raises(ValueError, match="123 bytes"):
        Refused(4500, "ä" * 62)


def test_connection_closed():
    error = ConnectionClosed(4500, "no")
    assert (error.code, error.reason, str(error)) == (4500, "no", "connection closed with code 4500: no")
    assert str(ConnectionClosed()) == "connection closed with code 1006"


def test_the_defaults_are_codes_of_the_core():
    names = {code: name for code, name, _, _ in _core.CLOSE_CODES}
    assert (names[4401], names[4500], names[1011]) == ("unauthenticated", "not_allowed", "internal")


def test_a_reason_without_a_code_gets_the_cure():
    with pytest.raises(TypeError, match=r"write Refused\(4500, 'no way'\)"):
        Refused("no way")  # type: ignore[arg-type]
