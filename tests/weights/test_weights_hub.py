"""Downloads, against a server on loopback that speaks the hub's protocol."""

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants
from test_weights import make_model

from b2v.errors import UsageError, WeightsError
from b2v.weights import hub
from b2v.weights.checkpoints import Card, write_card
from b2v.weights.store import download, list_models, load_model, verify

REVISION = "a" * 40
SOURCE = f"hf://someone/tiny@{REVISION}"
BLOB = bytes(range(256)) * 800  # 204,800 bytes: several pieces


class Hub(BaseHTTPRequestHandler):
    """HEAD and GET of /owner/repo/resolve/revision/file, redirected to /cdn as for large files.

    `server.busy` is the answer to all requests, if set.
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
            content = server.files[self.path.removeprefix("/cdn/")]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return self.wfile.write(content) if body else None
        _, repo, revision, name = self.path.split("/", 1)[1].replace("/resolve/", "/", 1).split("/")
        error = None
        if repo != "tiny":
            error = "RepoNotFound"
        elif revision != REVISION:
            error = "RevisionNotFound"
        elif name not in server.files:
            error = "EntryNotFound"
        server.seen.append((self.command, name))
        self.send_response(server.busy or (404 if error else 302))
        if error:
            self.send_header("X-Error-Code", error)
        elif not server.busy:
            content = server.files[name]
            digest = hashlib.sha256(content).hexdigest()
            self.send_header("Location", f"http://localhost:{server.server_port}/cdn/{name}")
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("X-Linked-Etag", f'"{digest}"')
            self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.seen, server.busy = {"blob.safetensors": BLOB}, [], None
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("B2V_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("B2V_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr("b2v.files.shipped_dir", lambda: tmp_path / "shipped")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    # Without this the hub's client asks huggingface.co for a list before its first request.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetch_blob(**options):
    return hub.fetch(hub.parse_address(f"{SOURCE}/blob.safetensors"), **options)


def leftovers(path):
    """Names in the folder of `path`."""
    return sorted(p.name for p in path.parent.iterdir())


def test_whole_file_is_kept_under_its_revision(server, tmp_path):
    path = fetch_blob(sha256=hashlib.sha256(BLOB).hexdigest())
    assert path == tmp_path / "cache" / "hub" / "someone--tiny" / REVISION / "blob.safetensors"
    assert path.read_bytes() == BLOB
    assert [name for name in leftovers(path) if name != ".cache"] == ["blob.safetensors"]


def test_second_download_asks_nobody(server):
    fetch_blob()
    server.seen.clear()
    fetch_blob()
    assert server.seen == []


@pytest.mark.parametrize(
    "repo", ["owner/my--model", "../..", "owner/..", "owner/.x", "owner/x-", "o/" + "x" * 97, "o/é"]
)
def test_names_that_the_hub_does_not_have_are_no_address(repo):
    with pytest.raises(UsageError, match="not an address"):
        hub.parse_address(f"hf://{repo}@v1/x.json")


def test_file_with_a_wrong_hash_is_deleted(server):
    with pytest.raises(WeightsError, match=r"expected bbbbbbbbbbbb…, and was deleted; try again"):
        fetch_blob(sha256="b" * 64)
    assert not hub.parse_address(f"{SOURCE}/blob.safetensors").path.exists()


@pytest.mark.parametrize(("code", "said"), [(401, "valid HF_TOKEN"), (503, "try again later")])
def test_hub_that_refuses_is_named(server, code, said):
    server.busy = code
    with pytest.raises(WeightsError, match=rf"{code}.*{said}") as caught:
        fetch_blob()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


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
    card = Card(name="tiny", license="MIT", networks=networks, source=SOURCE)
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
    assert load_model("tiny").license == "MIT"
    assert load_model(f"{SOURCE}/tiny.json").name == "tiny"
    assert server.seen == []
    paths[1].unlink()
    assert load_model("tiny").networks["middle"].path == paths[1]


def test_file_on_the_hub_that_differs_from_the_card_is_not_used(server, tmp_path):
    upload(server, tmp_path / "remote")
    server.files["tiny-middle.safetensors"] = server.files["tiny-pair26.safetensors"]
    with pytest.raises(WeightsError, match=r"tiny-middle.safetensors has sha256"):
        load_model(f"{SOURCE}/tiny.json")
