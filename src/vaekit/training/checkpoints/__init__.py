"""Checkpoints: all that a training needs to go on, in files that are there whole or not at all.

- `contents` turns the state of a training into files, and back.
- `tensors` reads and writes safetensors files, whose headers are checked before they are used.
- `store` writes the files of a checkpoint into a run's folder, and finds the newest one that is intact.
"""
