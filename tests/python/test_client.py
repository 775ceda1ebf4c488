import gc
import weakref

import orjson
import pytest
from looping import virtual
from umbel import Identity
from umbel._clients.client import Message


@virtual
async def test_the_methods_of_a_client_reach_the_core(app, bench):
    app.on("x")(lambda client, message: None)
    umbel = bench()
    umbel.core.open(peer="1.2.3.4:5")
    await umbel.run()
    client = umbel.client()
    assert client.id == "c1"
    assert client.request.peer == "1.2.3.4:5"
    assert client.request is client.request
    assert client.identity.anonymous
    client.state["n"] = 1
    assert client.state == {"n": 1}
    assert client.send({"a": 1}, key="k").position.offset == 1
    assert umbel.core.sent == [(1, {"a": 1})]
    assert client.close(4500, "bye")
    assert client.subscribe("a")
    assert client.unsubscribe("a")
    assert umbel.core.named("close") == [(1, 4500, "bye")]
    assert umbel.core.named("subscribe") == [(1, "a")]
    assert umbel.core.named("unsubscribe") == [(1, "a", "unsubscribed by the server")]
    assert repr(client) == "<Client c1 anonymous>"


@virtual
async def test_a_client_that_is_gone_is_an_outcome_not_an_error(app, bench):
    app.on("x")(lambda client, message: None)
    umbel = bench()
    umbel.core.open()
    await umbel.run()
    client = umbel.client()
    umbel.core.closed(1)
    await umbel.run()
    assert client.send(1) is None
    assert client.close() is False
    assert client.subscribe("a") is False
    assert client.unsubscribe("a") is False


@pytest.mark.parametrize("code", [4501, 4502, 4503])
def test_close_codes_of_later_versions_are_reserved(app, bench, code):
    @virtual
    async def scenario():
        app.on("x")(lambda client, message: None)
        umbel = bench()
        umbel.core.open()
        await umbel.run()
        with pytest.raises(ValueError, match="reserved for Umbel"):
            umbel.client().close(code)
        assert umbel.core.named("close") == []

    scenario()


@virtual
async def test_a_client_whose_identity_is_odd_still_has_a_name_in_the_log(app, bench, caplog):
    @app.on("x")
    def fail(client, message):
        client.identity = message.data
        raise ValueError("important")

    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "x", data=42)
    await umbel.run()
    assert "<Client c1 42>" in caplog.text
    assert "important" in caplog.text


def test_a_subject_that_is_no_text_is_refused_where_it_is_made():
    with pytest.raises(ValueError, match="surrogate"):
        Identity("\ud800")


@virtual
async def test_a_handler_may_give_back_its_claims(app, bench):
    app.authenticate(lambda request: {"sub": "ann"})
    app.on("who")(lambda client, message: client.identity.claims)
    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "who", id=1)
    await umbel.run()
    assert umbel.replies == [{"type": "who_result", "id": 1, "data": {"sub": "ann"}}]


@virtual
async def test_clients_that_left_are_not_kept(app, bench):
    app.on("x")(lambda client, message: None)
    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "x")
    await umbel.run()
    gone = weakref.ref(umbel.client())
    umbel.core.closed(1)
    await umbel.run()
    gc.collect()
    assert gone() is None


@virtual
async def test_data_that_are_not_json_raise_in_the_caller(app, bench):
    umbel = bench()
    umbel.core.open()
    await umbel.run()
    with pytest.raises(TypeError):
        umbel.client().send(object())
    with pytest.raises(ValueError):
        umbel.client().send(orjson.Fragment("{"))
    assert umbel.core.sent == []


def test_messages():
    message = Message("t", b'"q"', b'{"type":"t","id":"q","data":[1],"other":2}')
    assert (message.type, message.id, message.data, message.body["other"]) == ("t", "q", [1], 2)
    assert Message("t", None, b"{}").id is None
    assert Message("t", b"7", b"{}").id == 7
    assert Message("t", None, b"{}").data is None
    assert repr(Message("t", None, b'{"data":"secret"}')) == "<Message t>"
    with pytest.raises(ValueError):
        Message("t", None, b"{")
