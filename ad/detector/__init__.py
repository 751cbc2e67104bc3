"""What a production line needs: a detector file, and the command that decides with it.

``make`` writes the file; ``command`` and what it imports use it, with NumPy, Pillow and ONNX
Runtime alone.
"""
