import hashlib
import re
from http.client import IncompleteRead

import pytest

from sklearn_ckm.datasets import _fetch_digits, fetch_digits

CONTENTS = {
    "mnist": {"images.gz": b"images", "labels.gz": b"labels"},
    "svhn": {"train.mat": b"numbers"},
    "usps": {"usps.bz2": b"post"},
}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Small files behind file:// addresses, in place of the published ones."""
    root = tmp_path / "server"
    root.mkdir()
    for files in CONTENTS.values():
        for name, content in files.items():
            (root / name).write_bytes(content)
    checksums = {
        data_set: {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
        for data_set, files in CONTENTS.items()
    }
    monkeypatch.setattr(_fetch_digits, "_CHECKSUMS", checksums)
    monkeypatch.setattr(_fetch_digits, "_URLS", dict.fromkeys(CONTENTS, f"{root.as_uri()}/"))
    return root


@pytest.fixture
def no_download(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("tried to download")

    monkeypatch.setattr(_fetch_digits, "urlopen", refuse)


def contents_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["mnist", "svhn", ("usps", "mnist"), ["usps", "usps"]])
def test_files_are_downloaded_into_a_new_folder(tmp_path, server, name):
    folder = tmp_path / "new" / "folder"
    paths = fetch_digits(name, str(folder))
    names = dict.fromkeys([name] if isinstance(name, str) else name)
    expected = {file: content for one in names for file, content in CONTENTS[one].items()}
    assert paths == [folder / file for file in expected]
    assert contents_of(folder) == expected


def test_other_files_stay_and_complete_ones_are_not_downloaded(tmp_path, server):
    (tmp_path / "images.gz").write_bytes(b"images")
    (tmp_path / "notes.txt").write_text("mine")
    (server / "images.gz").unlink()
    paths = fetch_digits("mnist", tmp_path)
    assert paths == [tmp_path / "images.gz", tmp_path / "labels.gz"]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "labels.gz").read_bytes() == b"labels"


@pytest.mark.usefixtures("no_download")
def test_nothing_is_downloaded_where_all_files_are(server):
    assert fetch_digits(CONTENTS, server) == [
        server / name for files in CONTENTS.values() for name in files
    ]


@pytest.mark.usefixtures("no_download")
def test_present_file_with_another_checksum_raises_and_stays(tmp_path, server):
    (tmp_path / "usps.bz2").write_bytes(b"pos")
    message = "Expected the MD5 checksum .* of usps.bz2 in the folder .* delete the file"
    with pytest.raises(OSError, match=message):
        fetch_digits("usps", tmp_path)
    assert (tmp_path / "usps.bz2").read_bytes() == b"pos"


def test_downloaded_file_with_another_checksum_raises_and_leaves_nothing(tmp_path, server):
    (server / "labels.gz").write_bytes(b"label")
    folder = tmp_path / "folder"
    wrong = hashlib.md5(b"label").hexdigest()
    with pytest.raises(
        OSError, match=f"Expected the MD5 .* of file:.*/labels.gz, got {wrong}"
    ) as e:
        fetch_digits("mnist", folder)
    assert repr(str(folder)) in str(e.value)
    assert contents_of(folder) == {"images.gz": b"images"}


def test_unreachable_file_raises_and_leaves_nothing(tmp_path, server):
    (server / "labels.gz").unlink()
    folder = tmp_path / "folder"
    message = r"Expected to download file:.*/labels.gz to the folder .*, got .*URLError"
    with pytest.raises(OSError, match=message) as error:
        fetch_digits("mnist", folder)
    assert repr(str(folder)) in str(error.value)
    assert contents_of(folder) == {"images.gz": b"images"}


@pytest.mark.parametrize("broken", [IncompleteRead(b"po", 2), TimeoutError("timed out")])
def test_interrupted_download_raises_and_leaves_nothing(tmp_path, server, monkeypatch, broken):
    def copy_and_break(source, target):
        target.write(source.read(2))
        raise broken

    monkeypatch.setattr(_fetch_digits.shutil, "copyfileobj", copy_and_break)
    folder = tmp_path / "folder"
    with pytest.raises(OSError, match=f"usps.bz2 to the folder .* got {type(broken).__name__}"):
        fetch_digits("usps", folder)
    assert contents_of(folder) == {}


@pytest.mark.parametrize("name", ["cifar", "MNIST", (), ("mnist", "cifar"), 3, None, [3]])
def test_unknown_name_raises(tmp_path, name):
    message = f"Expected name as 'mnist', 'svhn' or 'usps', .* got {re.escape(repr(name))}; pass"
    with pytest.raises(ValueError, match=message):
        fetch_digits(name, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_published_table_names_the_files_that_the_loaders_read():
    names = {name for files in _fetch_digits._CHECKSUMS.values() for name in files}
    assert names == {
        *(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3",)),
        *(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("labels-idx1",)),
        *("train_32x32.mat", "test_32x32.mat", "usps.bz2", "usps.t.bz2"),
    }
    assert set(_fetch_digits._CHECKSUMS) == set(_fetch_digits._URLS)
    for files in _fetch_digits._CHECKSUMS.values():
        assert all(re.fullmatch("[0-9a-f]{32}", checksum) for checksum in files.values())
    assert all(re.fullmatch("https?://.*/", url) for url in _fetch_digits._URLS.values())
