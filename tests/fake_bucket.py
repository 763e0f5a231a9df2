"""A small Google Cloud Storage on this machine: what TensorStore, gcsfs and Google's own client ask of its JSON API.

Objects are held in memory, with the generations, preconditions, ranges and pages that the documentation of the API
gives them (https://cloud.google.com/storage/docs/json_api/v1). What is not known here is answered by an error, so that
nothing passes by luck.
"""

import base64
import contextlib
import hashlib
import itertools
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

PAGE = 5  # objects in a page of a listing: clients must ask for the next

Answer = tuple[int, bytes | dict[str, Any], dict[str, str]]  # status, body, headers


@dataclass
class Store:
    """What the server holds, and has been asked.

    Attributes:
      buckets: ``{bucket: {name: (generation, content)}}``.
      requests: all, in order.
      written: the names of the objects that were written, in order.
      refuse: ``(method, name) -> status`` of an error to answer, or None.
      uploads: those that come in pieces.
      generations: numbers for what is written next.
      delay: seconds before each answer.
      lock: of all this.
    """

    buckets: dict[str, dict[str, tuple[int, bytes]]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    refuse: Callable[[str, str], int | None] = lambda method, name: None
    uploads: dict[str, dict[str, Any]] = field(default_factory=dict)
    generations: Iterator[int] = field(default_factory=lambda: itertools.count(1_700_000_000_000_000))
    delay: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Of the objects, in order."""
        return sorted(name for name in self.buckets[bucket] if name.startswith(prefix))

    def put(self, bucket: str, name: str, content: bytes, asked: dict[str, str]) -> Answer:
        with self.lock:
            if (status := self.refuse("PUT", name)) is not None:
                return status, _error(status, "refused by the test"), {}
            if (missed := self._precondition(bucket, name, asked)) is not None:
                return missed
            self.buckets[bucket][name] = (next(self.generations), content)
            self.written.append(name)
            return 200, self.resource(bucket, name), {}

    def delete(self, bucket: str, name: str, asked: dict[str, str]) -> Answer:
        with self.lock:
            if name not in self.buckets[bucket]:
                return _missing(name)
            if (missed := self._precondition(bucket, name, asked)) is not None:
                return missed
            del self.buckets[bucket][name]
            return 204, b"", {}

    def get(self, bucket: str, name: str, asked: dict[str, str], span: str | None) -> Answer:
        with self.lock:
            if name not in self.buckets[bucket]:
                return _missing(name)
            generation, content = self.buckets[bucket][name]
            if asked.get("generation", str(generation)) != str(generation):
                return _missing(name)
            if (missed := self._precondition(bucket, name, asked)) is not None:
                return missed
            if asked.get("alt") != "media":
                return 200, self.resource(bucket, name), {}
        told = {"x-goog-generation": str(generation), "x-goog-hash": _hashes(content)}
        if span is None:
            return 200, content, told
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", span).groups()
        first, last = int(first), min(int(last or len(content)), len(content) - 1)
        if first >= len(content):
            return 416, b"", {"Content-Range": f"bytes */{len(content)}"}
        told["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return 206, content[first : last + 1], told

    def list(self, bucket: str, asked: dict[str, str]) -> Answer:
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter")
        after, until = max(asked.get("startOffset", ""), asked.get("pageToken", "")), asked.get("endOffset")
        entries: dict[str, bool] = {}
        with self.lock:
            for name in self.names(bucket, prefix):
                cut = name.find(delimiter, len(prefix)) if delimiter else -1
                shown = name if cut < 0 else name[: cut + 1]
                if shown >= after and (until is None or shown < until):
                    entries[shown] = cut >= 0
            room = min(int(asked.get("maxResults", PAGE)), PAGE)
            page, rest = list(entries)[:room], list(entries)[room:]
            told: dict[str, Any] = {"kind": "storage#objects"}
            if items := [self.resource(bucket, name) for name in page if not entries[name]]:
                told["items"] = items
            if prefixes := [name for name in page if entries[name]]:
                told["prefixes"] = prefixes
            return 200, told | ({"nextPageToken": rest[0]} if rest else {}), {}

    def resource(self, bucket: str, name: str) -> dict[str, Any]:
        generation, content = self.buckets[bucket][name]
        hashes = dict(pair.split("=", 1) for pair in _hashes(content).split(","))
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{generation}",
            "name": name,
            "bucket": bucket,
            "generation": str(generation),
            "metageneration": "1",
            "contentType": "application/octet-stream",
            "size": str(len(content)),
            "md5Hash": hashes["md5"],
            "crc32c": hashes["crc32c"],
            "etag": str(generation),
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "updated": "2026-01-01T00:00:00.000Z",
            "storageClass": "STANDARD",
        }

    def _precondition(self, bucket: str, name: str, asked: dict[str, str]) -> Answer | None:
        there = str(self.buckets[bucket].get(name, (0,))[0])
        if asked.get("ifGenerationMatch", there) != there:
            return 412, _error(412, "conditionNotMet"), {}
        if asked.get("ifGenerationNotMatch") == there:
            return 304, b"", {}
        return None


def _hashes(content: bytes) -> str:
    crc = base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
    return f"crc32c={crc},md5={base64.b64encode(hashlib.md5(content).digest()).decode()}"


def _error(code: int, reason: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": reason, "errors": [{"reason": reason, "message": reason}]}}


def _parts(kind: str, body: bytes) -> list[bytes]:
    """The contents of a multipart body, byte by byte."""
    boundary = b"--" + re.search(r'boundary="?([^";]+)', kind)[1].encode()
    inner = re.split(b"(?:^|\r?\n)" + re.escape(boundary), body)[1:-1]
    return [re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1] for part in inner]


def _missing(name: str) -> Answer:
    return 404, _error(404, f"No such object: {name}"), {}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is sent in one piece: of two, the second waits for the first to be acknowledged
    store: Store

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def log_message(self, *args: Any) -> None:
        """Nothing: the store keeps them."""

    def _answer(self, method: str) -> None:
        body = self._body()
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
        self.store.requests.append(f"{method} {unquote(self.path)}")
        time.sleep(self.store.delay)
        try:
            status, told, headers = self._found(method, address.path, asked, body)
        except Exception as error:  # a bug of this file must not look like a server that is slow
            status, told, headers = 400, _error(400, repr(error)), {}
        content = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/octet-stream" if isinstance(told, bytes) else "application/json")
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if status not in (204, 304):
            self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _found(self, method: str, path: str, asked: dict[str, str], body: bytes) -> Answer:
        store = self.store
        found = re.fullmatch(r"(/upload|/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", path)
        if found is None:
            return 400, _error(400, f"not known here: {method} {path}"), {}
        kind, bucket, name = found[1] or "", unquote(found[2]), found[3]
        if (status := store.refuse(method, unquote(name or asked.get("name", "")))) is not None:
            return status, _error(status, "refused by the test"), {}
        if bucket not in store.buckets:
            return 404, _error(404, "The specified bucket does not exist."), {}
        if (
            name
            and (other := re.fullmatch(r"([^/]+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/([^/]+)", name))
            and method == "POST"
        ):
            return self._copy(bucket, unquote(other[1]), unquote(other[2]), unquote(other[3]), asked)
        if name is not None and "/" in name:
            return 400, _error(400, f"not known here: {method} {path}"), {}
        if kind == "/upload":
            return self._upload(method, bucket, asked, body)
        if method == "GET" and name is None:
            whole = path.endswith("/o")
            return (
                store.list(bucket, asked)
                if whole
                else (200, {"kind": "storage#bucket", "name": bucket, "id": bucket}, {})
            )
        if method == "GET":
            return store.get(bucket, unquote(name), asked, self.headers.get("Range"))
        if method == "DELETE" and name is not None:
            return store.delete(bucket, unquote(name), asked)
        return 400, _error(400, f"not known here: {method} {path}"), {}

    def _copy(self, bucket: str, name: str, into: str, new: str, asked: dict[str, str]) -> Answer:
        store = self.store
        with store.lock:
            if name not in store.buckets[bucket] or into not in store.buckets:
                return _missing(name)
            content = store.buckets[bucket][name][1]
            status, told, headers = store.put(into, new, content, asked)
        size = str(len(content))
        done = {"kind": "storage#rewriteResponse", "done": True, "objectSize": size, "totalBytesRewritten": size}
        return (status, done | {"resource": told}, headers) if status == 200 else (status, told, headers)

    def _upload(self, method: str, bucket: str, asked: dict[str, str], body: bytes) -> Answer:
        store = self.store
        if (begun := store.uploads.get(asked.get("upload_id", ""))) is not None:
            return self._chunk(begun, body)
        if asked["uploadType"] == "media":
            return store.put(bucket, asked["name"], body, asked)
        if asked["uploadType"] == "multipart":
            about, content = _parts(self.headers["Content-Type"], body)
            return store.put(bucket, json.loads(about)["name"], content, asked)
        name = asked.get("name") or json.loads(body)["name"]
        identity = f"upload-{next(store.generations)}"
        store.uploads[identity] = {"bucket": bucket, "name": name, "asked": asked, "content": b""}
        where = (
            f"http://{self.headers['Host']}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={identity}"
        )
        return 200, b"", {"Location": where}

    def _chunk(self, begun: dict[str, Any], body: bytes) -> Answer:
        held = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", self.headers.get("Content-Range", "bytes */*"))
        if held[1] is not None:
            begun["content"] = begun["content"][: int(held[1])] + body
        elif body:
            begun["content"] = body
        if held[3] != "*" and len(begun["content"]) == int(held[3]):
            return self.store.put(begun["bucket"], begun["name"], begun["content"], begun["asked"])
        seen = len(begun["content"])
        return 308, b"", {"Range": f"bytes=0-{seen - 1}"} if seen else {}


class Server(ThreadingHTTPServer):
    """Says nothing of clients that hung up: some ask two questions and wait for one answer, others are killed."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serve(*buckets: str) -> Iterator[tuple[str, Store]]:
    """The address of a server that has these buckets, empty, and what it holds; until the end of the block."""
    store = Store({name: {} for name in buckets})
    server = Server(("127.0.0.1", 0), type("OfStore", (Handler,), {"store": store}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", store
    finally:
        server.shutdown()
        server.server_close()
