"""Downloads, against a server on loopback that speaks the hub's protocol."""

import hashlib
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants
from test_weights import make_model

from b2v.errors import UsageError, WeightsError
from b2v.weights import Card, download, hub, list_models, load_model, verify, write_card

REVISION = "a" * 40
SOURCE = f"hf://someone/tiny@{REVISION}"
BLOB = bytes(range(256)) * 800  # 204,800 bytes: several pieces


class Hub(BaseHTTPRequestHandler):
    """HEAD and GET of /owner/repo/resolve/revision/file, redirected to /cdn as for large files.

    `server.heads` has answers to the coming requests in their place, and
    `server.script` says what happens to the coming transfers, one word each: "cut" ends it
    after half of what is left, "reset" does so by a reset connection, "dead" before the first
    byte, "stall" stops in the middle, "whole" ignores Range, "busy" answers 503.
    """

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        server = self.server
        if self.path.startswith("/cdn/"):
            return self.transfer(server.files[self.path.removeprefix("/cdn/")])
        _, repo, revision, name = self.path.split("/", 1)[1].replace("/resolve/", "/", 1).split("/")
        if server.heads:
            self.send_response(server.heads.pop(0))
            self.send_header("Content-Length", "0")
            return self.end_headers()
        error = None
        if repo != "tiny":
            error = "RepoNotFound"
        elif revision != REVISION:
            error = "RevisionNotFound"
        elif name not in server.files:
            error = "EntryNotFound"
        server.seen.append((self.command, name))
        self.send_response(404 if error else 302)
        if error:
            self.send_header("X-Error-Code", error)
        else:
            content = server.files[name]
            digest = server.etag or hashlib.sha256(content).hexdigest()
            self.send_header("Location", f"http://localhost:{server.server_port}/cdn/{name}")
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("X-Linked-Etag", f'"{digest}"')
            self.send_header("X-Linked-Size", server.size or str(len(content)))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def transfer(self, content):
        server = self.server
        act = server.script.pop(0) if server.script else "send"
        start = 0
        if (asked := self.headers.get("Range")) and act != "whole":
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        server.ranges.append(asked)
        if act == "dead":
            return
        self.send_response(503 if act == "busy" else 206 if start else 200)
        rest = content[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if act in ("cut", "reset", "stall"):
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)
        self.wfile.flush()
        if act == "stall":
            server.over.wait(5)
        if act == "reset":
            server.got_half.wait(5)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.script, server.seen, server.ranges = {"blob.safetensors": BLOB}, [], [], []
    server.heads = []
    server.size, server.etag, server.over, server.got_half = (
        None,
        None,
        threading.Event(),
        threading.Event(),
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("B2V_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("B2V_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr("b2v.files.shipped_dir", lambda: tmp_path / "shipped")
    monkeypatch.setattr(hub, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # Without this the hub's client asks huggingface.co for a list before its first request.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def fetch_blob(**options):
    return hub.fetch(hub.parse_address(f"{SOURCE}/blob.safetensors"), **options)


def leftovers(path):
    """Names in the folder of `path`."""
    return sorted(p.name for p in path.parent.iterdir())


def test_whole_file_is_kept_under_its_revision(server, tmp_path):
    calls = []
    path = fetch_blob(progress=lambda *call: calls.append(call))
    assert path == tmp_path / "cache" / "hub" / "someone--tiny" / REVISION / "blob.safetensors"
    assert path.read_bytes() == BLOB
    assert leftovers(path) == ["blob.safetensors"]
    assert calls[-1] == ("blob.safetensors", len(BLOB), len(BLOB))
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)


def test_second_download_asks_nobody(server):
    fetch_blob()
    server.seen.clear()
    fetch_blob()
    assert server.seen == []


def test_transfer_that_is_cut_goes_on_from_there(server):
    server.script = ["cut", "cut"]
    assert fetch_blob().read_bytes() == BLOB
    assert server.ranges == [None, f"bytes={len(BLOB) // 2}-", f"bytes={len(BLOB) * 3 // 4}-"]


def test_connection_that_is_reset_goes_on_from_there(server):
    server.script = ["reset"]

    def progress(_name, done, _total):
        if done >= len(BLOB) // 2:
            server.got_half.set()

    assert fetch_blob(progress=progress).read_bytes() == BLOB
    assert server.ranges == [None, f"bytes={len(BLOB) // 2}-"]


def test_transfer_that_stalls_goes_on_after_the_time_limit(server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    server.script = ["stall"]
    assert fetch_blob().read_bytes() == BLOB
    assert len(server.ranges) == 2


def test_server_without_ranges_is_started_anew(server):
    server.script = ["cut", "whole"]
    assert fetch_blob().read_bytes() == BLOB


def test_transfer_cut_for_good_keeps_what_came_for_the_next_call(server):
    server.script = ["cut", "dead", "dead", "dead"]
    with pytest.raises(WeightsError) as caught:
        fetch_blob()
    message = str(caught.value)
    assert f"cut off at {len(BLOB) // 2:,} of {len(BLOB):,} bytes" in message
    assert "try again, what has come is kept" in message
    assert "\n" not in message
    assert caught.value.exit_code == 3
    server.ranges.clear()
    path = fetch_blob()
    assert path.read_bytes() == BLOB
    assert server.ranges == [f"bytes={len(BLOB) // 2}-"]
    assert leftovers(path) == ["blob.safetensors"]


def test_spoilt_rest_of_an_earlier_call_is_thrown_away(server):
    server.script = ["cut", "dead", "dead", "dead"]
    with pytest.raises(WeightsError):
        fetch_blob()
    (part,) = hub.parse_address(f"{SOURCE}/blob.safetensors").path.parent.glob("*.part")
    part.write_bytes(b"x" * part.stat().st_size)
    assert fetch_blob().read_bytes() == BLOB


@pytest.mark.parametrize("size", ["204799", "-5"])
def test_no_more_is_taken_than_the_size_that_the_hub_states(server, tmp_path, size):
    server.size = size
    with pytest.raises(WeightsError, match="204,799 bytes" if size == "204799" else "as a hub"):
        fetch_blob()
    assert not list((tmp_path / "cache").rglob("*blob*"))


def test_a_version_of_the_hub_is_no_path(server, tmp_path):
    server.etag = "../../../evil"
    assert fetch_blob().read_bytes() == BLOB
    assert not list(tmp_path.glob("*evil*"))


@pytest.mark.parametrize(
    "repo", ["owner/my--model", "../..", "owner/..", "owner/.x", "owner/x-", "o/" + "x" * 97, "o/é"]
)
def test_names_that_the_hub_does_not_have_are_no_address(repo):
    with pytest.raises(UsageError, match="not an address"):
        hub.parse_address(f"hf://{repo}@v1/x.json")


@pytest.mark.parametrize("teller", ["card", "hub"])
def test_file_with_a_wrong_hash_is_deleted(server, teller):
    if teller == "hub":
        server.etag = "b" * 64
    with pytest.raises(WeightsError, match=r"expected bbbbbbbbbbbb…, and was deleted; try again"):
        fetch_blob(sha256="b" * 64 if teller == "card" else "")
    assert leftovers(hub.parse_address(f"{SOURCE}/blob.safetensors").path) == []


def test_damaged_file_in_the_cache_is_downloaded_again(server):
    path = fetch_blob()
    path.write_bytes(b"damaged")
    assert fetch_blob(sha256=hashlib.sha256(BLOB).hexdigest()).read_bytes() == BLOB


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (f"hf://someone/other@{REVISION}/blob.safetensors", "no such repository, or it is private"),
        (f"hf://someone/tiny@{'c' * 40}/blob.safetensors", "no such revision; check the part"),
        (f"{SOURCE}/none.safetensors", "no such file at this revision; check the name"),
    ],
)
def test_what_the_hub_has_not_is_named(server, address, words):
    with pytest.raises(WeightsError, match=words) as caught:
        download(address)
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)


def test_busy_hub_is_asked_again(server, monkeypatch):
    waits = []
    monkeypatch.setattr(hub, "PAUSES_S", (0.01, 0.02))
    monkeypatch.setattr(hub.time, "sleep", waits.append)
    server.script = ["busy", "cut", "dead", "dead"]
    assert fetch_blob().read_bytes() == BLOB
    assert waits == [0.01, 0.01, 0.01, 0.02]


@pytest.mark.parametrize(("heads", "tells"), [([503, 429], None), ([503] * 3, 503), ([401], 401)])
def test_busy_hub_is_asked_again_for_the_size(server, heads, tells):
    server.heads = heads
    if tells is None:
        assert fetch_blob().read_bytes() == BLOB
    else:
        with pytest.raises(WeightsError, match=str(tells)):
            fetch_blob()
    assert server.heads == []


def test_busy_hub_is_named(server):
    server.script = ["busy"] * 3
    with pytest.raises(WeightsError, match="the hub answered 503; try again later"):
        fetch_blob()


def test_no_connection_is_an_error_of_one_line_unless_the_file_is_here(server, monkeypatch):
    path = fetch_blob()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        assert fetch_blob() == path
        path.unlink()
        with pytest.raises(WeightsError, match="check the connection and try again") as caught:
            fetch_blob()
    assert "\n" not in str(caught.value)


def test_offline_switch_of_the_hub_is_obeyed(server, monkeypatch):
    path = fetch_blob()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    server.seen.clear()
    assert fetch_blob() == path
    path.unlink()
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        fetch_blob()
    assert server.seen == []


def test_full_disk_is_found_out_before_the_transfer(server, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)
    with pytest.raises(WeightsError, match=r"no space left \(204,800 bytes needed, 1,000 free\)"):
        fetch_blob()
    assert server.ranges == []


def test_cache_that_cannot_be_written_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("B2V_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="cannot be written; set B2V_CACHE"):
        fetch_blob()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hf://someone/tiny/blob.safetensors", "names no fixed revision"),
        ("hf://someone/tiny@main/blob.safetensors", "names no fixed revision"),
        ("hf://someone@v1/blob.safetensors", "is not an address"),
        (f"{SOURCE}/../../x.safetensors", "is not an address"),
        (f"{SOURCE}/", "is not an address"),
    ],
)
def test_address_must_name_a_fixed_revision_and_a_file(server, address, words):
    with pytest.raises(UsageError, match=words) as caught:
        download(address)
    assert "expected hf://owner/repo@revision/file" in str(caught.value)
    assert server.seen == []


def upload(server, folder, **fields):
    """Put a tiny model and its card on the server; returns the card's entries."""
    networks = make_model(folder, **fields)
    server.files |= {path.name: path.read_bytes() for path in folder.iterdir()}
    return networks


def test_model_whose_card_names_a_source_is_downloaded_when_it_is_first_used(server, tmp_path):
    networks = upload(server, tmp_path / "remote")
    card = Card(name="tiny", licence="MIT", networks=networks, source=SOURCE)
    write_card(card, tmp_path / "shipped")
    (model,) = list_models()
    assert (model.where, model.verified) == ("shipped", False)
    assert model.problem == "tiny-middle.safetensors is not here"
    assert all("does not exist" in (check.problem or "") for check in verify("tiny"))
    loaded = load_model("tiny")
    assert loaded.networks["middle"].path.parent.name == REVISION
    server.seen.clear()
    assert load_model("tiny").sha256 == loaded.sha256
    assert server.seen == []
    assert all(check.problem is None for check in verify("tiny"))


def test_card_on_the_hub_brings_its_networks_and_is_known_by_name_then(server, tmp_path):
    upload(server, tmp_path / "remote")
    paths = download(f"{SOURCE}/tiny.json")
    assert len(paths) == 5
    assert all(path.parent.name == REVISION for path in paths)
    server.seen.clear()
    assert load_model("tiny").licence == "MIT"
    assert load_model(f"{SOURCE}/tiny.json").name == "tiny"
    assert server.seen == []
    paths[1].unlink()
    assert load_model("tiny").networks["middle"].path == paths[1]


def test_file_on_the_hub_that_differs_from_the_card_is_not_used(server, tmp_path):
    upload(server, tmp_path / "remote")
    server.files["tiny-middle.safetensors"] = server.files["tiny-pair26.safetensors"]
    with pytest.raises(WeightsError, match=r"tiny-middle.safetensors has sha256"):
        load_model(f"{SOURCE}/tiny.json")
