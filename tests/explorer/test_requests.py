"""`netinv explore` accepts requests of its own page only, and opens only uploaded files."""

from __future__ import annotations

import os
import signal
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from netinv_lightning.data.specs import SPECS
from netinv_lightning.errors import InputError
from netinv_lightning.explorer import command
from netinv_lightning.explorer.pictures import read_picture

pytest.importorskip("starlette")
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from netinv_lightning.explorer.requests import MOST_SENT, MOST_UPLOADED, OwnPageOnly


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "mine.png").write_bytes(b"x")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "uploads" / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(tmp_path / "uploads" / "fifo.png")
    return tmp_path / "uploads"


@pytest.fixture
def client(uploads: Path) -> TestClient:
    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{len(await request.body())} bytes")

    routes = [Route("/{path:path}", answer, methods=["GET", "POST"])]
    return TestClient(
        OwnPageOnly(Starlette(routes=routes), uploads), base_url="http://127.0.0.1:7860"
    )


def sent(client: TestClient, content: Any, **headers: str) -> int:
    return int(client.post("/gradio_api/run/predict", json=content, headers=headers).status_code)


def test_only_uploaded_files_are_accepted(client: TestClient, uploads: Path) -> None:
    assert client.post(
        "/gradio_api/run/predict", json={"data": [{"path": f"{uploads}/mine.png"}]}
    ).text.endswith(" bytes")
    outside = [
        "/etc/hostname",
        f"{uploads}/../secret.png",
        f"{uploads}/link.png",
        f"{uploads}/fifo.png",
        str(uploads),
        f"{uploads}/none.png",
    ]
    for path in (*outside, "mine.png", "http://127.0.0.1:1/x.png", "\0", 7, ["/etc/hostname"]):
        for content in (
            {"path": path},
            {"data": [0, {"path": path, "meta": {"_type": "gradio.FileData"}}]},
            [[{"a": {"path": path}}]],
        ):
            assert sent(client, content) == 403, content


def test_other_origins_cannot_post(client: TestClient) -> None:
    own = "http://127.0.0.1:7860"
    assert sent(client, {}, origin=own) == 200
    for origin in (
        "http://evil.example",
        "null",
        "http://127.0.0.1:7861",
        "http://127.0.0.1:7860.evil.example",
    ):
        assert sent(client, {}, origin=origin) == 403
        assert client.get("/", headers={"origin": origin}).status_code == 403
        assert (
            client.post("/gradio_api/upload", content=b"x", headers={"origin": origin}).status_code
            == 403
        )
    assert sent(client, {}, **{"sec-fetch-site": "cross-site"}) == 403
    assert (
        client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200
    )  # a link to the page


def test_the_size_of_requests_is_limited(client: TestClient) -> None:
    assert client.post("/gradio_api/queue/join", content=b"[" * (MOST_SENT + 1)).status_code == 413
    assert client.post("/gradio_api/queue/join", content=b"[" * 100_000).status_code == 403
    assert client.post("/gradio_api/queue/join", content=b"\xff not json").status_code == 403
    assert client.post("/gradio_api/upload", content=bytes(MOST_SENT)).text == f"{MOST_SENT} bytes"
    assert (
        client.post("/gradio_api/upload", content=bytes(MOST_UPLOADED + MOST_SENT + 1)).status_code
        == 413
    )


def test_huge_pictures_are_refused_before_decoding(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(InputError, match=r"bomb\.png: "):
        read_picture(tmp_path / "bomb.png", SPECS["mnist"])
    Image.new("1", (6000, 6000)).save(tmp_path / "large.png")
    with pytest.raises(
        InputError, match=r"large\.png: has 6000 x 6000 pixels, more than 33,554,432"
    ):
        read_picture(tmp_path / "large.png", SPECS["mnist"])
    Image.new("L", (28, 28)).save(tmp_path / "mine.tiff")
    with pytest.raises(InputError, match=r"mine\.tiff: is not a readable picture"):
        read_picture(tmp_path / "mine.tiff", SPECS["mnist"])


def test_sigterm_removes_the_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []

    def stopped(directory: Path) -> None:
        folders.append(Path(os.environ["GRADIO_TEMP_DIR"]))
        (folders[0] / "picture.png").touch()
        os.kill(os.getpid(), signal.SIGTERM)

    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(command, "_check", lambda directory: None)
    monkeypatch.setattr(command, "load", stopped)
    with command._listening(0) as free:
        port = free.getsockname()[1]
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="143"):
        command.main([str(tmp_path), f"--port={port}"])
    assert len(folders) == 1
    assert not folders[0].exists()
    assert signal.getsignal(signal.SIGTERM) == before
