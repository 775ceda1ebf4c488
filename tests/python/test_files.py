"""Files as pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from umbel import ConfigurationError, Umbel


def test_a_page_whose_text_is_a_file_name_is_refused(
    app: Umbel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app.page("/first", "index.html")  # there is no such file
    app.page("/long", "<p>" + "文" * 100 + "</p>")  # longer in bytes than a name may be
    Path("index.html").write_text("<p>hello")
    with pytest.raises(ConfigurationError, match=r"write Path\('index.html'\)"):
        app.page("/", "index.html")
    app.page("/", Path("index.html"))


def test_a_packed_file_is_not_what_is_in_it(app: Umbel, tmp_path: Path) -> None:
    for name, kind in [
        ("report.csv", "text/csv; charset=utf-8"),
        ("report.csv.gz", "application/gzip"),
        ("page.html.br", "application/octet-stream"),
        ("photo.png", "image/png"),
    ]:
        (tmp_path / name).write_bytes(b"x")
        app.page(f"/{name}", tmp_path / name)
        assert app._declared.pages[f"/{name}"][0] == kind
