"""Data of the application as JSON text."""

from typing import Any

from orjson import Fragment, dumps

from ._core import check_json


def encode(data: Any) -> bytes:
    """Encode data as JSON.

    Raises:
        TypeError: if they can't be encoded.
        ValueError: if they have an integer beyond 64 bits, or are a fragment that is not JSON.
    """
    try:
        text = dumps(data)
    except TypeError as error:
        if "64-bit" in str(error):
            raise ValueError(
                "an integer of these data has more than 64 bits, and many readers of JSON would round it: "
                "send it as a str"
            ) from None
        raise
    if type(data) is Fragment:
        check_json(text)
    return text
