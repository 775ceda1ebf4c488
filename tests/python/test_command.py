"""The command line: what it does, and what its errors say."""

import os
import signal
import socket
from pathlib import Path

import pytest
from programs import started
from umbel import __version__
from umbel._command_line import command, options
from umbel._declaring.settings import KINDS, PYTHON_ONLY

APP = """
from umbel import Umbel
app = Umbel(tick=0.5)
app.channel("a", open=True)
not_an_app = 42
class Other: pass
def make(): return app
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty directory that holds an application, as the current one."""
    (tmp_path / "shop.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    __import__("sys").modules.pop("shop", None)


def said(capsys, *words: str) -> tuple[int, str]:
    code = command.main(words)
    captured = capsys.readouterr()
    return code, captured.err + captured.out


def test_version(capsys):
    assert said(capsys, "--version") == (0, f"umbel {__version__}\n")


def test_without_a_command_help_is_shown(capsys):
    code, text = said(capsys)
    assert code == 2
    assert "run" in text


def test_help_lists_every_setting_with_its_default_in_plain_words(capsys):
    code, text = said(capsys, "run", "--help")
    assert code == 0
    for name in KINDS:
        assert "--" + name.replace("_", "-") in text
    text = " ".join(text.split())
    assert "functions that run for one client at the same time (default: 16)" in text
    assert "for one message; none for no limit (default: 30.0)" in text
    assert "offer compression (permessage-deflate) (default: on)" in text
    assert "PEM file with the private key of the certificate --websocket-path" in text
    assert "``" not in text


def test_a_file_instead_of_a_module_gets_a_command_that_works(here, capsys):
    assert "try `umbel run shop:app`" in said(capsys, "run", "shop.py")[1]
    assert f"try `cd {here} && umbel run shop:app`" in said(capsys, "run", str(here / "shop.py"))[1]


def test_an_unknown_option_is_a_usage_error(capsys):
    code, text = said(capsys, "run", "shop:app", "--max-mesage", "1")
    assert code == 2
    assert "Did you mean --max-message?" in text
    assert "mean" not in said(capsys, "run", "shop:app", "--colour=red")[1]


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("shpo:app", 2, "no module named 'shpo'"),
        ("shpo:app", 2, "Did you mean shop?"),
        ("zzz:app", 2, "Modules here: shop"),
        ("shop.py:app", 2, "try `umbel run shop:app`"),
        ("shop:nothing", 2, "has no application 'nothing'; it has shop:app"),
        ("shop:not_an_app", 2, "of type int.*shop:app"),
        ("shop:Other", 2, r"a class \(Other\)"),
        ("shop:make", 2, "a function.*shop:app"),
        ("json:loads", 2, "a function.*it has none"),
        ("json", 2, "choose an application.*it has none"),
        (":app", 2, "write module:attribute"),
        (".x:app", 2, "write module:attribute"),
        ("shop.:app", 2, "write module:attribute"),
    ],
)
def test_an_application_that_can_not_be_found(here, capsys, name, code, says):
    import re

    actual, text = said(capsys, "run", name)
    assert actual == code
    assert re.search(says, text), text
    assert "Traceback" not in text or code == 1


def test_a_module_that_fails_shows_its_traceback(here, capsys):
    (here / "broken.py").write_text("int('x')")
    code, text = said(capsys, "run", "broken:app")
    assert code == 1
    assert text.startswith(f'Traceback (most recent call last):\n  File "{here}/broken.py", line 1')
    assert "ValueError: invalid literal" in text


def test_a_wrong_declaration_is_shown_with_its_line(here, capsys):
    (here / "wrong.py").write_text("from umbel import Umbel\napp = Umbel()\n@app.on\ndef ping(c, m): pass")
    code, text = said(capsys, "run", "wrong:app")
    assert code == 1
    assert text.startswith(f"umbel: {here}/wrong.py:3: @app.on needs a name")


def test_a_module_that_ends_the_process_does(here):
    (here / "ending.py").write_text("raise SystemExit('not today')")
    with pytest.raises(SystemExit, match="not today"):
        command.main(["run", "ending:app"])


def test_a_module_that_misses_another_names_that_one(here, capsys):
    (here / "needy.py").write_text("import not_installed_here")
    code, text = said(capsys, "run", "needy:app")
    assert code == 1
    assert "not_installed_here" in text


def test_an_empty_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "Run it from the directory" in said(capsys, "run", "shop:app")[1]


def test_a_declaration_that_is_incomplete(here, capsys):
    (here / "half.py").write_text("from umbel import Umbel\napp = Umbel()\napp.channel('a:{x}')")
    code, text = said(capsys, "run", "half:app", "--port", "0")
    assert code == 1
    assert "nothing says who may subscribe" in text


def test_the_error_of_a_taken_port_names_the_program_that_has_it(here, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, text = said(capsys, "run", "shop:app", "--port", port)
    assert code == 1
    assert f"port {port} is taken by" in text
    assert f"process {os.getpid()}" in text
    assert "--port" in text


def test_an_address_of_another_machine(here, capsys):
    code, text = said(capsys, "run", "shop", "--host", "192.0.2.1", "--port", "0")
    assert code == 1
    assert "not an address of this machine" in text


def test_a_bad_certificate(here, capsys):
    (here / "cert.pem").write_text("nonsense")
    code, text = said(capsys, "run", "shop", "--port", "0", "--tls-cert", "cert.pem", "--tls-key", "cert.pem")
    assert code == 1
    assert "cert.pem" in text
    code, text = said(
        capsys, "run", "shop", "--port", "0", "--tls-cert", "missing.pem", "--tls-key", "missing.pem"
    )
    assert code == 1
    assert "missing.pem" in text


def test_a_setting_out_of_range(here, capsys):
    code, text = said(capsys, "run", "shop", "--tick", "99")
    assert code == 1
    assert "tick" in text


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--port", "99999", "port must be 0 to 65535, not 99999"),
        ("--backlog", "5000000000", "backlog must be 1 to 2147483647, not 5000000000"),
        ("--origins", "a.example", "can never match"),
        ("--handler-timeout", "soon", "invalid float value: 'soon'"),
    ],
)
def test_a_value_that_can_not_be_is_explained(here, capsys, option, value, says):
    code, text = said(capsys, "run", option, value, "shop:app")
    assert code in (1, 2)
    assert says in text


ALONE = ("tls_cert", "tls_key", "admin_token", "dashboard", "unix_socket", "unix_socket_mode", "host")
SETTINGS = [name for name in KINDS if name not in ALONE]


@pytest.mark.parametrize("name", SETTINGS)
def test_each_option_reaches_the_settings(here, monkeypatch, name):
    from test_settings import another

    got = []

    class Stand:
        def __init__(self, server, **options):
            got.append(server.settings)

        def run(self):
            pass

    monkeypatch.setattr(command, "Process", Stand)
    value = another(name)
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        words = [flag if value else flag.replace("--", "--no-", 1)]
    else:
        values = value if isinstance(value, list) else [str(value)]
        words = [word for value in values for word in (flag, value)]
    assert command.main(["run", "shop:app", *words]) == 0
    assert getattr(got[0], name) == value
    assert got[0].tick == (value if name == "tick" else 0.5)
    assert set(KINDS) > PYTHON_ONLY


def test_all_origins(here, monkeypatch):
    parsed = options.parser().parse_args(["run", "shop:app", "--origins", "*"])
    assert parsed.origins == ["*"]


def test_options_before_the_application_leave_it_alone():
    words = ["run", "--origins", "https://a.example", "--origins", "https://b.example", "shop:app"]
    parsed = options.parser().parse_args(words)
    assert (parsed.app, parsed.origins) == ("shop:app", ["https://a.example", "https://b.example"])


@pytest.mark.parametrize(("text", "mode"), [("660", 0o660), ("0o660", 0o660), ("none", None)])
def test_permissions_are_octal(text, mode):
    words = ["run", "shop:app", "--unix-socket-mode", text]
    assert options.parser().parse_args(words).unix_socket_mode == mode


def test_permissions_that_are_not_octal_are_refused(here, capsys):
    code, text = said(capsys, "run", "--unix-socket-mode", "890", "shop:app")
    assert code == 2
    assert "invalid octal number value: '890'" in text


def test_a_limit_can_be_taken_away():
    parsed = options.parser().parse_args(["run", "shop:app", "--handler-timeout", "none"])
    assert parsed.handler_timeout is None
    assert not hasattr(parsed, "tick")


@pytest.mark.parametrize("most", [10, 12, 18])
def test_too_few_descriptors_are_named(here, most):
    code = (
        f"import resource, sys, umbel._command_line.command\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most}))\n"
        f"words = 'run shop:app --port 0 --max-connections 1 --shards 2'\n"
        f"sys.exit(umbel._command_line.command.main(words.split()))"
    )
    with started("-c", code, cwd=here) as program:
        assert program.end() == 1
        assert program.output.splitlines()[-1] == CURE
        assert "Traceback" not in program.output


CURE = "umbel: no file descriptors are left: raise the limit (ulimit -n)"


def test_run_serves_until_a_signal(here):
    with started("-m", "umbel", "run", "shop:app", "--port", "0", cwd=here) as program:
        assert program.url.startswith("http://127.0.0.1:")
        assert program.stop(signal.SIGINT) == 0
    assert program.output.count("listening on") == 1


def test_the_address_is_printed_also_when_logging_is_off(here):
    quiet = "import logging\nlogging.getLogger('umbel').setLevel('CRITICAL')\n"
    (here / "quiet.py").write_text(quiet + APP)
    with started("-m", "umbel", "run", "quiet:app", "--port", "0", cwd=here) as program:
        assert program.url
        assert program.lines == [f"listening on {program_url(program)}\n"]


def program_url(program) -> str:
    return program.lines[0].rpartition(" ")[2].strip()


def test_a_missing_demo(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "umbel.demo", None)
    assert said(capsys, "demo") == (1, "umbel: this installation has no demo\n")


def test_the_demo_gets_its_own_options(monkeypatch):
    import types

    got = []
    module = types.ModuleType("umbel.demo")
    module.main = lambda words: got.append(words)  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "umbel.demo", module)
    assert command.main(["demo", "--port", "1", "--help"]) == 0
    assert got == [["--port", "1", "--help"]]


def test_every_command_is_described():
    assert Path(command.__file__).read_text().startswith('"""The command line')
