"""The program that stands in for ``vllm``: it passes on what it is asked, and starts at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

#: The environment's names for where answers come from, and for what else it does: "dies" at its
#: start, "falls" when it is to write, or is "mute".
ANSWERS, DOES = "FAKE_VLLM_ANSWERS", "FAKE_VLLM_DOES"


def option(argv: list[str], name: str) -> list[str]:
    """The values of an option."""
    if name not in argv:
        return []
    values = []
    for word in argv[argv.index(name) + 1 :]:
        if word.startswith("--"):
            break
        values.append(word)
    return values


def serve(argv: list[str]) -> None:
    """The program itself, and a process of its own, as vLLM's engine is one, that will not end."""
    answers, lifeline = json.loads(os.environ[ANSWERS])
    does = os.environ.get(DOES, "")
    line = socket.create_connection(("127.0.0.1", lifeline))
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    subprocess.Popen([sys.executable, "-S", "-E", "-c", stubborn], pass_fds=[line.fileno()])
    upstream = f"http://127.0.0.1:{answers}"

    def ask(path: str, body: bytes | None) -> bytes:
        with build_opener(ProxyHandler({})).open(Request(upstream + path, body)) as said:
            return bytes(said.read())

    ask("/start", json.dumps(argv).encode())
    print("INFO: loading")
    if does == "dies":
        print("ValueError: No room for the KV cache, give --gpu-memory-utilization.")
        print("INFO: bye", flush=True)
        sys.exit(7)

    class Handler(BaseHTTPRequestHandler):
        wbufsize = -1

        def do_GET(self) -> None:
            if self.path == "/health":
                self._say(503 if does == "mute" else 200, b"{}")
            else:
                self._pass(None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if does == "falls" and not json.loads(body).get("echo"):
                print("CUDAError: an illegal memory access was encountered", flush=True)
                os._exit(9)
            self._pass(body)

        def _pass(self, body: bytes | None) -> None:
            if self.headers["Authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
                self._say(401, b'{"error": "Unauthorized"}')
                return
            try:
                self._say(200, ask(self.path, body))
            except HTTPError as error:
                self._say(error.code, error.read())

        def _say(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    port = int(option(argv, "--port")[0])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1:])
