"""The C++ example decides as `ad-inspect` does; runs where ONNX Runtime's headers are."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from line_case import write_case
from PIL import Image
from small_data import draw_normal

from ad.detector.detector import Detector
from ad.detector.make import add_resizing

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "calling.md"
HOME = Path(os.environ.get("ONNXRUNTIME_HOME", "/usr/local"))


def test_the_example_in_cpp_gives_the_commands_sums(tmp_path):
    if shutil.which("g++") is None or not (HOME / "include/onnxruntime_cxx_api.h").is_file():
        pytest.skip(f"no g++, or no ONNX Runtime headers in {HOME}/include (ONNXRUNTIME_HOME)")
    source = re.search(r"```cpp\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)[1]
    (tmp_path / "inspect.cpp").write_text(source)
    here = [f"-I{HOME}/include", f"-L{HOME}/lib", f"-Wl,-rpath,{HOME}/lib"]
    build = ["g++", "-std=c++17", "inspect.cpp", *here, "-lonnxruntime"]
    subprocess.run(build, cwd=tmp_path, check=True)
    add_resizing(tmp_path / "camera.onnx", write_case(tmp_path), (80, 60))
    picture = Image.fromarray(draw_normal(np.random.default_rng(0), 80)[:60])
    picture.save(tmp_path / "picture.ppm")
    command = ["./a.out", "camera.onnx", "picture.ppm"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    detector = Detector.load(tmp_path / "camera.onnx")
    verdict = detector.score(picture)
    assert done.stdout.split() == [f"{verdict.score * detector.k:.0f}", str(int(verdict.flagged))]
