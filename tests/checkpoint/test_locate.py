"""What people type becomes a folder, or an error that says what to check."""

from __future__ import annotations

import hashlib
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import errors

from taia.checkpoint.index import Checkpoint
from taia.checkpoint.locate import Located, locate
from taia.checkpoint.output.manifest import identity
from taia.errors import CheckpointError, DownloadError
from tiny_files import llama, llama_config, write


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def unreachable(*_: object, **__: object) -> str:
        pytest.fail("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)


def test_a_path_is_taken_before_the_hub(tmp_path: Path) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert locate("org/name") == Located("org/name", Path("org/name"))


def test_a_hub_name_is_fetched_at_its_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def fetched(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(tmp_path / "snapshots" / "abc123")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    found = locate("org/name@v1")
    assert (found.repo, found.revision, found.commit) == ("org/name", "v1", "abc123")
    assert (asked["name"], asked["revision"]) == ("org/name", "v1")
    assert not any("bin" in pattern or ".py" in pattern for pattern in asked["allow_patterns"])


@pytest.mark.parametrize(
    "given",
    ["/no/where", "../x/y", "a/b/c", "a b", "org/..", Path("o/n"), "~nobody/x", "a" * 5000, "\0"],
)
def test_what_is_no_path_and_no_hub_name_is_not_looked_for(given: str | Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        locate(given)


def test_folders_have_no_revisions(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(CheckpointError, match="revision"):
        locate("model@main")


def made(kind: type[Exception]) -> Exception:
    error = kind.__new__(kind)  # their signatures differ between versions
    error.args = ("first line\nsecond line",)
    return error


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (errors.GatedRepoError, "agreement"),
        (errors.RevisionNotFoundError, "no revision 'v1'"),
        (errors.RepositoryNotFoundError, "no such model"),
        (errors.LocalEntryNotFoundError, "not reached"),
        (TimeoutError, "could not be downloaded: first line"),
    ],
)
def test_what_the_hub_refuses_is_told_in_two_lines(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception], says: str
) -> None:
    def refused(*_: object, **__: object) -> str:
        raise made(kind)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)
    with pytest.raises(DownloadError, match=says) as caught:
        locate("org/name@v1")
    assert len(str(caught.value).splitlines()) == 2


def test_the_hubs_own_hash_is_recorded_without_reading_the_file(tmp_path: Path) -> None:
    made_at = write(tmp_path / "made", llama(), config=llama_config())
    content = (made_at / "model.safetensors").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / digest).write_bytes(content)
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(tmp_path / "blobs" / digest)
    for folder, full in ((snapshot, False), (made_at, True)):
        told = identity(Located("x", folder), Checkpoint.open(folder), full)
        assert told["files"][0]["sha256"] == digest
    plain = identity(Located("x", made_at), Checkpoint.open(made_at))
    assert "sha256" not in plain["files"][0]


@pytest.mark.parametrize(
    "text",
    [
        "org/name@",
        "@v1",
        "org/name@ v1",
        "org/name@../../x",
        "org/name@/etc/passwd",
        "org/name@a\nb",
    ],
)
def test_what_is_no_revision_asks_nobody(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def asked(*_: object, **__: object) -> str:
        raise AssertionError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", asked)
    with pytest.raises(CheckpointError, match="org/name@rev"):
        locate(text)


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/12", "feature/a+b", "ä", "0" * 40])
def test_a_revision_is_asked_for_as_it_is(monkeypatch: pytest.MonkeyPatch, revision: str) -> None:
    asked = []

    def download(name: str, revision: str, **_: object) -> str:
        asked.append((name, revision))
        return "/nowhere/commit"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    locate(f"org/name@{revision}")
    assert asked == [("org/name", revision)]
