"""The smallest broadcast server: everybody may subscribe and publish, on any channel.

Load tools are pointed at it. Run it with ``python examples/fanout.py --port 8000 --shards 2``.
"""

import argparse

from umbel import Umbel

app = Umbel(origins="*")
app.channel("{name:path}", open=True, publish=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--shards", type=int, default=0, help="threads that serve connections; 0: one per core"
    )
    parser.add_argument(
        "--tick", type=float, default=0.016, help="seconds between two deliveries to one connection"
    )
    app.run(**vars(parser.parse_args()))
