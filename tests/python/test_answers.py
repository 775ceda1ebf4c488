import re

import orjson
from umbel import answers


def test_results_carry_the_id_as_it_came():
    body = orjson.loads(answers.result("add", b'"x"', [1]))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body.pop("timestamp"))
    assert body == {"type": "add_result", "id": "x", "data": [1]}
    assert "id" not in orjson.loads(answers.result("add", None, 1))


def test_errors():
    body = orjson.loads(answers.error("bad", "why", b"7", {"n": 1}))
    del body["timestamp"]
    assert body == {"type": "error", "code": "bad", "message": "why", "id": 7, "details": {"n": 1}}
    assert set(orjson.loads(answers.error("bad", "why"))) == {"type", "code", "message", "timestamp"}


def test_incidents_differ():
    assert len({answers.incident() for _ in range(1000)}) == 1000
