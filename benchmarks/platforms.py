"""Run one detector on every platform that can be had here, and count the outputs that differ.

``python -m benchmarks.platforms`` runs ONNX Runtime and each other engine that is installed on x86,
WebAssembly in headless Chromium, and ONNX Runtime on 64-bit ARM under emulation (QEMU), and writes
`platforms.csv`.  Beside the detector runs a small network of ordinary float32 numbers, the control:
where its values differ from x86's, other kernels really ran.  What is missing is said in a line.
"""

import argparse
import base64
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from onnx.reference import ReferenceEvaluator
from PIL import Image

from ad.detector.contract import OUTPUTS, rule_of
from ad.detector.graph import Graph, model_bytes, read_graph, tensor
from tools import browser_page

ROOT = Path(__file__).resolve().parents[1]
CACHE = browser_page.CACHE / "arm64"
# A small in-order core, vectors of 512 bits (SVE), and all that QEMU knows.
PROCESSORS = ("cortex-a53", "a64fx", "max")
PYTHON = f"python3.{sys.version_info.minor}"
# Debian's Python for ARM, and what it, NumPy, Pillow and ONNX Runtime load.
PACKAGES = (f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib", "libc6",
            "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0",
            "liblzma5")  # fmt: skip
WHEELS = ("numpy", "onnxruntime", "pillow")  # as requirements.lock pins them, by SHA-256
# ONNX Runtime asks the system about its processor; QEMU 7 would show it the host's.
SYSTEM = {"proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd03\n",
          "sys/devices/system/cpu/possible": "0\n",
          "sys/devices/system/cpu/present": "0\n"}  # fmt: skip
ON_ARM = """
import json, sys
import numpy as np, onnxruntime
from ad.detector.contract import OUTPUTS, rule_of
folder, *pictures = sys.argv[1:]
detector, control = (onnxruntime.InferenceSession(f"{folder}/{name}.onnx")
                     for name in ("detector", "control"))
about = json.loads(detector.get_modelmeta().custom_metadata_map["detector"])
found = []
for picture in pictures:
    pixels = rule_of(about["image"]).read(picture)[None]
    found += [pixels, *detector.run(OUTPUTS, {"pixels": pixels})]
    found += control.run(None, {"pixels": pixels})
np.savez(f"{folder}/found.npz", *found)
"""
LOAD = """async ([name, model]) => {
    window.sessions ??= {};
    const bytes = Uint8Array.from(atob(model), (c) => c.charCodeAt(0));
    window.sessions[name] = await ort.InferenceSession.create(bytes);
}"""
RUN = """async ([name, data, shape, names]) => {
    const pixels = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const feeds = { pixels: new ort.Tensor("uint8", pixels, shape) };
    const found = await window.sessions[name].run(feeds);
    return names.map((each) => Array.from(found[each].data, Number));
}"""
MODELS = {"detector.onnx": OUTPUTS, "control.onnx": ("values",)}
# Runs a model on pixels (1, height, width, 3) and returns the outputs asked for.
Run = Callable[[np.ndarray, Sequence[str]], Sequence[np.ndarray]]
Found = list[np.ndarray]  # a picture's pixels, the detector's outputs, the control's values


def control_bytes(shape: tuple[int, int]) -> bytes:
    """Make a network of ordinary float32 numbers, whose bits depend on the order of sums."""
    rng, graph = np.random.default_rng(0), Graph()
    values = graph.add("Transpose", [graph.cast("pixels", np.float32)], perm=[0, 3, 1, 2])
    values = graph.add("Div", [values, graph.scalar(255)])
    for channels, made in ((3, 16), (16, 32)):
        weight = graph.constant(rng.normal(0, 0.2, (made, channels, 3, 3)).astype(np.float32))
        values = graph.add("Conv", [graph.add("Abs", [values]), weight], strides=[2, 2])
    graph.add("Identity", [values], "values")
    inputs = [tensor("pixels", np.uint8, ["n", *shape, 3])]
    return model_bytes([graph], inputs, [tensor("values", np.float32, ["n", 32, "h", "w"])], {})


def by_onnxruntime(path: Path) -> Run:
    """Take ONNX Runtime at its defaults."""
    session = onnxruntime.InferenceSession(path)
    return lambda pixels, names: session.run(names, {"pixels": pixels})


def by_numpy(path: Path) -> Run:
    """Take ONNX's own reference, written in NumPy."""
    model = ReferenceEvaluator(str(path))
    return lambda pixels, names: model.run(names, {"pixels": pixels})


def by_openvino(path: Path, hint: dict[str, str]) -> Run:
    """Take OpenVINO; without a hint it computes in bfloat16 where the processor can."""
    import openvino

    model = openvino.Core().compile_model(path, "CPU", hint)
    return lambda pixels, names: [model({"pixels": pixels})[name] for name in names]


def by_opencv(path: Path) -> Run:
    """Take OpenCV's own engine."""
    import cv2

    net = cv2.dnn.readNetFromONNX(str(path))
    return lambda pixels, names: (net.setInput(pixels, "pixels"), net.forward(list(names)))[1]


def by_tract(path: Path) -> Run:
    """Take tract, written in Rust; its outputs come in the graph's order."""
    import tract

    model = tract.onnx().load(path)
    sides = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[1:]
    model.set_input_fact(0, f"1,{','.join(str(side.dim_value) for side in sides)},u8")
    ready = model.into_model().into_runnable()
    return lambda pixels, _names: [each.to_numpy() for each in ready.run([pixels])]


@cache
def chromium_page(folder: Path) -> object:
    """Open the page of `tools.browser_page` in headless Chromium, once."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise OSError("no Chromium is installed")
    browser_page.make_page(folder / "detector.onnx", folder / "page.html")
    browser = sync_playwright().start().chromium
    page = browser.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
    page.goto((folder / "page.html").as_uri())
    page.locator("#status:has-text('Ready')").wait_for()
    return page


def by_chromium(path: Path) -> Run:
    """Take ONNX Runtime for WebAssembly."""
    page = chromium_page(path.parent)
    page.evaluate(LOAD, [path.name, base64.b64encode(path.read_bytes()).decode()])

    def run(pixels: np.ndarray, names: Sequence[str]) -> Sequence[np.ndarray]:
        sent = [path.name, base64.b64encode(pixels).decode(), pixels.shape, list(names)]
        return [np.array(each) for each in page.evaluate(RUN, sent)]

    return run


def unpack_arm(unpacked: Path) -> None:
    """Unpack QEMU, an ARM Python and this repository's pinned wheels; nothing is installed."""
    lists = unpacked / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)

    def call(*command: object) -> None:
        subprocess.run(list(map(str, command)), cwd=unpacked, check=True, capture_output=True)

    settings = ("APT::Architecture=arm64", "APT::Architectures=arm64", f"Dir::State::Lists={lists}")
    apt = ("apt-get", "-qq", *(part for each in settings for part in ("-o", each)))
    call(*apt, "update")
    call(*apt, "download", *PACKAGES)
    call("apt-get", "-qq", "download", "qemu-user-static")
    for package in sorted(unpacked.glob("*.deb")):
        call("dpkg-deb", "-x", package, "qemu" if package.name.startswith("qemu") else "system")
    for name, text in SYSTEM.items():
        (unpacked / "system" / name).parent.mkdir(parents=True, exist_ok=True)
        (unpacked / "system" / name).write_text(text)
    locked = (ROOT / "requirements.lock").read_text()
    pins = [re.search(rf"^{name}==.*?(?=^\S)", locked, re.M | re.S)[0] for name in WHEELS]
    (unpacked / "pins.txt").write_text("".join(pins))
    tags = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (28, 27, 17)]
    call(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes",
         "--only-binary=:all:", f"--python-version=3.{sys.version_info.minor}", *tags,
         "--target=site.part", "-r", "pins.txt")  # fmt: skip
    (unpacked / "site.part").rename(unpacked / "site")  # last, so that it says all is there


def on_arm(cpu: str, folder: Path, pictures: Sequence[Path], unpacked: Path) -> list[Found]:
    """Decode, resize and run both networks on an emulated processor."""
    if not (unpacked / "site").is_dir():
        unpack_arm(unpacked)
    home, path = f"PYTHONHOME={unpacked}/system/usr", f"PYTHONPATH={unpacked}/site:{ROOT}"
    qemu = [unpacked / "qemu/usr/bin/qemu-aarch64-static", "-L", unpacked / "system", "-cpu", cpu]
    command = ["env", home, path, *qemu, unpacked / "system/usr/bin" / PYTHON, "-c", ON_ARM, folder]
    subprocess.run([*command, *pictures], check=True, capture_output=True)
    with np.load(folder / "found.npz") as found:
        values, each = [found[f"arr_{n}"] for n in range(len(found.files))], 2 + len(OUTPUTS)
    return [values[start : start + each] for start in range(0, len(values), each)]


def on_x86(make: Callable[[Path], Run], folder: Path, pixels: Sequence[np.ndarray]) -> list[Found]:
    """Run both networks on pixels."""
    runs = [(make(folder / name), names) for name, names in MODELS.items()]
    return [[own, *(each for run, names in runs for each in run(own, names))] for own in pixels]


def named(name: str, package: str) -> str:
    """Add the version of a package, where it is installed."""
    try:
        return f"{name} {version(package)}"
    except PackageNotFoundError:
        return name


def platforms(
    folder: Path, pictures: Sequence[Path], pixels: Sequence[np.ndarray], few: int, unpacked: Path
) -> Iterator[tuple[str, str, Callable[[], list[Found]]]]:
    """Give platform, engine and how to run it; the first is what the others are held against."""
    runtime, openvino = named("ONNX Runtime", "onnxruntime"), named("OpenVINO", "openvino")
    real = partial(by_openvino, hint={"INFERENCE_PRECISION_HINT": "f32"})
    for platform, engine, make in (
        ("x86", runtime, by_onnxruntime),
        ("x86", named("ONNX reference in NumPy", "onnx"), by_numpy),
        ("x86", f"{openvino}, f32", real),
        ("x86", f"{openvino}, as it comes", partial(by_openvino, hint={})),
        ("x86", named("OpenCV dnn", "opencv-python-headless"), by_opencv),
        ("x86", named("tract", "tract"), by_tract),
        ("WebAssembly, Chromium", f"onnxruntime-web {browser_page.VERSION}", by_chromium),
    ):
        some = pixels[:few] if make is by_numpy else pixels  # half a minute a picture
        yield platform, engine, partial(on_x86, make, folder, some)
    for cpu in PROCESSORS:
        run = partial(on_arm, cpu, folder, pictures[:few], unpacked)
        yield f"64-bit ARM, emulated: {cpu}", runtime, run


def drawn_pictures(folder: Path) -> list[Path]:
    """Write pictures at the ends of what pixels can be, of sizes that are resized."""
    noise = np.random.default_rng(0).integers(0, 256, (301, 222, 3)).astype(np.uint8)
    drawn = {"noise": noise, "edges": 255 * (noise[:90, ::-1] > 127).astype(np.uint8)}
    for name, pixels in drawn.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in drawn]


def compare(detector: Path, pictures: Sequence[Path], few: int, unpacked: Path) -> pd.DataFrame:
    """Run every platform; return a row each with the number of pictures whose outputs differ."""
    rows, reference = [], None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(detector, folder / "detector.onnx")
        rule = rule_of(read_graph(detector)[1]["image"])
        (folder / "control.onnx").write_bytes(control_bytes(rule.shape))
        paths = [*drawn_pictures(folder), *(picture.resolve() for picture in pictures)]
        pixels = [rule.read(picture)[None] for picture in paths]
        for platform, engine, run in platforms(folder, paths, pixels, few, unpacked):
            try:
                found = run()
            except Exception as error:  # what is missing fails in every way
                reason = " ".join(str(getattr(error, "stderr", None) or error).split())[-200:]
                print(f"{platform}, {engine}: left out ({reason})", flush=True)
                continue
            reference = reference or found
            row = {"platform": platform, "engine": engine, "pictures": len(found)}
            pairs = list(zip(found, reference, strict=False))
            row["differing"] = sum(differs(*pair) for pair in pairs)
            control = [np.ravel(one[-1]) != np.ravel(other[-1]) for one, other in pairs]
            row["control_differing"] = round(float(np.mean(control)), 3)  # share of values
            rows.append(row)
            print(", ".join(map(str, row.values())), flush=True)
    return pd.DataFrame(rows)


def differs(found: Found, wanted: Found) -> bool:
    """Tell whether pixels or any output of the detector differ."""
    pairs = zip(found[:-1], wanted[:-1], strict=True)
    return not all(np.array_equal(np.reshape(one, other.shape), other) for one, other in pairs)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", type=Path, default=ROOT / "artifacts" / "detector.onnx")
    parser.add_argument("--pictures", type=Path, default=ROOT / "data" / "test", help="a folder")
    parser.add_argument("--count", type=int, default=38, help="of them, evenly spread")
    parser.add_argument("--emulated", type=int, default=4, help="pictures where it is slow")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where ARM's parts are unpacked")
    parser.add_argument("--table", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    every = sorted(options.pictures.rglob("*.png"))
    places = np.unique(np.linspace(0, len(every) - 1, options.count).astype(int))
    some = [every[place] for place in places]
    table = compare(options.detector, some, options.emulated, options.cache)
    table.to_csv(options.table, index=False)


if __name__ == "__main__":
    main()
