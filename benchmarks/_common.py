"""What the benchmarks share: rows of a CSV, and what they ran on."""

import csv
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


@cache
def environment():
    """Versions, hardware and commit as the process started, as columns of a row."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "cpu": _cpu_name(),
        "n_cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "sklearn": version("scikit-learn"),
        "skorch": version("skorch"),
        "commit": commit or "unknown",
    }


def append_row(path, row):
    """Append one row to a CSV, with a header where the file is new.

    A last line that an interrupt cut off goes; a file with other columns raises ``ValueError``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_bytes() if path.exists() else b""
    if text and not text.endswith(b"\n"):
        path.write_bytes(text[: text.rfind(b"\n") + 1])
    columns = next(csv.reader(text.decode().splitlines()), None)
    is_new = columns is None
    if not is_new and columns != list(row):
        raise ValueError(f"Expected the columns {list(row)} in {path}, got {columns}.")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def read_rows(path):
    """Return the complete rows of a CSV as dicts of strings; none where there is no file."""
    if not path.exists():
        return []
    text = path.read_text()
    lines = text[: text.rfind("\n") + 1].splitlines()
    return list(csv.DictReader(lines))


def _cpu_name():
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
