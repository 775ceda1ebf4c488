"""A server with the dashboard, for its tests. Its event loop stands still while a file is there.

python dashboard_served.py PORT ADMIN_PORT FILE
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from umbel import Umbel

port, admin, standstill = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
app = Umbel(port=port, admin=f"127.0.0.1:{admin}", dashboard=True)
app.channel("ticks", open=True)


@app.background
async def publish() -> None:
    while True:
        app.publish("ticks", {"at": time.time()})
        while standstill.exists():
            time.sleep(0.01)
        await asyncio.sleep(0.05)


app.run()
