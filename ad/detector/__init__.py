"""What a production line needs: a detector file, and the command that decides with it.

``make`` writes the file from a finished run; ``detector``, ``command``, ``watch`` and ``drift`` use
it, with NumPy, Pillow and ONNX Runtime alone.
"""
