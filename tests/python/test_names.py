"""Origins and hosts: those that a browser may send, and why it never sends the others."""

from __future__ import annotations

import pytest
from umbel._declaring.names import NO_HOST, host_problem, origin_problem


@pytest.mark.parametrize(
    "host",
    ["a.example", "A.example.", "*.a.example", "web_1", "203.0.113.5", "[2001:db8::1]", "2001:db8::1"],
)
def test_hosts_are_names_and_addresses(host: str) -> None:
    assert host_problem(host) is None


@pytest.mark.parametrize(
    ("host", "cure"),
    [
        ("https://a.example:8000/x", "write 'a.example'"),
        ("a.example:443", "write 'a.example'"),
        ("[2001:db8::1]:443", "write '[2001:db8::1]'"),
        ("bücher.example", "'xn--bcher-kva.example'"),
        ("*", "'*.example.org'"),
        ("", NO_HOST),
        ("a..example", NO_HOST),
        ("a.*.example", NO_HOST),
        ("fe80::1%eth0", NO_HOST),
        ("ü" * 300, NO_HOST),
    ],
)
def test_a_host_that_no_browser_sends_has_a_cure(host: str, cure: str) -> None:
    assert cure in (host_problem(host) or "")


def test_an_origin_that_no_browser_sends_has_a_cure() -> None:
    assert origin_problem("https://a.example:8443") is None
    assert "write 'https://a.example'" in (origin_problem("https://a.example:443") or "")
