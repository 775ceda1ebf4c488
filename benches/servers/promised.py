"""The server of `promise.py`: one open channel."""

from __future__ import annotations

from umbel import Umbel

app = Umbel(shards=1)
app.channel("load", open=True, publish=True)
