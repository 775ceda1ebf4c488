"""``umbel token``: what it signs, and what its errors say."""

from __future__ import annotations

import pathlib
import time

import pytest
from test_command import said
from tokens import SECRET
from umbel import JWT


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMBEL_KEY", SECRET)


def test_a_token_of_the_command_is_accepted_by_its_application(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--subject", "ada", "--channels", "task:*", "--channels", "room:7", "--publish", "task:1"]
    for algorithm in ("HS256", "HS384", "HS512"):
        more = ["--algorithm", algorithm, "--audience", "chat", "--issuer", "me", "--expires", "15m"]
        code, text = said(capsys, "token", *words, *more)
        assert code == 0
        auth = JWT(key=SECRET, algorithms=[algorithm], audience="chat", issuer="me", max_lifetime=900)
        identity = auth.verify(text.removesuffix("\n"))
        assert identity.subject == "ada"
        assert identity.claims["channels"] == ["task:*", "room:7"]
        assert identity.claims["publish"] == ["task:1"]
        assert identity.expires == pytest.approx(time.time() + 900, abs=30)


def test_without_options_it_is_good_for_an_hour(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "token", "--subject", "ada")
    identity = JWT(key=SECRET, algorithms=["HS256"]).verify(text.strip())
    assert code == 0
    assert set(identity.claims) == {"sub", "iat", "exp"}
    assert identity.claims["exp"] - identity.claims["iat"] == 3600


def test_the_secret_may_be_in_a_file(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_bytes(b"\x00" * 32)
    code, text = said(capsys, "token", "--subject", "ada", "--key-file", str(tmp_path / "key"))
    assert code == 0
    assert JWT(key=b"\x00" * 32, algorithms=["HS256"]).verify(text.strip()).subject == "ada"
    code, text = said(capsys, "token", "--subject", "ada", "--key-file", str(tmp_path / "none"))
    assert (code, "can't be read" in text) == (1, True)


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ([], 2, "--subject"),
        (["--subject", "ada", "--expires", "1x"], 2, "--expires"),
        (["--subject", "ada", "--expires", "0"], 2, "--expires"),
        (["--subject", "ada", "--expires", "-5"], 2, "--expires"),
        (["--subject", ""], 1, "a claim of the token"),
        (["--subject", "ada", "--algorithm", "none"], 2, "--algorithm"),
        (["--subject", "ada", "--channels", "a*b"], 2, "only the last character"),
        (["--subject", "ada", "--publish", "**"], 2, "only the last character"),
        (["--subject", "ada", "--expires", "7d"], 0, "JWT(max_lifetime=604800)"),
    ],
)
def test_what_can_not_be_is_explained(
    capsys: pytest.CaptureFixture[str], options: list[str], status: int, says: str
) -> None:
    code, text = said(capsys, "token", *options)
    assert code == status
    assert says in text
    assert SECRET not in text


def test_a_secret_that_is_missing_or_short_is_explained(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UMBEL_KEY", "short")
    code, text = said(capsys, "token", "--subject", "ada")
    assert (code, "at least 32 bytes" in text) == (1, True)
    monkeypatch.delenv("UMBEL_KEY")
    code, text = said(capsys, "token", "--subject", "ada")
    assert (code, "UMBEL_KEY" in text) == (2, True)
