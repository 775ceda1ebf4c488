"""What the words and the file of ``umbel load`` say of a load."""

import argparse
import dataclasses
import difflib
import time
import tomllib
from pathlib import Path
from typing import Any, Final

from umbel.load import LoadConfig

from .token import sign


def values(parsed: argparse.Namespace) -> dict[str, Any]:
    """The values of the configuration that were given."""
    given = vars(parsed)
    found = read(given["config"]) if given["config"] else {}
    found |= {name: given[name] for name in FIELDS if given.get(name) is not None}
    if "metrics_token" in given:
        found["metrics_token"] = Path(given["metrics_token"]).read_text("utf-8").strip()
    if "ramp" in given:
        found["ramp_up_rate"], found["ramp_up_delay"] = given["ramp"]
    if "stage" in given:
        found["stages"] = given["stage"]
    if "header" in given:
        found["headers"] = dict(field_of(text) for text in given["header"])
    if "answer" in given:
        found["answers"] = dict(answer_of(text) for text in given["answer"])
    if "tokens" in given:
        found["tokens"] = Path(given["tokens"]).read_text("utf-8").split()
    if "jwt_secret" in given:
        found["tokens"] = signed(found, Path(given["jwt_secret"]).read_bytes(), given["jwt_subject"])
    return found


def signed(found: dict[str, Any], key: bytes, subject: str) -> list[str]:
    """A token for each connection. It may read and publish the channels of the load, and lives longer."""
    names: dict[str, Any] = {each.name: each.default for each in dataclasses.fields(LoadConfig)}
    names |= found
    time_needed = sum(names[name] for name in ("warm_up", "seconds", "drain", "timeout"))
    time_needed += (
        sum(held for _, held in names["stages"]) + names["target_connections"] * names["ramp_up_delay"]
    )
    now = int(time.time())
    channels = [names["channel"]] if names["channels"] == 1 else [f"{names['channel']}-*"]
    claims = {"iat": now, "exp": now + HOUR + int(time_needed), "channels": channels, "publish": channels}
    count = names["target_connections"] + names["slow"] + names["publishers"]
    return [sign({"sub": subject.replace("{n}", str(n)), **claims}, key, "HS256") for n in range(count)]


def read(path: str) -> dict[str, Any]:
    """Read a file of values.

    Raises:
        ValueError: if it is not TOML, or has a key that means nothing.
        OSError: if it can't be read.
    """
    with open(path, "rb") as file:
        try:
            found = tomllib.load(file)
        except tomllib.TOMLDecodeError as error:
            msg = f"{path} is not TOML: {error}"
            raise ValueError(msg) from None
    for name in found:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            kind = "table" if isinstance(found[name], dict) else "key"
            msg = f"{path} has a {kind} that means nothing: {name}{hint}"
            raise ValueError(msg)
    return found


def ramp(text: str) -> tuple[int, float]:
    """Read ``50/100ms``."""
    number, _, time = text.partition("/")
    try:
        return int(number), seconds(time)
    except ValueError:
        msg = f"{text!r} is no pace: 50/100ms begins 50 connections each 100 ms"
        raise argparse.ArgumentTypeError(msg) from None


def stage(text: str) -> tuple[int, float]:
    """Read ``1000/30s``."""
    number, _, time = text.partition("/")
    try:
        return int(number), seconds(time)
    except ValueError:
        msg = f"{text!r} is no stage: 1000/30s holds 1,000 connections for 30 seconds"
        raise argparse.ArgumentTypeError(msg) from None


def seconds(text: str) -> float:
    """Read a time with its unit."""
    number, unit = (text[:-2], text[-2:]) if text.endswith("ms") else (text.removesuffix("s"), "s")
    return float(number) / (1000 if unit == "ms" else 1)


def field_of(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        msg = f"{text!r} is no field of a header: 'Name: value'"
        raise ValueError(msg)
    return name.strip(), value.strip()


def answer_of(text: str) -> tuple[str, str]:
    prefix, equals, answer = text.partition("=")
    if not equals or not prefix:
        msg = f"{text!r} is no answer: PREFIX=TEXT, as in 2=3"
        raise ValueError(msg)
    return prefix, answer


HOUR: Final = 3600

FIELDS: Final = [each.name for each in dataclasses.fields(LoadConfig) if each.init]
