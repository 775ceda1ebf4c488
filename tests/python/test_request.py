import pickle

import orjson
import pytest
from fake_core import FakeHandshake
from umbel import Identity, Request
from umbel._clients.identity import ANONYMOUS
from umbel._clients.request import Fields


def request(**fields):
    return Request(FakeHandshake(**fields))


def test_identities_from_what_authenticate_returns():
    assert Identity.of("ann") == Identity("ann")
    assert Identity.of({"sub": "ann", "role": "x"}).claims["role"] == "x"
    assert Identity.of({"sub": 7}).subject == "7"
    same = Identity("ann", {"a": 1})
    assert Identity.of(same) is same
    assert ANONYMOUS.anonymous
    assert not same.anonymous


@pytest.mark.parametrize(
    ("answer", "error"), [("", ValueError), ({}, ValueError), ({"sub": None}, ValueError), (7, TypeError)]
)
def test_identities_that_say_nothing(answer, error):
    with pytest.raises(error, match="authenticate returned"):
        Identity.of(answer)


def test_claims_can_not_be_changed():
    with pytest.raises(TypeError):
        Identity.of({"sub": "a"}).claims["sub"] = "b"  # type: ignore[index]
    with pytest.raises(TypeError):
        ANONYMOUS.claims["x"] = 1  # type: ignore[index]


@pytest.mark.parametrize("subject", [42, None, b"ann"])
def test_a_subject_is_text(subject):
    with pytest.raises(TypeError, match=r"must be a str, not .*str\(…\)"):
        Identity(subject)


def test_an_identity_is_a_key_and_its_claims_are_a_copy_that_is_json():
    given = {"sub": "ann", "roles": ["x"]}
    identity = Identity.of(given)
    given["sub"] = "bob"
    assert {identity: 1}[Identity.of({"sub": "ann", "roles": ["x"]})] == 1
    assert identity.claims == {"sub": "ann", "roles": ["x"]}
    assert orjson.loads(orjson.dumps(identity.claims)) == identity.claims
    assert pickle.loads(pickle.dumps(identity)) == identity
    for change in ("clear", "popitem", "update"):
        with pytest.raises(TypeError, match="can't be changed"):
            getattr(identity.claims, change)()


def test_header_fields():
    headers = request(headers=[("accept", "a"), ("x-y", "1"), ("accept", "b")]).headers
    assert headers["Accept"] == "a, b"
    assert headers.all("ACCEPT") == ("a", "b")
    assert headers.get("missing") is None
    assert headers.all("missing") == ()
    assert "X-Y" in headers
    assert len(headers) == 2
    assert dict(headers) == {"accept": "a, b", "x-y": "1"}
    assert repr(headers) == "<Fields accept, x-y>"
    with pytest.raises(KeyError):
        headers["missing"]


def test_query_parameters():
    query = request(query="a=1&a=2&b=&c=%C3%A4+x&bad=%ff&A=3").query
    assert query["a"] == "1"
    assert query.all("a") == ("1", "2")
    assert query["b"] == ""
    assert query["c"] == "ä x"
    assert query["bad"] == "\N{REPLACEMENT CHARACTER}"
    assert query["A"] == "3"
    assert request().query == Fields([])


def test_cookies():
    cookies = request(headers=[("cookie", 'a=1; b="2"; junk; c=x=y'), ("cookie", "a=9; d=")]).cookies
    assert cookies == {"a": "1", "b": "2", "c": "x=y", "d": ""}


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("", None),
    ],
)
def test_bearer_tokens(value, token):
    assert request(headers=[("authorization", value)]).token == token
    assert request().token is None


def test_the_rest_of_a_request():
    it = request(path="/ws", peer="unix", secure=True)
    assert (it.path, it.peer, it.secure, repr(it)) == ("/ws", "unix", True, "<Request /ws from unix>")


def test_many_fields_of_one_name_take_time_as_they_are_many():
    pairs = [("a", str(number)) for number in range(200_000)]
    # Quadratic work would take minutes here.
    assert len(Fields(pairs).all("a")) == 200_000
