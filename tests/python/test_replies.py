import re

import orjson
from umbel._dispatching import replies


def test_results_carry_the_id_as_it_came():
    body = orjson.loads(replies.result("add", b'"x"', [1]))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body.pop("timestamp"))
    assert body == {"type": "add_result", "id": "x", "data": [1]}
    assert "id" not in orjson.loads(replies.result("add", None, 1))


def test_errors():
    body = orjson.loads(replies.error("bad", "why", b"7", "a1"))
    del body["timestamp"]
    assert body == {"type": "error", "code": "bad", "message": "why", "id": 7, "details": {"incident": "a1"}}
    assert set(orjson.loads(replies.error("bad", "why"))) == {"type", "code", "message", "timestamp"}
