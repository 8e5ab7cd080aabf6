"""The page: what stands on it, and that it is safe, whole and honest."""

import base64
import io
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from naming import naming
from vaekit.errors import ConfigError, ModelFileError, SpecError
from vaekit.report import Cell, Picture, Section, Table, write_report
from vaekit.report import estimators as estimators_module
from vaekit.report import sections as sections_module


class Page(HTMLParser):
    """A page as its tags and its text; reading it checks that tags are closed in order."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.source = path.read_text("utf-8")
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags += [(tag, dict(attrs))]
        if tag not in ("img", "meta"):
            self.open += [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def headings(self) -> list[str]:
        return re.findall(r"<h2[^>]*>(.*?)</h2>", self.source)


@pytest.fixture
def quick_check(monkeypatch: pytest.MonkeyPatch) -> None:
    check = estimators_module.gradient_check
    monkeypatch.setattr(estimators_module, "gradient_check", lambda rows: check(rows=50))


@pytest.fixture(scope="module")
def page(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Path(shutil.copytree(digits, tmp_path_factory.mktemp("page") / "run"))
    page = write_report([str(run)], samples=4)
    assert page == run / "report.html"
    return page


def test_pictures_stand_beside_the_page(page: Path) -> None:
    assert {picture.stem for picture in (page.parent / "report").iterdir()} == {
        "curves-loss",
        "curves-objective",
        "curves-distortion",
        "curves-rate",
        "reconstructions",
        "samples-mean",
        "samples-draw",
        "kl-per-dimension",
        "latent-map",
    }


def test_the_page_has_all_its_parts(page: Path) -> None:
    read = Page(page)
    assert read.headings == [
        "Training",
        "Originals and reconstructions",
        "Samples from the prior",
        "Latent space",
        "Estimates",
        "Data and environment",
        "Full configuration",
    ]
    for words in (
        "log-likelihood",
        "ELBO",
        "baseline",
        "all 180 test rows",
        "mean of p(x|z)",
        "draw of p(x|z)",
        "torch",
    ):
        assert words in read.text
    assert "batch_size: 100" in read.text
    assert "not a log-likelihood" not in read.text


def test_the_page_needs_nothing_from_outside(page: Path) -> None:
    read = Page(page)
    policy = next(meta["content"] for meta in read.all("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in read.tags}
    for tag, attributes in read.tags:
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "data:image/png;base64,").startswith("data:image/png;base64,"), tag
    assert "url(" not in read.source
    assert "@import" not in read.source


def test_pictures_are_whole_and_the_same_beside_the_page(page: Path) -> None:
    beside = {picture.read_bytes() for picture in (page.parent / "report").glob("*.png")}
    images = Page(page).all("img")
    within = {base64.b64decode((image["src"] or "").split(",")[1]) for image in images}
    assert within == beside
    for png in within:
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
        assert pixels.std() > 5, "a blank picture"
    for image in images:
        assert len(image["alt"] or "") > 20
        assert int(image["width"] or 0) > 100


def test_tables_can_be_read_aloud(page: Path) -> None:
    heads = Page(page).all("th")
    assert heads
    assert {head["scope"] for head in heads} == {"row", "col"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page: Path, scheme: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", page.read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme == "dark"]))

    def luminance(name: str) -> float:
        parts = np.array([int(colours[name][i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for text in ("ink", "quiet", "accent"):
        for ground in ("paper", "raised") + (("warn",) if text == "ink" else ()):
            bright, dim = sorted((luminance(text), luminance(ground)), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, f"{text} on {ground}"


def test_names_that_are_markup_appear_as_text(
    table: Path, evil: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MOST_COLUMNS", "MOST_MARGINALS"):
        monkeypatch.setattr(sections_module, name, 2)
    read = Page(write_report([table], tmp_path / "table.html", samples=2))
    assert evil in read.text
    assert "<img src=x" not in read.source
    assert all("onerror" not in attributes for _, attributes in read.tags)
    assert any(evil in (image["alt"] or "") for image in read.all("img"))
    assert "the first 2 of 3 columns" in read.text


def test_several_runs_stand_side_by_side(digits: Path, plane: Path, soft: Path, tmp_path: Path) -> None:
    page = write_report([digits, plane, soft], tmp_path, samples=2)
    read = Page(page)
    assert page == tmp_path / "report.html"
    assert "Settings that differ" in read.headings
    assert "Gradient estimators" not in read.headings
    assert re.search(r"model\.latent</th><td>16</td><td>2</td><td>16</td>", read.source)
    assert "cannot be compared" in " ".join(read.text.split())
    assert "On a plane." in read.text
    names = {picture.stem for picture in (tmp_path / "report").iterdir()}
    assert {"curves-loss-validation", "curves-loss-training", "latent-map-digits", "manifold-plane"} <= names


@pytest.mark.usefixtures("quick_check")
def test_an_ablation_says_what_estimators_do_and_what_is_no_likelihood(
    soft: Path, soft_detached: Path, tmp_path: Path
) -> None:
    read = Page(write_report([soft, soft_detached], tmp_path / "ablation.html", samples=2))
    assert "Gradient estimators" in read.headings
    assert "stick the landing" in read.text
    assert (tmp_path / "ablation" / "estimators-variance-mu.png").exists()
    assert "no density on [0, 1]" in read.text
    assert read.text.count("not a log-likelihood") > 10


def test_without_its_data_a_run_still_reports(table: Path, table_file: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(table, tmp_path / "run"))
    settings = (run / "run.yaml").read_text()
    (run / "run.yaml").write_text(settings.replace(str(table_file), str(tmp_path / "gone.npz")))
    (run / "metrics.jsonl").write_text('{"epoch": 1, "tra')
    shown = Page(write_report([table], tmp_path / "whole.html", samples=2)).text
    assert "{}" not in shown.replace("columns: {}", "")  # a setting
    (run / "environment.json").unlink()
    (run / "STATUS").write_text("interrupted at step 3\n")
    read = Page(write_report([run], samples=2))
    assert "Estimates" not in read.headings
    assert "Samples from the prior" in read.headings
    for words in ("as the data is not there", "gone.npz", "metrics.jsonl", "environment.json", "interrupted at step 3"):
        assert words in read.text
    assert "validation ELBO" in read.text


def test_sections_of_others_are_shown_and_gaps_in_curves_are_borne(digits: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(digits, tmp_path / "run"))
    lines = ['{"epoch": 1, "train_elbo": null, "valid_elbo": null}', '{"epoch": 2, "train_elbo": -5.0}']
    (run / "metrics.jsonl").write_text("\n".join(lines))
    picture = Picture("../Extra & more", Image.new("RGB", (200, 100)), "An extra picture.", "extra caption")
    table = Table(("what", "value"), ((Cell("answer"), Cell("42", "a remark", strong=True)),), "Extra table.")
    extra = Section("Extra", ("A paragraph.",), (picture,), (table,))
    read = Page(write_report([run], tmp_path / "a.html", samples=2, sections=[extra]))
    assert "Extra" in read.headings
    assert "A paragraph." in read.text
    assert "extra caption" in read.text
    assert {"extra-more.png", "curves-loss.png"} <= {path.name for path in (tmp_path / "a").iterdir()}


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="not a run folder"):
        write_report([tmp_path])
    assert not list(tmp_path.iterdir())


def test_no_run_at_all_is_refused() -> None:
    with pytest.raises(SpecError, check=naming("runs")):
        write_report([])


def test_a_place_that_cannot_be_written_is_refused(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, check=naming("out", tmp_path / "file" / "report.html")):
        write_report([digits], tmp_path / "file" / "report.html", samples=2)


def test_a_line_of_z_and_a_single_epoch_report_too(train_small: Callable[..., Path]) -> None:
    run = train_small("odd", "model.latent=1", "train.epochs=1", "data.binarise=dynamic")
    assert (write_report([run], samples=2).parent / "report" / "latent-map.png").exists()


def test_paths_of_the_machine_are_shown_only_if_requested(table: Path, table_file: Path, tmp_path: Path) -> None:
    gone = shutil.copytree(table, tmp_path / "gone")
    settings = (gone / "run.yaml").read_text()
    (gone / "run.yaml").write_text(settings.replace(str(table_file), str(tmp_path / "Jane Doe" / "gone.npz")))
    whole = write_report([table, gone], tmp_path / "whole.html", samples=1, full_paths=True).read_text()
    short = write_report([table, gone], tmp_path / "short.html", samples=1).read_text()
    for path in (table_file.parent, tmp_path, table.parent):
        assert str(path) in whole
        assert str(path) not in short
    assert "Jane Doe" not in short
    assert table_file.name in short
    assert "gone.npz" in short
    for picture in (tmp_path / "short").iterdir():
        assert str(tmp_path).encode() not in picture.read_bytes()
