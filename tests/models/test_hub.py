"""The real huggingface_hub client against a stand-in that speaks the hub's protocol on the loopback interface."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from small_models import save, small_model, small_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_this_test"

CLIENT = """
import json, sys
from pathlib import Path
from polyana.errors import UserError
from polyana.models import base_inputs, convert_base, parse_base
from polyana.storage import ContentDigests
from polyana.tracking import Console

found = {}
for text in sys.argv[2:]:
    try:
        reference = parse_base(text)
        found[text] = base_inputs(reference, Path(), ContentDigests(Path("digests.json")), lambda *_: "recipe.yaml:7")
        if sys.argv[1] != "-":
            directory = Path(sys.argv[1]) / reference.name.replace("/", "-")
            directory.mkdir(parents=True, exist_ok=True)
            convert_base(reference, found[text], Path(), directory, Console())
    except UserError as error:
        found[text] = str(error)
print(json.dumps(found))
"""


class Hub(ThreadingHTTPServer):
    """`org/open`, `org/closed` for who has the token, and `org/gguf` without a config; `asked`: every path."""

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.directory, self.asked = directory, []


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, token = self.path.split("?")[0], self.headers.get("Authorization", "")
        self.server.asked.append(path)
        if path == "/api/agent-harnesses":  # the client asks where it runs
            return self.refuse(404, "RepoNotFound")
        words = path.removeprefix("/api/models").strip("/").split("/")
        name, what, revision, file = "/".join(words[:2]), words[2], words[3], "/".join(words[4:])
        if name not in ("org/open", "org/closed", "org/gguf"):
            return self.refuse(404, "RepoNotFound")
        if name == "org/closed" and token != f"Bearer {TOKEN}":
            return self.refuse(401, "GatedRepo")
        if revision not in ("main", COMMIT):
            return self.refuse(404, "RevisionNotFound")
        held = sorted(path for path in self.server.directory.rglob("*") if path.is_file())
        files = {str(path.relative_to(self.server.directory)): path for path in held}
        if name == "org/gguf":
            files = {"big.gguf": files["model.safetensors"]}
        if what == "revision":
            return self.answer({"id": name, "sha": COMMIT, "siblings": [{"rfilename": each} for each in files]})
        if what == "tree":
            listed = [{"type": "file", "path": each, "size": path.stat().st_size} for each, path in files.items()]
            return self.answer([entry | {"oid": self.etag(files[entry["path"]])} for entry in listed])
        if what == "resolve" and file in files:
            return self.answer(
                files[file].read_bytes(), {"ETag": f'"{self.etag(files[file])}"', "X-Repo-Commit": COMMIT}
            )
        return self.refuse(404, "EntryNotFound")

    def etag(self, path: Path) -> str:
        return hashlib.sha1(path.read_bytes()).hexdigest()

    def answer(self, content: object, headers: dict[str, str] | None = None, status: int = 200) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.answer({"error": code}, {"X-Error-Code": code, "X-Error-Message": code}, status)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path):
    shown = save(tmp_path / "shown", small_model(), small_tokenizer())
    (shown / "onnx").mkdir()
    (shown / "onnx" / "model.safetensors").write_bytes(b"another form of the weights")
    server = Hub(shown)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def client(hub, home, into, *texts, **more):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    process = subprocess.run(
        [sys.executable, "-c", CLIENT, str(into), *texts],
        env=environment | more, cwd=home.parent, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_a_model_comes_from_the_hub_by_its_commit_and_then_without_it(tmp_path, hub):
    from transformers import AutoModelForCausalLM

    home = tmp_path / "hf"
    found = client(
        hub, home, tmp_path / "ours", "hub:org/open", "hub:org/closed@main", "hub:org/gguf", "hub:org/open@v9",
        "hub:org/none", f"hub:org/open@{COMMIT[:-1]}8", HF_TOKEN=TOKEN,
    )  # fmt: skip
    assert found["hub:org/open"] == found["hub:org/closed@main"] == {"commit": COMMIT}
    for name in ("org-open", "org-closed"):
        ours = AutoModelForCausalLM.from_pretrained(tmp_path / "ours" / name).state_dict()
        assert all((weight == ours[key]).all() for key, weight in small_model().state_dict().items())
    assert not [path for path in hub.asked if "onnx" in path]
    assert (
        "`base: hub:org/gguf@main`: the hub's model has no config.json; of a repository of GGUF"
        in found["hub:org/gguf"]
    )
    assert found["hub:org/open@v9"] == (
        "recipe.yaml:7  `base: hub:org/open@v9`: the model has no revision `v9`; write a branch, a tag or a commit"
    )
    assert "the hub has no such model, or it is private" in found["hub:org/none"]
    assert "the hub's files could not be downloaded" in found[f"hub:org/open@{COMMIT[:-1]}8"]

    hub.shutdown()
    hub.server_close()
    asked = len(hub.asked)
    offline = client(hub, home, tmp_path / "again", "hub:org/open", "hub:org/never", HF_HUB_OFFLINE="1")
    assert offline["hub:org/open"] == {"commit": COMMIT}
    assert (tmp_path / "again" / "org-open" / "model.safetensors").is_file()
    assert "the hub cannot be reached, and the model is not in its cache" in offline["hub:org/never"]
    unreachable = client(hub, home, "-", "hub:org/open@main")
    assert unreachable == {"hub:org/open@main": {"commit": COMMIT}}
    assert len(hub.asked) == asked


def test_who_has_no_token_is_told_of_it(tmp_path, hub):
    found = client(hub, tmp_path / "hf", "-", "hub:org/closed")
    assert "its owner must let you in: ask on its page, then set HF_TOKEN" in found["hub:org/closed"]
