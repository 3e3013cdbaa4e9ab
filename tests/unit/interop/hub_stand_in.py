"""A server on this machine with as much of the Hugging Face hub's interface as pushing and pulling use."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_sesame"


@dataclass
class Repository:
    """What a repository holds."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0

    @property
    def sha(self) -> str:
        return f"{self.commits:040x}"


@dataclass
class Hub:
    """The state of the stand-in.

    Attributes:
        repositories: By name.
        objects: Large files that were uploaded, by their SHA-256.
        failing: Parts of paths, to the status with which requests of them are answered; 0 drops the connection.
        requests: Methods and paths, in order.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    failing: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    url: str = ""


@contextmanager
def running() -> Iterator[Hub]:
    """A hub that answers on a port of this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = False
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, content: Any = None, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_request(self) -> None:
        path, body = urlsplit(self.path).path, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {path}")
        if token := self.headers.get("Authorization"):
            self.hub.tokens.add(token)
        for part, status in self.hub.failing.items():
            if part in path:
                if status == 0:
                    self.close_connection = True
                    self.connection.close()
                    return
                self.answer(status, {"error": "failing as asked"})
                return
        if not path.startswith("/upload/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(401, {"error": "Invalid username or password."}, X_Error_Message="Invalid credentials")
            return
        self.route(path, body)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815 - of the standard library

    def route(self, path: str, body: bytes) -> None:
        parts = path.strip("/").split("/")
        if path == "/api/repos/create":
            self.create(json.loads(body))
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif parts[0] == "upload":
            self.hub.objects[parts[1]] = body
            self.answer(200)
        else:
            name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2]).removesuffix(".git")
            repository = self.hub.repositories.get(name)
            if repository is None:
                self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            elif parts[0] == "api":
                self.repository(name, repository, parts[4:], body)
            elif parts[2:4] == ["info", "lfs"]:
                self.batch(json.loads(body))
            else:
                self.resolve(repository, parts[3], "/".join(parts[4:]))

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        url = f"{self.hub.url}/{name}"
        if name in self.hub.repositories:
            self.answer(409, {"error": "You already created this model repo", "url": url})
            return
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.repositories[name] = Repository(bool(private), {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.answer(200, {"url": url, "name": name})

    def repository(self, name: str, repository: Repository, rest: list[str], body: bytes) -> None:
        match rest[:1]:
            case [] | ["revision"]:
                if rest[1:] not in ([], ["main"], [repository.sha]):
                    self.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
                    return
                siblings = [{"rfilename": each} for each in sorted(repository.files)]
                known = {"id": name, "sha": repository.sha, "private": repository.private, "siblings": siblings}
                self.answer(200, known)
            case ["preupload"]:
                files = [
                    {
                        "path": one["path"],
                        "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                        "oid": oid_of(repository.files.get(one["path"])),
                    }
                    for one in json.loads(body)["files"]
                ]
                self.answer(200, {"files": files})
            case ["commit"]:
                self.commit(name, repository, [json.loads(line) for line in body.splitlines()])
            case _:
                self.answer(404)

    def batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for one in asked["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/upload/{one['oid']}"}}
            objects.append({**one, **({} if one["oid"] in self.hub.objects else {"actions": upload})})
        self.answer(200, {"transfer": "basic", "objects": objects})

    def commit(self, name: str, repository: Repository, lines: list[dict[str, Any]]) -> None:
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repository.sha):
            self.answer(412, {"error": "A commit has happened since."})
            return
        for line in lines[1:]:
            value = line["value"]
            match line["key"]:
                case "file":
                    repository.files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    repository.files[value["path"]] = self.hub.objects[value["oid"]]
                case "deletedFile":
                    del repository.files[value["path"]]
        repository.commits += 1
        self.answer(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{repository.sha}", "commitOid": repository.sha})

    def resolve(self, repository: Repository, revision: str, name: str) -> None:
        content = repository.files.get(name)
        if content is None or revision not in ("main", repository.sha):
            self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
            return
        etag = hashlib.sha256(content).hexdigest()
        self.answer(200, content, ETag=f'"{etag}"', X_Repo_Commit=repository.sha)


def oid_of(content: bytes | None) -> str | None:
    """The id of a file in git."""
    return None if content is None else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
