"""A hub on the loopback interface: what the real huggingface_hub client (2.4) asks of one to push, tag, list and pull.

It keeps what it is given as git would: commits with parents, branches, tags; large files by their SHA-256. It refuses
what the Hub refuses: a commit whose parent is not the branch's head, an object that was never uploaded, a tag that is
there, who has no token. `faults` are what goes wrong, in order; `asked` is every request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_thisIsTheSecretOfThisTest"
SIGNATURE = "X-Amz-Signature=0123456789abcdef"
PAGE = 3  # commits at once, so that every longer history is read in pages
LARGE = (".safetensors", ".bin")


@dataclass
class Fault:
    """What happens to requests that match `METHOD PATH`: `status`, or `before`: the connection breaks and nothing is
    done, `after`: it is done and then breaks, `slow`: seconds until it is done, `then`: a call before it is done."""

    where: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    before: bool = False
    after: bool = False
    slow: float = 0.0
    then: Any = None
    times: int = 1


@dataclass
class HubCommit:
    id: str
    parent: str | None
    tree: dict[str, Any]  # path -> bytes, or (SHA-256, size) of a large file
    title: str
    message: str
    author: str
    number: int


@dataclass
class HubRepository:
    private: bool
    commits: dict[str, HubCommit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, branch: str, changes: dict[str, Any], title: str, message: str = "", author: str = "somebody") -> str:
        """A commit on top of a branch; None takes a file away."""
        parent = self.branches.get(branch)
        tree = dict(self.commits[parent].tree) if parent else {}
        tree = {path: content for path, content in (tree | changes).items() if content is not None}
        content = repr((parent, sorted(tree.items()), title, message, len(self.commits)))
        made = HubCommit(
            hashlib.sha1(content.encode()).hexdigest(), parent, tree, title, message, author, len(self.commits)
        )
        self.commits[made.id] = made
        self.branches[branch] = made.id
        return made.id

    def history(self, revision: str = "main") -> list[HubCommit]:
        """Oldest first."""
        found, at = [], self.find(revision)
        while at is not None:
            found.append(self.commits[at])
            at = self.commits[at].parent
        return found[::-1]

    def find(self, revision: str) -> str | None:
        at = self.branches.get(revision) or self.tags.get(revision) or revision
        return at if at in self.commits else None


class Hub(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        self.repositories: dict[str, HubRepository] = {}
        self.objects: dict[str, bytes] = {}  # by SHA-256
        self.uploads: list[str] = []  # SHA-256 of each upload
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        self.taken = 0  # commits

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def saves(self, name: str, revision: str = "main") -> list[tuple[str, str]]:
        """(our id, message) of what was pushed, oldest first."""
        found = []
        for commit in self.repositories[name].history(revision):
            match = re.search(r"^Polyana-Commit: (\w+)$", commit.message, re.MULTILINE)
            found += [(match[1], commit.title)] if match else []
        return found

    def content(self, name: str, revision: str, path: str) -> bytes:
        repository = self.repositories[name]
        held = repository.commits[repository.find(revision)].tree[path]
        return held if isinstance(held, bytes) else self.objects[held[0]]

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def handle_error(self, *_: Any) -> None:
        """A client that was killed is no error."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.take()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD

    def take(self) -> None:
        url = urlsplit(self.path)
        self.raw, self.url, self.query = url.path, unquote(url.path), parse_qs(url.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line = f"{self.command} {self.url}"
        with self.server.lock:
            self.server.asked.append(line)
            fault = next((each for each in self.server.faults if re.search(each.where, line)), None)
            if fault:
                fault.times -= 1
                if fault.times == 0:
                    self.server.faults.remove(fault)
        if fault and fault.slow:
            time.sleep(fault.slow)
        if fault and fault.then:
            fault.then()
        if fault and fault.before:
            return self.break_off()
        if fault and fault.status:
            return self.answer({"error": "on order"}, fault.headers, fault.status)
        if fault and fault.after:
            self.silent = True
        with self.server.lock:
            self.route()
        if fault and fault.after:
            self.break_off()
        return None

    silent = False

    def break_off(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def answer(self, content: Any, headers: dict[str, str] | None = None, status: int = 200) -> None:
        if self.silent:
            return
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.answer({"error": code}, {"X-Error-Code": code, "X-Error-Message": code}, status)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def route(self) -> None:
        if self.url == "/api/repos/create":
            return self.create()
        if self.url == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if match := re.fullmatch(r"/lfs/([0-9a-f]{64})", self.url):
            return self.store(match[1])
        if match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.url):
            return self.batch(match[1])
        match = re.fullmatch(r"(?:/api/models)?/([^/]+/[^/]+)(?:/([a-z]+)(?:/([^/]+)(?:/(.*))?)?)?", self.raw)
        if match is None or (self.url.startswith("/api/") and not self.url.startswith("/api/models/")):
            return self.refuse(404, "NotFound")  # the client asks where it runs
        name, what, revision, path = (
            match[1],
            match[2] or "revision",
            unquote(match[3] or "main"),
            unquote(match[4] or ""),
        )
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not self.known):
            return self.refuse(404 if self.known else 401, "RepoNotFound")
        if self.command in ("POST", "DELETE", "PUT") and not self.known:
            return self.refuse(403, "Forbidden")
        at = repository.find(revision)
        if at is None and what not in ("refs", "branch", "tag"):
            return self.refuse(404, "RevisionNotFound")
        answer = getattr(self, f"on_{what}", None)
        return answer(name, repository, revision, at, path) if answer else self.refuse(404, "NotFound")

    def on_revision(self, name: str, repository: HubRepository, _revision: str, at: str, _path: str) -> None:
        siblings = [{"rfilename": path} for path in repository.commits[at].tree]
        self.answer({"id": name, "sha": at, "private": repository.private, "siblings": siblings})

    def on_refs(self, _name: str, repository: HubRepository, *_: Any) -> None:
        listed = {
            kind: [{"name": key, "ref": f"refs/{kind}/{key}", "targetCommit": value} for key, value in found.items()]
            for kind, found in (("branches", repository.branches), ("tags", repository.tags))
        }
        self.answer(listed | {"converts": []})

    def on_tree(self, _name: str, repository: HubRepository, _revision: str, at: str, _path: str) -> None:
        self.answer([entry(path, held) for path, held in repository.commits[at].tree.items()])

    def create(self) -> None:
        if not self.known:
            return self.answer({"error": "Invalid username or password."}, status=401)
        asked = self.json()
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.server.repositories:
            return self.answer({"error": "You already created this model repo", "url": ""}, status=409)
        repository = self.server.repositories[name] = HubRepository(asked.get("visibility") == "private")
        repository.add("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        return self.answer({"url": f"{self.server.address}/{name}"})

    def on_commits(self, _name: str, repository: HubRepository, revision: str, _at: str, _path: str) -> None:
        page = int(self.query.get("p", ["0"])[0])
        found = repository.history(revision)[::-1]
        listed = [
            {"id": each.id, "title": each.title, "message": each.message, "authors": [{"user": each.author}],
             "date": f"2026-11-29T10:{each.number // 60 % 60:02d}:{each.number % 60:02d}.000Z"}
            for each in found[page * PAGE : (page + 1) * PAGE]
        ]  # fmt: skip
        path = urlsplit(self.path).path
        more = {"Link": f'<{self.server.address}{path}?p={page + 1}>; rel="next"'}
        self.answer(listed, more if len(found) > (page + 1) * PAGE else {})

    def on_resolve(self, _name: str, repository: HubRepository, _revision: str, at: str, path: str) -> None:
        held = repository.commits[at].tree.get(path)
        if held is None:
            return self.refuse(404, "EntryNotFound")
        content = held if isinstance(held, bytes) else self.server.objects[held[0]]
        oid = git_hash(held) if isinstance(held, bytes) else held[0]
        return self.answer(content, {"ETag": f'"{oid}"', "X-Repo-Commit": at})

    def on_preupload(self, _name: str, repository: HubRepository, _revision: str, at: str, _path: str) -> None:
        tree, files = repository.commits[at].tree, []
        for asked in self.json()["files"]:
            held = tree.get(asked["path"])
            oid = None if held is None else git_hash(held) if isinstance(held, bytes) else held[0]
            mode = "lfs" if asked["path"].endswith(LARGE) else "regular"
            files.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.answer({"files": files})

    def batch(self, name: str) -> None:
        if name not in self.server.repositories or not self.known:
            return self.refuse(404, "RepoNotFound")
        listed = []
        for asked in self.json()["objects"]:
            found = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.server.objects:
                href = f"{self.server.address}/lfs/{asked['oid']}?{SIGNATURE}"
                found["actions"] = {"upload": {"href": href, "header": {}}}
            listed.append(found)
        return self.answer({"transfer": "basic", "objects": listed})

    def store(self, digest: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != digest:
            return self.answer({"error": "BadDigest"}, status=400)
        self.server.uploads.append(digest)
        self.server.objects[digest] = self.body
        return self.answer(b"")

    def on_commit(self, name: str, repository: HubRepository, branch: str, _at: str, _path: str) -> None:
        header, changes = {}, {}
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            match item["key"]:
                case "header":
                    header = value
                case "file":
                    changes[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    if value["oid"] not in self.server.objects:
                        return self.answer({"error": f"LFS pointer to {value['oid']} that does not exist"}, status=400)
                    changes[value["path"]] = (value["oid"], len(self.server.objects[value["oid"]]))
                case "deletedFile":
                    changes[value["path"]] = None
        if header.get("parentCommit") not in (None, repository.branches[branch]):
            return self.answer({"error": "A commit has happened since. Please refresh and try again."}, status=412)
        made = repository.add(branch, changes, header["summary"], header.get("description", ""), "us")
        self.server.taken += 1
        return self.answer({"commitUrl": f"{self.server.address}/{name}/commit/{made}", "commitOid": made})

    def on_branch(self, _name: str, repository: HubRepository, name: str, *_: Any) -> None:
        if name in repository.branches:
            return self.refuse(409, "Conflict")
        start = repository.find(self.json().get("startingPoint", "main"))
        if start is None:
            return self.refuse(404, "RevisionNotFound")
        repository.branches[name] = start
        return self.answer({})

    def on_tag(self, _name: str, repository: HubRepository, revision: str, at: str | None, _path: str) -> None:
        if self.command == "DELETE":
            found = repository.tags.pop(revision, None)
            return self.answer({}) if found else self.refuse(404, "RevisionNotFound")
        name = self.json()["tag"]
        if name in repository.tags:
            return self.refuse(409, "Conflict")
        if at is None:
            return self.refuse(404, "RevisionNotFound")
        repository.tags[name] = at
        return self.answer({})


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry(path: str, held: Any) -> dict[str, Any]:
    """A line of a tree."""
    if isinstance(held, bytes):
        return {"type": "file", "path": path, "size": len(held), "oid": git_hash(held)}
    lfs = {"oid": held[0], "size": held[1], "pointerSize": 134}
    return {
        "type": "file",
        "path": path,
        "size": held[1],
        "oid": hashlib.sha1(held[0].encode()).hexdigest(),
        "lfs": lfs,
    }
