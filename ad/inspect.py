"""Score new images with the detector file of a finished run.

``python -m ad.inspect detector.onnx IMAGE_OR_FOLDER...``; from code, ``Detector.load(path)`` and
``detector.score(image)``.  Needs NumPy, Pillow and ONNX Runtime alone.
"""

import sys

from ad.detector.command import main
from ad.detector.detector import Detector, Verdict

__all__ = ["Detector", "Verdict", "main"]

if __name__ == "__main__":
    sys.exit(main())
