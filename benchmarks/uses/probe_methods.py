"""What labels are read off of recordings: functions (case, seed) -> numbers."""

import os
import shutil
import tempfile
import time
from pathlib import Path

TESTED = range(5)  # takes, by the data's own split
LABELS = ("digit", "speaker")


def vaekit(case: str, seed: int) -> dict[str, float]:
    """The preset `audio`, which sees no label; then probes of its codes, of components and of the features."""
    from vaekit import fit
    from vaekit.evaluation import representation
    from vaekit.runs import run

    with tempfile.TemporaryDirectory() as folder:
        train, test = divided(Path(folder))
        settings = ("data.name_fields=[digit, speaker, take]", "data.test_fraction=0", f"seed={seed}")
        began = time.process_time()
        trained = fit(run(str(train), *settings, "train.device=cpu", preset="audio"), progress=False)
        numbers = {"latents": sum(shape[0] for shape in trained.latent_shapes)}
        numbers |= {"cpu seconds of training": time.process_time() - began}
        for label in LABELS:
            of_label = trained.with_label(label)
            found = representation(trained.model, of_label.data().train, of_label.rows(test), seed=seed)
            numbers |= {f"{label} {name}": estimate.value or 0.0 for name, estimate in found.items()}
    return numbers


def divided(folder: Path) -> tuple[Path, Path]:
    """Folders of the recordings for training and for the test."""
    parts = folder / "train", folder / "test"
    for part in parts:
        part.mkdir()
    for file in sorted((Path(os.environ["VAEKIT_DATA"]) / "fsdd").glob("*.wav")):
        shutil.copy(file, parts[int(file.stem.split("_")[2]) in TESTED])
    return parts
