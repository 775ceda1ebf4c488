"""The wheel, as a user gets it: into an empty environment, served from in an empty directory."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
import tomllib
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

APPLICATION = """
import asyncio, base64, json, os
from umbel import Umbel

app = Umbel()
app.channel("news", open=True, publish=True)


def text_frame(text):
    payload = text.encode()
    return bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload  # masked with zeros


async def receive(reader):
    first, length = await reader.readexactly(2)
    assert first == 0x81, first
    length = int.from_bytes(await reader.readexactly(2)) if length == 126 else length
    return json.loads(await reader.readexactly(length))


async def main():
    async with app.serve(port=0) as server:
        port = int(server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET /ws HTTP/1.1\\r\\nHost: 127.0.0.1:{port}\\r\\n"
            "Upgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
            f"Sec-WebSocket-Key: {key}\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n".encode()
        )
        head = await reader.readuntil(b"\\r\\n\\r\\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        writer.write(text_frame('{"type": "subscribe_updates", "channel": "news"}'))
        assert (await receive(reader))["type"] == "connection_established"
        assert (await receive(reader))["type"] == "subscription_established"
        app.publish("news", {"n": 1})
        message = await receive(reader)
        assert message["updates"][0]["data"] == {"n": 1}, message
        writer.close()


asyncio.run(asyncio.wait_for(main(), 30))
print("round trip")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The newest wheel in the directory that ``UMBEL_WHEELS`` names; without it, one that is built now."""
    place = pathlib.Path(os.environ.get("UMBEL_WHEELS", ""))
    if "UMBEL_WHEELS" not in os.environ:
        place = tmp_path_factory.mktemp("wheels")
        maturin = shutil.which("maturin", path=str(pathlib.Path(sys.executable).parent)) or "maturin"
        # The same build as `make build`, so nothing is compiled twice.
        environment = {**os.environ, "VIRTUAL_ENV": sys.prefix}
        command = [maturin, "build", "--release", "--locked", "--strip", "--quiet", "--out", str(place)]
        subprocess.run(command, cwd=ROOT, check=True, env=environment)
    wheels = sorted(place.glob("umbel-*.whl"), key=lambda path: path.stat().st_mtime)
    assert wheels, f"no wheel in {place}"
    return wheels[-1]


@pytest.mark.timeout(600)
def test_the_wheel_is_for_every_python_from_3_11_on_and_holds_what_it_should(wheel: pathlib.Path) -> None:
    assert "-cp311-abi3-" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        served = ("umbel.js", "stream.js", "state.js", "presence.js")
        scripts = {name: archive.read(f"umbel/_serving/{name}") for name in served}
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    held = {name.rpartition("/")[2] for name in names}
    assert {
        "py.typed",
        "_core.pyi",
        "_core.abi3.so",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "entry_points.txt",
    } <= held
    assert "umbel/_serving/dashboard/index.html" in names
    assert not [name for name in names if not name.startswith("umbel")]
    package = ROOT / "python"
    dashboard = [path for path in (package / "umbel/_serving/dashboard").rglob("*") if path.is_file()]
    assert {str(path.relative_to(package)) for path in dashboard} <= set(names)
    assert scripts == {name: (ROOT / "clients" / "js" / name).read_bytes() for name in scripts}
    assert [
        line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra" not in line
    ] == ["Requires-Dist: orjson>=3.10"]


@pytest.mark.timeout(600)
def test_the_wheel_serves_from_an_empty_environment_and_directory(
    wheel: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    environment, directory = tmp_path / "environment", tmp_path / "directory"
    directory.mkdir()
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*words: str | os.PathLike[str]) -> str:
        done = subprocess.run(words, cwd=directory, env=bare, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    version = run(environment / "bin" / "umbel", "--version")
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert version == f"umbel {manifest['package']['version']}\n"
    (directory / "main.py").write_text(textwrap.dedent(APPLICATION))
    assert run(python, "-W", "error", "main.py") == "round trip\n"
