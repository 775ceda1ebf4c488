"""A process that serves: signals, logging, descriptors, and its end."""

import asyncio
import logging
import os
import pty
import resource
import signal
import sys
import threading
import time

import pytest
from fake_core import FakeCore
from looping import virtual
from programs import PYTHON_PATH, WITH_SIGINT, started
from serving import ROOT, wait_until
from umbel._serving import process, stderr

TLS = ROOT / "tests" / "python" / "tls"

SERVE = """
import sys
from umbel import Umbel
app = Umbel(drain=5)
{}
app.run(port=0, uvloop={})
print("ended", file=sys.stderr)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("uvloop", [True, False])
def test_a_signal_stops_gracefully(number, uvloop):
    with started("-c", SERVE.format("", uvloop)) as program:
        assert program.url.startswith("http://127.0.0.1:")
        assert program.stop(number) == 0
        assert f"{signal.Signals(number).name}: stopping within 5 s" in program.output
        assert program.output.endswith("INFO stopped\nended\n")


def test_sigint_that_the_starter_ignores_stays_ignored():
    server = (sys.executable, "-c", SERVE.format("", False))
    with started("-c", WITH_SIGINT.format("SIG_IGN"), *server) as program:
        assert program.url
        for _ in range(3):
            program.process.send_signal(signal.SIGINT)
        assert program.stop(signal.SIGTERM) == 0
        assert "SIGTERM: stopping" in program.output
        assert "SIGINT" not in program.output


BLOCKED = """
import time
@app.background
async def block():
    print("blocking", file=sys.stderr, flush=True)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        time.sleep(0.05)
"""


def test_a_signal_reaches_a_loop_that_is_blocked():
    with started("-c", SERVE.format(BLOCKED, False)) as program:
        program.wait_line("blocking")
        program.process.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        program.wait_line("stopping within")
        assert time.monotonic() - begin < 2
        assert program.end() == 0


ELSEWHERE = """
import signal, threading
def signal_here():
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    threading.Event().wait()
@app.background
async def start():
    timer = threading.Timer(0.3, signal_here)
    timer.daemon = True
    timer.start()
"""


@pytest.mark.parametrize("uvloop", [True, False])
def test_a_signal_that_another_thread_gets_wakes_the_loop(uvloop):
    with started("-c", SERVE.format(ELSEWHERE, uvloop)) as program:
        assert program.end() == 0


HANGS = """
import asyncio
@app.background
async def hang():
    while True:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            print("no!", file=sys.stderr, flush=True)
"""


def test_a_second_signal_hastens_and_a_third_ends_the_process():
    with started("-c", SERVE.format(HANGS, False)) as program:
        assert program.url
        program.process.send_signal(signal.SIGTERM)
        program.wait_line("no!")
        program.process.send_signal(signal.SIGTERM)
        assert "background task hang did not end" in program.wait_line("left behind")
        assert program.stop() == -signal.SIGTERM


EXITS = """
import asyncio
@app.background
async def leave():
    raise SystemExit(7)
"""


def test_sys_exit_in_a_function_is_logged_and_the_server_goes_on():
    with started("-c", SERVE.format(EXITS, False)) as program:
        program.wait_line("SystemExit: 7")
        assert program.stop() == 0


NEVER_STOPPED = """
import asyncio
from umbel import Umbel
app = Umbel()
app.channel("a", open=True)
async def main():
    server = app.serve(port=0)
    await server.__aenter__()
    for number in range(1000):
        app.publish("a", number)
asyncio.run(main())
{}
"""


@pytest.mark.parametrize(
    "end",
    [
        "",
        "raise SystemExit(0)",
        "import threading; threading.Thread(target=app.publish, args=('a', 1)).start()",
    ],
)
def test_an_interpreter_that_ends_with_a_running_server_ends_cleanly(end):
    with started("-c", NEVER_STOPPED.format(end)) as program:
        assert program.end() == 0
        assert "Fatal" not in program.output
        assert "Traceback" not in program.output


def test_run_inside_a_loop_says_what_to_use(app):
    async def main():
        app.run(port=0)

    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(main())


def test_run_outside_the_main_thread_leaves_signals_alone(app):
    before = signal.getsignal(signal.SIGTERM)

    @app.background
    async def stop():
        assert signal.getsignal(signal.SIGTERM) is before
        app._server.stop()

    thread = threading.Thread(target=app.run, kwargs={"port": 0})
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_run_twice_one_after_the_other(app):
    @app.background
    async def stop():
        app._server.stop()

    before = signal.getsignal(signal.SIGINT)
    app.run(port=0)
    app.run(port=0, uvloop=False)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_before_the_server_listens_is_not_lost(app, monkeypatch):
    monkeypatch.setattr("umbel._serving.server.Core", FakeCore)
    it = process.Process(app.serve(port=0))
    it._signalled(signal.SIGTERM, None)
    it.run()
    assert FakeCore.made.named("stop")


def test_uvloop_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "uvloop", None)
    assert process.loop_factory(None) is None
    assert process.loop_factory(False) is None
    with pytest.raises(RuntimeError, match="pip install"):
        process.loop_factory(True)


def test_logging_is_configured_once_and_only_when_nobody_did(monkeypatch):
    logger = logging.getLogger("umbel.test_process")
    monkeypatch.setattr(process, "logger", logger)
    monkeypatch.setattr(logger, "propagate", False)
    process.configure_logging()
    process.configure_logging()
    assert len(logger.handlers) == 1
    assert logger.level == logging.INFO
    logger.handlers.clear()


def test_logging_that_somebody_configured_is_left_alone(monkeypatch):
    logger = logging.getLogger("umbel.test_process.configured")
    own = logging.NullHandler()
    logger.addHandler(own)
    monkeypatch.setattr(process, "logger", logger)
    before = logging.lastResort
    process.configure_logging()
    with process.last_resort():
        assert logging.lastResort is before
    assert logger.handlers == [own]
    logger.handlers[:] = [stderr.handler()]
    with process.last_resort():
        assert logging.lastResort is not before
    assert logging.lastResort is before
    logger.handlers.clear()


def test_descriptors(monkeypatch, caplog):
    limits = [100, 1000]
    monkeypatch.setattr(resource, "getrlimit", lambda what: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda what, new: limits.__setitem__(slice(None), new))
    process.raise_descriptors(500)
    assert limits == [1000, 1000]
    assert caplog.text == ""
    process.raise_descriptors(5000)
    assert "max_connections=5000" in caplog.text
    limits[:] = [100, resource.RLIM_INFINITY]
    process.raise_descriptors(500)
    assert limits == [500 + process.SPARE_DESCRIPTORS, resource.RLIM_INFINITY]


def test_descriptors_that_can_not_be_raised(monkeypatch, caplog):
    def refuse(what, new):
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "getrlimit", lambda what: (100, 1000))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    process.raise_descriptors(500)
    assert "stays at 100: not allowed" in caplog.text


@virtual
async def test_virtual_time_passes_at_once():
    await asyncio.sleep(1e6)


HANGS_UP = (
    "import os, signal, sys; signal.signal(signal.SIGHUP, signal.{}); os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.mark.parametrize("uvloop", [True, False])
def test_sighup_without_a_certificate_is_logged_and_harmless(uvloop):
    with started("-c", SERVE.format("", uvloop)) as program:
        assert program.url
        program.process.send_signal(signal.SIGHUP)
        program.wait_line("SIGHUP: no certificate is served")
        assert program.stop() == 0


def test_sighup_reads_the_certificate_again():
    files = ["tls_cert", str(TLS / "certificate.pem"), "tls_key", str(TLS / "key.pem")]
    options = [f"--{word.replace('_', '-')}" if word.startswith("tls_") else word for word in files]
    with started("-m", "umbel", "run", "examples.fanout:app", "--port", "0", *options, cwd=ROOT) as program:
        assert program.url.startswith("https://")
        program.process.send_signal(signal.SIGHUP)
        program.wait_line("the certificate was read again")
        assert program.stop() == 0


def test_sighup_that_the_starter_ignores_stays_ignored():
    server = (sys.executable, "-c", SERVE.format("", False))
    with started("-c", HANGS_UP.format("SIG_IGN"), *server) as program:
        assert program.url
        program.process.send_signal(signal.SIGHUP)
        assert program.stop() == 0
        assert "SIGHUP" not in program.output


OWN_HANDLER = """
import signal
signal.signal(signal.SIGHUP, lambda *_: print("mine", file=sys.stderr, flush=True))
"""


def test_a_handler_that_the_application_has_for_sighup_stays():
    with started("-c", SERVE.format(OWN_HANDLER, False)) as program:
        assert program.url
        program.process.send_signal(signal.SIGHUP)
        program.wait_line("mine")
        assert program.stop() == 0
        assert "SIGHUP" not in program.output


def test_a_terminal_that_is_closed_stops_the_server(tmp_path):
    log = tmp_path / "log"
    child, terminal = pty.fork()
    if child == 0:
        environment = {**os.environ, "PYTHONPATH": str(PYTHON_PATH)}
        words = [sys.executable, "-c", HANGS_UP.format("SIG_DFL"), sys.executable, "-c"]
        redirected = f"import os; os.dup2(os.open({str(log)!r}, os.O_WRONLY | os.O_CREAT), 2)\n"
        os.execve(sys.executable, [*words, redirected + SERVE.format("", False)], environment)
    ended, status = [], []
    try:
        wait_until(lambda: log.exists() and "listening on" in log.read_text(), "it listens", 20)
        os.kill(child, signal.SIGHUP)
        wait_until(
            lambda: "SIGHUP: no certificate" in log.read_text(), "the terminal is there: it goes on", 10
        )
        os.close(terminal)

        def has_ended() -> bool:
            pid, code = os.waitpid(child, os.WNOHANG)
            ended.append(pid)
            status.append(code)
            return pid == child

        wait_until(has_ended, "it ends with its terminal", 10)
        assert status[-1] == 0
        assert "SIGHUP: stopping within" in log.read_text()
    finally:
        if child not in ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
