import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("PIL")

DEMO = Path(__file__).parents[1] / "docs" / "examples" / "demo_digits.py"
METHODS = ["k-means on the pixels", "autoencoder + k-means", "ConcreteKMeans", "CKMDomainAdapter"]
PICTURES = ["training_curves.png", "embedding.png", "clusters.png"]


@pytest.fixture(scope="module")
def demo():
    """The script as a module, so that a test need not import torch anew."""
    spec = importlib.util.spec_from_file_location("demo_digits", DEMO)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def read_table(text):
    """Numbers of each row of the table, by its name."""
    rows = re.findall(r"^(\w.*?) {2,}([\d. -]+)$", text, flags=re.MULTILINE)
    return {name: [float(number) for number in numbers.split()] for name, numbers in rows}


def check_png(path):
    """The file is a picture of the size of a page that is not blank."""
    from PIL import Image

    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 400
        assert np.ptp(np.asarray(image.convert("L"))) > 200


def check_refused(demo, capsys, arguments):
    """The demo ends with code 2 and without training; the message is returned."""
    with pytest.raises(SystemExit) as ended:
        demo.main(["--quick", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert "Traceback" not in err
    return err


@pytest.mark.slow
def test_quick_demo_prints_the_table_and_writes_the_pictures(tmp_path):
    # Three epochs may leave a dead centre, of which the package rightly warns; nothing else may.
    flags = ["-W", "error", "-W", "default::UserWarning:__main__"]
    command = [sys.executable, *flags, str(DEMO), "--quick", "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"\w*Warning", done.stderr)) <= {"ConvergenceWarning"}
    assert "seed 0" in done.stdout
    table = read_table(done.stdout)
    assert list(table) == METHODS
    for accuracy, nmi, ari, seconds in table.values():
        assert 0.2 <= accuracy <= 1
        assert 0 <= nmi <= 1
        assert -0.5 <= ari <= 1
        assert seconds >= 0
    # The digits are told apart far better than by chance even by k-means on the pixels.
    assert table[METHODS[0]][0] > 0.7
    assert done.stdout.splitlines()[-4:] == [
        f"Pictures in {(tmp_path / 'out').resolve()}:",
        *(f"  {name}" for name in PICTURES),
    ]
    for name in PICTURES:
        check_png(tmp_path / "out" / name)


def test_missing_data_is_refused_with_the_message_of_the_loader(demo, tmp_path, capsys):
    error = check_refused(demo, capsys, ["--data", tmp_path, "--output", tmp_path / "out"])
    assert "Expected the train rows of USPS in the folder" in error
    assert not (tmp_path / "out").exists()


def test_other_data_are_refused_with_the_message_of_the_loader(demo, tmp_path, capsys):
    np.savez(tmp_path / "usps.npz", X=np.zeros((3, 16, 16), dtype=np.uint8))
    error = check_refused(demo, capsys, ["--data", tmp_path, "--output", tmp_path / "out"])
    assert "in usps.npz, got ['X']" in error


def test_output_that_takes_no_files_is_refused(demo, tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    error = check_refused(demo, capsys, ["--output", tmp_path / "file" / "out"])
    assert str(tmp_path / "file") in error


@pytest.mark.parametrize("seed", ["-1", "1.5", "4294967296", "one"])
def test_invalid_seed_is_refused(demo, tmp_path, capsys, seed):
    error = check_refused(demo, capsys, [f"--seed={seed}", "--output", tmp_path])
    assert f"expected an integer from 0 to 4294967295, got '{seed}'" in error
