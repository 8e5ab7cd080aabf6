"""One self-contained HTML page from one run or several, and its pictures as PNG files beside it."""

import base64
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from PIL import Image

from vaekit import __version__
from vaekit.errors import ConfigError, SpecError
from vaekit.evaluation.results import WHY_NOT_A_LIKELIHOOD
from vaekit.report.collect import RunFacts, collect
from vaekit.report.components import Picture, Section
from vaekit.report.estimators import calls_for_estimators, estimators_section
from vaekit.report.numbers import estimates_table, headline, why_not_comparable
from vaekit.report.sections import (
    columns_section,
    curves_section,
    film_section,
    latent_section,
    reconstructions_section,
    samples_section,
    sounds_section,
)
from vaekit.report.settings import circumstances, describe, differences
from vaekit.runs import open_run
from vaekit.training import RunFolder


def write_report(
    runs: Sequence[Path | str],
    out: Path | None = None,
    samples: int = 64,
    sections: Sequence[Section] = (),
    full_paths: bool = False,
) -> Path:
    """Write one HTML page about runs, with all pictures inside it, and the same pictures as PNG files beside it.

    Args:
        runs: Run folders; of several, curves are overlaid and numbers stand side by side.
        out: The page; by default report.html in the first run's folder. Its pictures go to the folder beside it that
            has its name without the ending.
        samples: K of the importance-weighted bound.
        sections: Further sections, shown after the numbers.
        full_paths: Whether to show whole paths of data and folders, and not their names alone.

    Returns:
        Where the page is.

    Raises:
        ModelFileError: A folder is not a run's, or is damaged.
        SpecError: There is no run.
        ConfigError: The page cannot be written there.
    """
    if not runs:
        raise SpecError("no run to report on: name at least one run folder", field="runs")
    trained_runs = [open_run(folder) for folder in runs]
    page = Path(runs[0]) / "report.html" if out is None else Path(out)
    page = page / "report.html" if page.is_dir() else page
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        facts = label_apart([collect(one, samples, full_paths=full_paths) for one in trained_runs])
        return _write(page, facts, sections)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"cannot write the report {page}: {reason}; name another file", field="out", value=page
        ) from None


def label_apart(facts: Sequence[RunFacts]) -> list[RunFacts]:
    """The facts with labels that no two share: the run's name, with its folder's or a number where that is needed."""
    for better in (lambda f, i: f"{f.label} ({f.folder.name})", lambda f, i: f"{f.label} #{i + 1}"):
        counts = Counter(f.label for f in facts)
        facts = [replace(f, label=better(f, i)) if counts[f.label] > 1 else f for i, f in enumerate(facts)]
    return list(facts)


@dataclass(frozen=True)
class _Shown:
    """A picture as the template shows it."""

    uri: str
    width: int
    height: int
    alt: str
    caption: str


def _write(page: Path, facts: list[RunFacts], extra: Sequence[Section]) -> Path:
    folder = RunFolder(page.parent)
    used: Counter[str] = Counter()

    def show(picture: Picture) -> _Shown:
        png = _png(picture.image)
        name = _file_name(picture.name)
        used[name] += 1
        number = f"-{used[name]}" if used[name] > 1 else ""
        folder.write(f"{page.stem}/{name}{number}.png", png)
        width, height = (size // picture.density for size in picture.image.size)
        uri = "data:image/png;base64," + base64.b64encode(png).decode()
        return _Shown(uri, width, height, picture.alt, picture.caption)

    filled = (s for s in _sections(facts, extra) if s.text or s.pictures or s.tables or s.clips)
    sections = [
        (section, [show(one) for one in section.pictures], [(_wav_uri(one.wav), one.caption) for one in section.clips])
        for section in filled
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(Path(__file__).with_name("page.html.jinja").read_text("utf-8"))
    common, own = describe(facts)
    html = template.render(
        title=", ".join(f.label for f in facts),
        facts=facts,
        common=common,
        own=own,
        notices=list(_notices(facts)),
        cards=headline(facts),
        sections=sections,
        version=__version__,
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
    folder.write(page.name, html.encode())
    return page


def _sections(facts: list[RunFacts], extra: Sequence[Section]) -> Iterable[Section]:
    yield curves_section(facts)
    if calls_for_estimators(facts):
        yield estimators_section()
    yield reconstructions_section(facts)
    yield samples_section(facts)
    yield film_section(facts)
    yield sounds_section(facts)
    yield columns_section(facts)
    yield latent_section(facts)
    numbers = estimates_table(facts)
    yield Section("Estimates", tables=(numbers,) if numbers else ())
    yield from extra
    differing = differences(facts)
    yield Section("Settings that differ", tables=(differing,) if differing else ())
    yield Section("Data and environment", tables=(circumstances(facts),))


def _notices(facts: list[RunFacts]) -> Iterable[str]:
    """Notices above the numbers: what limits their meaning."""
    tagged = len(facts) > 1
    for f in facts:
        tag = f"{f.label}: " if tagged else ""
        if f.status != "finished":
            yield f"{tag}The run did not finish ({f.status}); all numbers are of the weights that it left."
        yield from (f"{tag}{one.severity.capitalize()}: {one.text}" for one in f.findings)
        yield from (tag + sentence for sentence in f.missing)
    if tagged and (why := why_not_comparable(facts)):
        yield why
    if any(f.is_deterministic for f in facts):
        yield (
            "With a deterministic posterior there is no bound on ln p(x): the validation loss is the distortion alone, "
            "and cannot be compared with the loss of a VAE."
        )
    if any(f.is_score for f in facts):
        yield f"A number computed from the likelihood soft_bernoulli is {WHY_NOT_A_LIKELIHOOD}."


def _wav_uri(wav: bytes) -> str:
    return "data:audio/wav;base64," + base64.b64encode(wav).decode()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _file_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:60].strip("-") or "picture"
