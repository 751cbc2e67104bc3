"""Make a page that inspects pictures in a browser, without a server, Python or the network.

``python -m tools.browser_page detector.onnx page.html``.  ONNX Runtime for WebAssembly comes from
npm, of one version and content, into a cache folder; it and the detector lie in the page.
"""

import argparse
import base64
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from ad.detector.detector import Detector
from ad.files import write_text

VERSION = "1.30.0"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"  # of npm's package
TEMPLATE = Path(__file__).with_suffix(".html")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ad"
SHOWN = ("camera", "grid", "held_out", "image", "k", "patch_threshold", "self_test", "threshold")


def runtime(cache: Path = CACHE) -> tuple[str, bytes]:
    """Fetch ONNX Runtime for WebAssembly, once; return its module and its WebAssembly.

    Raises
    ------
    OSError, ValueError
        When npm is missing or fails, or the package is another than the one that was tried.
    """
    archive = cache / f"onnxruntime-web-{VERSION}.tgz"
    if not archive.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", f"onnxruntime-web@{VERSION}"]
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True)
        if done.returncode:
            reason = " ".join(done.stderr.split())[:200]
            raise ValueError(f"npm did not fetch onnxruntime-web {VERSION}: {reason}")
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
        raise ValueError(f"{archive}: not the package that was tried; remove it and try again")
    with tarfile.open(archive) as package:
        names = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
        script, wasm = (package.extractfile(f"package/dist/{name}").read() for name in names)
    return script.decode(), wasm


def in_a_page(module: str) -> str:
    """Let a module's exports be ``ort`` of the page: an inline module cannot be imported."""
    exports = re.search(r"export\{([^}]*)\};", module)
    pairs = (each.split(" as ") for each in exports[1].split(","))
    names = ",".join(f"{name}:{own}" for own, name in pairs)
    return module[: exports.start()] + f"globalThis.ort={{{names}}};"


def make_page(detector: Path, page: Path, cache: Path = CACHE) -> None:
    """Write the page of a detector file.

    Raises
    ------
    OSError, ValueError
        When the file is no detector, or as `runtime`.
    """
    loaded = Detector.load(detector)
    about = {key: loaded.about[key] for key in SHOWN} | {"shape": loaded.rule.shape}
    module, wasm = runtime(cache)
    parts = {
        "ABOUT": json.dumps(about).replace("<", "\\u003c"),
        "WASM": packed(wasm),
        "MODEL": packed(detector.read_bytes()),
        "RUNTIME": in_a_page(module),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    write_text(page, re.sub(r"\{\{([A-Z]+)\}\}", lambda match: parts[match[1]], text))


def packed(content: bytes) -> str:
    """Compress and write as text; the same content gives the same text."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detector", type=Path, help="detector.onnx of a finished run")
    parser.add_argument("page", type=Path, help="the page to write, .html")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of what npm fetches")
    options = parser.parse_args(arguments)
    try:
        make_page(options.detector, options.page, options.cache)
    except (OSError, ValueError) as error:
        print(f"browser_page: {error}", file=sys.stderr)
        return 1
    print(f"{options.page}: {options.page.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
