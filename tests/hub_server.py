"""A stand-in for the hub on loopback: as much of its HTTP as huggingface_hub's client asks of it.

Behaviour copied from the hub's documented answers: HEAD and GET of ``/REPO/resolve/REVISION/FILE`` with
``ETag``, ``X-Repo-Commit`` and ``X-Error-Code``, byte ranges, and a 307 with a relative address for a renamed
repository. Repositories called ``datasets/OWNER/NAME`` also answer what they hold, as `datasets` asks it.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_standin"  # noqa: S105 -- of no use anywhere
_RESOLVE = re.compile(r"/(?P<repo>(?:datasets/)?[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_REVISION = re.compile(
    r"/api/(?:models/)?(?P<repo>(?:datasets/)?[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+)|/auth-check)?"
)
_TREE = re.compile(
    r"/api/(?:models/)?(?P<repo>(?:datasets/)?[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?P<folder>/.*)?"
)
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(kw_only=True)
class Repository:
    """One repository: its files, and how the hub answers for it."""

    files: dict[str, bytes] = field(default_factory=dict)
    revisions: frozenset[str] = frozenset({"main", "v1", COMMIT})
    gated: bool = False
    """Whether a token is needed, and the one that the hub knows does not help."""
    private: bool = False
    """Whether only :data:`TOKEN` may see it."""
    moved_to: str | None = None
    status: int | None = None
    """Answer to everything, for a hub in trouble."""
    wait: float = 0
    """Seconds before the answer."""
    ranges: bool = True
    commit: str = COMMIT
    """Commit to name in the answer; empty for a server that is no hub."""
    claimed_size: int | None = None
    """Size to claim in place of the true one."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request that the stand-in received."""

    method: str
    path: str
    token: str | None
    range: str | None


class Hub(ThreadingHTTPServer):
    """Serves :attr:`repositories` and keeps what was asked, in order."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.body_bytes = 0
        """Bytes sent in bodies."""

    @property
    def address(self) -> str:
        """What HF_ENDPOINT must be."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def tokens(self, repository: str) -> set[str | None]:
        """Return the tokens that came with requests for `repository`."""
        return {request.token for request in self.requests if repository in request.path}

    def __enter__(self) -> Hub:  # noqa: PYI034 -- Self needs Python 3.11
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about clients that hang up, which some tests make them do."""


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_args: object) -> None:
        """Write no log."""

    def _answer(self) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.server.requests.append(
            Request(method=self.command, path=self.path, token=token, range=self.headers.get("Range"))
        )
        path = self.path.partition("?")[0]
        found = _RESOLVE.fullmatch(path) or _TREE.fullmatch(path) or _REVISION.fullmatch(path)
        repository = self.server.repositories.get(found["repo"]) if found else None
        if found is None or repository is None or (repository.private and token != TOKEN):
            self._refuse(401 if token is None else 404, "RepoNotFound")
            return
        time.sleep(repository.wait)
        if repository.status is not None:
            self._refuse(repository.status, None)
        elif repository.moved_to is not None:
            self._send(307, {"Location": self.path.replace(found["repo"], repository.moved_to, 1)})
        elif repository.gated:
            self._refuse(401 if token is None else 403, "GatedRepo")
        elif (found["revision"] or "main") not in repository.revisions:
            self._refuse(404, "RevisionNotFound")
        elif found.re is _REVISION:
            held = [{"rfilename": name, "size": len(data)} for name, data in repository.files.items()]
            self._send_json({"id": found["repo"].removeprefix("datasets/"), "sha": COMMIT, "siblings": held})
        elif found.re is _TREE:
            self._send_json(list(_entries(repository.files, (found["folder"] or "").strip("/"))))
        elif found["file"] not in repository.files:
            self._refuse(404, "EntryNotFound")
        else:
            self._send_file(repository, repository.files[found["file"]])

    def _send_file(self, repository: Repository, content: bytes) -> None:
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        if repository.commit:
            headers["X-Repo-Commit"] = repository.commit
        if repository.claimed_size is not None:
            headers["X-Linked-Size"] = str(repository.claimed_size)
        ranged = _RANGE.fullmatch(self.headers.get("Range") or "")
        if ranged and repository.ranges:
            begin, end = int(ranged[1]), min(int(ranged[2]) + 1, len(content))
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
            self._send(206, headers, content[begin:end])
        else:
            self._send(200, headers, content)

    def _send_json(self, answer: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _refuse(self, status: int, code: str | None) -> None:
        self._send(status, {"X-Error-Code": code} if code else {})

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
            self.server.body_bytes += len(body)


def _entries(files: dict[str, bytes], folder: str) -> Iterator[dict[str, object]]:
    """Yield what lies directly in a folder of a repository, as the hub's tree describes it."""
    inside = f"{folder}/" if folder else ""
    below = {path.removeprefix(inside): content for path, content in files.items() if path.startswith(inside)}
    for name in sorted({path.partition("/")[0] for path in below if "/" in path}):
        yield {"type": "directory", "path": inside + name, "oid": COMMIT}
    for path, content in below.items():
        if "/" not in path:
            yield {"type": "file", "path": inside + path, "size": len(content), "oid": COMMIT}
