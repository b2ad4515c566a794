"""Publishing and deleting weights, and proxies, against servers on loopback."""

import base64
import hashlib
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from command_line import assert_one_line, run_main, write_tiny_cascade
from huggingface_hub import constants
from test_weights_hub import BLOB, REVISION, SOURCE, Hub, fetch_blob, server  # noqa: F401

from b2v.errors import UsageError, WeightsError
from b2v.weights.checkpoints import read_card, write_card
from b2v.weights.hub import parse_address
from b2v.weights.store import download, load_model, publish, stage

REPO = "someone/tiny"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
"""Of the hub's own client, when it uploads by LFS."""


class Uploads(Hub):
    """The hub with what an upload asks for: repository, way of transfer, files, one commit."""

    def do_POST(self):  # noqa: N802
        hub = self.server
        content = self.rfile.read(int(self.headers["Content-Length"]))
        hub.posts.append(self.path)
        here = f"http://127.0.0.1:{hub.server_port}/{REPO}"
        if hub.refuse in self.path:
            return self.give({"error": "no"}, 403)
        if self.path == "/api/repos/create":
            hub.created = json.loads(content)
            return self.give({"url": here, "id": REPO, "name": REPO})
        if self.path == "/api/validate-yaml":
            return self.give({"errors": [], "warnings": []})
        if self.path.endswith("/preupload/main"):
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(content)["files"]
            ]
            return self.give({"files": modes})
        if self.path.endswith("/info/lfs/objects/batch"):
            address = f"http://localhost:{hub.server_port}/put/"
            objects = [
                {**one, "actions": {"upload": {"href": address + one["oid"]}}}
                for one in json.loads(content)["objects"]
            ]
            return self.give({"transfer": "basic", "objects": objects})
        for line in content.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                hub.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                hub.files[value["path"]] = hub.blobs[value["oid"]]
            else:
                hub.commits.append(value["summary"])
        done = {"commitOid": REVISION, "commitUrl": f"{here}/commit/{REVISION}"}
        return self.give({"success": True, **done})

    def do_PUT(self):  # noqa: N802
        content = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.removeprefix("/put/")
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.blobs[oid] = content
        self.give({})

    def give(self, answer, code=200):
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def uploads(server, monkeypatch):  # noqa: F811
    server.RequestHandlerClass = Uploads
    server.files, server.blobs, server.posts, server.commits = {}, {}, [], []
    server.refuse, server.created = "nothing", None
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    return server


@pytest.fixture
def b2v(capsys):
    return lambda *args: run_main(capsys, "weights", *args)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Folder of the user's with one model, `tiny`."""
    write_tiny_cascade(tmp_path / "own", "tiny")
    monkeypatch.setenv("B2V_WEIGHTS_DIR", str(tmp_path / "own"))
    return tmp_path / "own"


def change_card(folder, **fields):
    write_card(replace(read_card(folder / "tiny.json"), **fields), folder)


# publish


def test_what_is_published_can_be_downloaded_and_is_the_same(uploads, mine, b2v, monkeypatch):
    ran = b2v("publish", "tiny", REPO, "-q")
    assert (ran.code, ran.out) == (0, f"{SOURCE}/tiny.json\n")
    names = [f"tiny-{role}.safetensors" for role in ("middle", "pair17", "pair26", "pair35")]
    assert sorted(uploads.files) == ["LICENSE", "README.md", *names, "tiny.json"]
    assert uploads.commits == ["Publish tiny by b2v"]
    assert (uploads.created["organization"], uploads.created["name"]) == ("someone", "tiny")
    before = load_model("tiny")
    monkeypatch.delenv("B2V_WEIGHTS_DIR")
    paths = download(ran.out.strip())
    assert [path.parent.name for path in paths] == [REVISION] * 5
    assert load_model("tiny").sha256 == before.sha256


def test_the_page_says_what_the_card_says(uploads, mine):
    words = {"summary": "Seven frames.", "data": "46 photographs.", "lineage": "From scratch."}
    change_card(mine, **words, limits="For photos.")
    publish("tiny", REPO)
    page = uploads.files["README.md"].decode()
    assert page.startswith("---\nlicense: mit\nlibrary_name: b2v\npipeline_tag: image-to-video\n")
    for word in (*words.values(), "For photos.", "b2v extract photo.jpg -m tiny", "License: MIT."):
        assert word in page
    assert "MIT License" in uploads.files["LICENSE"].decode()


def test_another_license_is_named_and_its_text_taken_from_beside_the_card(mine, tmp_path):
    change_card(mine, license="CC BY-NC 4.0")
    stage("tiny", REPO, tmp_path / "a")
    page = (tmp_path / "a/README.md").read_text()
    assert 'license: other\nlicense_name: "CC BY-NC 4.0"\n' in page
    assert not (tmp_path / "a/LICENSE").exists()
    (mine / "LICENSE").write_text("You may not.")
    stage("tiny", REPO, tmp_path / "b")
    assert (tmp_path / "b/LICENSE").read_text() == "You may not."


def test_the_text_of_the_license_of_maxim_goes_with_it(mine, tmp_path):
    change_card(mine, license="Apache-2.0")
    stage("tiny", REPO, tmp_path / "a")
    assert (tmp_path / "a/README.md").read_text().startswith("---\nlicense: apache-2.0\n")
    assert "Apache License" in (tmp_path / "a/LICENSE").read_text()


def test_one_can_look_before_anything_is_uploaded(uploads, mine, b2v, tmp_path):
    ran = b2v("publish", "tiny", REPO, "-o", tmp_path / "look")
    assert ran.code == 0
    assert [Path(line).name for line in ran.out.splitlines()][:2] == ["LICENSE", "README.md"]
    assert uploads.posts == []
    copy = tmp_path / "look/tiny-middle.safetensors"
    copy.write_bytes(b"changed")
    assert load_model("tiny").name == "tiny"
    assert_one_line(b2v("publish", "tiny", REPO, "-o", tmp_path / "look"), 2, "exists already")


def test_who_trained_a_model_names_its_license(mine, b2v, tmp_path):
    change_card(mine, license="not stated")
    assert_one_line(b2v("publish", "tiny", REPO, "-o", tmp_path / "no"), 3, "tiny", "--license")
    assert b2v("publish", "tiny", REPO, "-o", tmp_path / "look", "--license", "MIT").code == 0
    assert read_card(tmp_path / "look/tiny.json").license == "MIT"
    assert "MIT License" in (tmp_path / "look/LICENSE").read_text()
    change_card(mine, license="Apache-2.0")
    ran = b2v("publish", "tiny", REPO, "-o", tmp_path / "other", "--license", "MIT")
    assert_one_line(ran, 2, "is under Apache-2.0")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda own: change_card(own, license="not stated"), "no license"),
        (lambda own: (own / "tiny-pair17.safetensors").unlink(), "not whole"),
        (lambda own: (own / "tiny-pair17.safetensors").write_bytes(BLOB), "not whole"),
    ],
)
def test_what_is_not_whole_or_not_free_is_not_published(uploads, mine, b2v, spoil, said):
    spoil(mine)
    assert_one_line(b2v("publish", "tiny", REPO), 3, "tiny", said)
    assert uploads.posts == []


@pytest.mark.parametrize("repo", ["tiny", "a/b/c", "../x", "a b/c", ""])
def test_a_repository_has_an_owner_and_a_name(uploads, mine, repo):
    with pytest.raises(UsageError, match="expected owner/name"):
        publish("tiny", repo)


@pytest.mark.parametrize("refuse", ["/api/repos/create", "/commit/main"])
def test_a_hub_that_refuses_is_one_line(uploads, mine, b2v, refuse):
    uploads.refuse = refuse
    assert_one_line(b2v("publish", "tiny", REPO), 3, f"cannot publish to {REPO}", "HF_TOKEN")
    assert uploads.commits == []


def test_offline_nothing_is_uploaded(uploads, mine, b2v, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_one_line(b2v("publish", "tiny", REPO), 3, "HF_HUB_OFFLINE")
    assert uploads.posts == []


# rm


class Proxy(BaseHTTPRequestHandler):
    """A proxy that answers for a hub somewhere, and tunnels to nowhere."""

    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        self.server.asked.append(f"CONNECT {self.path}")
        self.send_error(502, "no way")

    def forward(self):
        self.server.asked.append(f"{self.command} {self.path}")
        digest = hashlib.sha256(BLOB).hexdigest()
        self.send_response(200)
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("ETag", f'"{digest}"')
        self.send_header("Content-Length", str(len(BLOB)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(BLOB)

    do_GET = do_HEAD = forward  # noqa: N815


@pytest.fixture
def proxy(server, monkeypatch):  # noqa: F811
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    proxy.asked = []
    thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
    thread.start()
    address = f"http://127.0.0.1:{proxy.server_port}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, address)
    huggingface_hub.close_session()  # it reads the proxies when it is made
    yield proxy
    huggingface_hub.close_session()
    proxy.shutdown()
    proxy.server_close()
    thread.join()


def test_a_proxy_is_used(proxy, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    assert fetch_blob().read_bytes() == BLOB
    url = f"http://hub.example/{REPO}/resolve/{REVISION}/blob.safetensors"
    assert proxy.asked == [f"HEAD {url}", f"GET {url}"]


def test_a_proxy_for_https_is_asked_for_a_tunnel_and_its_refusal_told(proxy, b2v, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    assert_one_line(b2v("download", f"{SOURCE}/blob.safetensors", "-q"), 3, "cannot download")
    assert set(proxy.asked) == {"CONNECT hub.example:443"}


def test_no_proxy_leads_past_the_proxy(proxy, server, monkeypatch):  # noqa: F811
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    assert fetch_blob().read_bytes() == BLOB
    assert proxy.asked == []
    assert server.seen != []


def test_addresses_of_commits_are_read_again():
    address = parse_address(f"{SOURCE}/tiny.json")
    assert str(address) == f"{SOURCE}/tiny.json"
    with pytest.raises(WeightsError):
        read_card(address.path)
