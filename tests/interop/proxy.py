"""nginx in front of a server."""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CONFIG = """
daemon off;
pid {here}/pid;
error_log {here}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {here}/body;
  proxy_temp_path {here}/proxy;
  fastcgi_temp_path {here}/fastcgi;
  uwsgi_temp_path {here}/uwsgi;
  scgi_temp_path {here}/scgi;
  server {{
    listen 127.0.0.1:{port}{listen};
    location / {{
      proxy_pass {upstream};
      {location}
    }}
  }}
}}
"""

TLS = pathlib.Path(__file__).resolve().parents[1] / "python" / "tls"


def installed() -> str:
    """The path of nginx. It is Debian's package, which is installed if we are root."""
    path = "/usr/sbin:" + os.environ["PATH"]
    if not shutil.which("nginx", path=path) and shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for action in (["update"], ["install", "--yes", "--no-install-recommends", "nginx-light"]):
            subprocess.run(["apt-get", "-qq", *action], env=environment, capture_output=True, check=False)
    found = shutil.which("nginx", path=path)
    if not found:
        pytest.skip("nginx is not installed")
    return found


@contextmanager
def nginx(here: pathlib.Path, upstream: str, location: str = "", *, http2: bool = False) -> Iterator[int]:
    """Run a proxy with its defaults, and what else the location has. HTTP/2 has TLS. Yields its port."""
    command = installed()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    listen = ""
    if http2:
        listen = f" ssl http2; ssl_certificate {TLS}/certificate.pem; ssl_certificate_key {TLS}/key.pem"
    config = here / "nginx.conf"
    config.write_text(
        CONFIG.format(here=here, port=port, upstream=upstream, location=location, listen=listen)
    )
    with subprocess.Popen([command, "-e", str(here / "error.log"), "-c", str(config)]) as process:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, (here / "error.log").read_text()
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
