"""The Node client `ws` against the examples; what it does is in ws_client.mjs."""

from __future__ import annotations

import json

import pytest
from dialogue import Node, follow, received
from serving import Server

pytestmark = pytest.mark.timeout(90)


@pytest.mark.parametrize("deflate", [True, False], ids=["deflate", "plain"])
@pytest.mark.parametrize("protocol", ["umbel.v1", ""])
def test_publications_arrive_in_order_without_a_hole(
    node: Node, fanout: Server, deflate: bool, protocol: str
) -> None:
    channel, count = f"node:{deflate}:{protocol}", 500
    found = node("fanout", fanout.url(), channel=channel, count=count, deflate=deflate, protocol=protocol)
    assert found["protocol"] == protocol
    assert found["extensions"].startswith("permessage-deflate") == deflate
    for message in (found["start"], *found["batches"]):
        received(json.dumps(message))
    data = follow(found["batches"], channel, found["start"]["offset"])
    assert [each["number"] for each in data] == list(range(count))
    assert (found["bytes"] < count * 400 / 2) if deflate else (found["bytes"] > count * 400)


@pytest.mark.parametrize("deflate", [True, False], ids=["deflate", "plain"])
def test_messages_come_back_as_they_were(node: Node, echo: Server, deflate: bool) -> None:
    sizes = [0, 2, 124, 126, 65_534, 65_536, 1 << 20, 16 << 20]
    found = node("echo", echo.url("/some/path"), sizes=sizes, deflate=deflate)
    assert found["extensions"].startswith("permessage-deflate") == deflate
    assert found["same"] == [True] * (2 * len(sizes) + 1)


def test_pings_are_answered_with_their_payload(node: Node, echo: Server) -> None:
    assert node("ping", echo.url("/"))["same"]


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_the_client_closes_cleanly(node: Node, echo: Server, code: int) -> None:
    assert node("close", echo.url("/"), code=code)["code"] == code


def test_wrong_messages_get_errors_and_binary_closes_with_1003(node: Node, fanout: Server) -> None:
    found = node("errors", fanout.url(), texts=['{"type": "no_such_type", "id": "x"}', "{not json"])
    assert [answer["code"] for answer in found["answers"]] == ["unknown_type", "bad_message"]
    assert found["answers"][0]["id"] == "x"
    assert found["code"] == 1003
