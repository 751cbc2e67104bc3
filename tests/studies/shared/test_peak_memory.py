"""A process's peak is the most that it held, its own and its children's."""

import subprocess
import sys

import pytest


def test_the_peak_is_the_most_that_was_held():
    script = (
        "import numpy as np\nfrom studies.shared.peak_memory import peak_resident_bytes as peak\n"
        "a = peak()\nx = np.ones(50_000_000)\nb = peak()\ndel x\nc = peak()\n"
        "print(a, b, c)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    before, holding, after = map(int, finished.stdout.split())
    assert before > 20e6  # bytes, not kilobytes
    assert holding - before == pytest.approx(400e6, rel=0.2)
    assert after >= 0.99 * holding  # the kernel counts in batches of pages


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not count children")
def test_the_largest_child_counts():
    script = (
        "import subprocess, sys\n"
        "from studies.shared.peak_memory import peak_of_children_bytes as peak\n"
        "for size in (50_000_000, 5):\n"
        "    subprocess.run([sys.executable, '-c', f'x = bytearray({8 * size}); x[::4096] = "
        'b"1" * len(x[::4096])\'])\n'
        "    print(peak())"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    large, then_small = map(int, finished.stdout.split())
    assert 400e6 < large < 480e6
    assert then_small == large
