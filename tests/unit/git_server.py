"""A Git server on loopback: the real `git http-backend` behind Python's own HTTP server, and repositories for it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_WHO = {
    "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.com", "GIT_COMMITTER_NAME": "t",
    "GIT_COMMITTER_EMAIL": "t@example.com", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
}  # fmt: skip


def git(where: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=where, env=os.environ | _WHO, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@dataclass
class GitServer:
    """`asked` are the paths that were asked for; `elsewhere`, if set, is where every request is sent on to."""

    root: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)
    elsewhere: str | None = None

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    def repository(self, name: str, files: dict[str, str | bytes]) -> Path:
        """A repository with one commit, on the branch main."""
        where = self.root / name
        where.mkdir(parents=True)
        git(where, "init", "--quiet", "--initial-branch=main")
        return self.commit(where, files)

    def commit(self, where: Path, files: dict[str, str | bytes]) -> Path:
        for path, content in files.items():
            (where / path).parent.mkdir(parents=True, exist_ok=True)
            (where / path).write_bytes(content if isinstance(content, bytes) else content.encode())
        git(where, "add", "--all")
        git(where, "commit", "--quiet", "--message=m")
        return where


@contextmanager
def git_server(root: Path, port: int = 0) -> Iterator[GitServer]:
    told = GitServer(root)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            told.asked.append(path)
            if told.elsewhere is not None:
                self.send_response(302)
                self.send_header("Location", told.elsewhere + self.path)
                self.end_headers()
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            environment = {
                "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1",
                "REQUEST_METHOD": self.command, "PATH_INFO": path, "QUERY_STRING": query, "HOME": str(root),
                "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "REMOTE_ADDR": "127.0.0.1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "GIT_CONFIG_NOSYSTEM": "1",
            }  # fmt: skip
            made = subprocess.run(
                ["git", "http-backend"], env=environment, input=body, capture_output=True, check=False
            )
            head, _, content = made.stdout.partition(b"\r\n\r\n")
            fields = [line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line]
            status = next((value for name, value in fields if name.lower() == "status"), "200 OK")
            self.send_response(int(status.split()[0]))
            for name, value in fields:
                if name.lower() != "status":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
