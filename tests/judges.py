"""A judge on the loopback: the OpenAI protocol, with faults that are asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[int, str], tuple[int, dict[str, str], str] | str | None]
"""(number of the request, what is asked) -> what the judge says; or (status, headers, body); None: no reply at all."""


class Judge:
    def __init__(self, url: str, asked: list[dict[str, Any]]) -> None:
        self.url, self.asked = url, asked


@contextmanager
def judging(reply: Reply) -> Iterator[Judge]:
    asked: list[dict[str, Any]] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                asked.append(body | {"path": self.path, "key": self.headers.get("Authorization")})
                number = len(asked)
            said = reply(number, body["messages"][-1]["content"])
            if said is None:
                self.close_connection = True
                return
            completion = {"id": "1", "object": "chat.completion", "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}]}  # fmt: skip
            status, headers, text = said if isinstance(said, tuple) else (200, {}, json.dumps(completion))
            data = text.encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Judge(f"http://127.0.0.1:{server.server_port}/v1", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
