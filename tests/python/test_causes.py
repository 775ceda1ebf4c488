"""Errors of the system at the start, and what they say."""

import errno

import pytest
from umbel import Settings
from umbel._serving import causes


@pytest.mark.parametrize(
    ("number", "options", "says"),
    [
        (errno.EADDRINUSE, {"unix_socket": "/tmp/s"}, "another server listens there"),
        (errno.EACCES, {"port": 80}, "ports below 1024"),
        (errno.EACCES, {"unix_socket": "/root/s"}, "may write to"),
        (errno.EMFILE, {}, "ulimit"),
        (None, {}, "ulimit"),
        (errno.EIO, {}, "can't listen here"),
    ],
)
def test_errors_of_the_system_name_the_cure(number, options, says):
    error = OSError(number, "can't listen here") if number else OSError("too many (os error 24)")
    assert says in causes.explain(error, Settings(**options))


def test_a_taken_port_whose_holder_is_hidden(monkeypatch):
    monkeypatch.setattr(causes, "holder_of", lambda port: None)
    assert "ss -ltnp" in causes.explain(OSError(errno.EADDRINUSE, "x"), Settings())


def test_nobody_holds_a_port_that_is_free():
    assert causes.holder_of(1) is None
