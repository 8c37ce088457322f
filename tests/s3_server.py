"""An S3 server for tests: moto's, which is no code of ours, behind a door that counts requests and can break them."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

BUCKET = "results"
REGION = "us-east-1"
SECRETS = {
    "AWS_ACCESS_KEY_ID": "a-key-that-nobody-may-see",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-may-see",
}
ENVIRONMENT = {**SECRETS, "AWS_EC2_METADATA_DISABLED": "true"}

Breaks = Callable[[str, str], bool]
"""(method, path with query) -> whether this request is answered with `status`."""


class Server:
    """Listens on a port of this machine until `close`."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self._app = DomainDispatcherApplication(create_backend_app)
        self.asked: list[tuple[str, str]] = []
        """Method and path of every request so far."""
        self.breaks: Breaks = lambda method, path: False
        self.status = "503 Service Unavailable"
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.endpoint = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        made = urllib.request.Request(f"http://{self.endpoint}/{BUCKET}", method="PUT")
        urllib.request.urlopen(made).close()

    def address(self, prefix: str) -> str:
        return f"s3://{BUCKET}/{prefix}?endpoint_override={self.endpoint}&scheme=http&region={REGION}"

    def private(self) -> list[str]:
        """What must not be in any file, message or log."""
        return [*SECRETS.values(), self.endpoint]

    def wrote(self) -> list[str]:
        """Requests so far that change something."""
        return [f"{method} {path}" for method, path in self.asked if method not in ("GET", "HEAD")]

    @contextmanager
    def breaking(self, breaks: Breaks) -> Iterator[None]:
        self.breaks = breaks
        try:
            yield
        finally:
            self.breaks = lambda method, path: False

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        query = environ["QUERY_STRING"]
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"] + (f"?{query}" if query else "")
        self.asked.append((method, path))
        if self.breaks(method, path):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(self.status, [("Content-Length", "0")])
            return [b""]
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer
