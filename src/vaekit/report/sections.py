"""From the facts of runs to the sections of their page."""

from collections.abc import Sequence

import numpy as np

from vaekit.evaluation.columns import Difference, compare_columns
from vaekit.evaluation.results import NATS, NOT_A_LIKELIHOOD, SCORE, label_of, measure_of
from vaekit.report.collect import HeldOut, RunFacts, manifold_axis
from vaekit.report.columns import MOST_COLUMNS, MOST_MARGINALS, histograms_by_column, pairs_by_column
from vaekit.report.components import MINUS, NOTHING, Cell, Clip, Picture, Section, Table, cells, typeset
from vaekit.report.counts import MANY, mean_and_variance, zeros_and_totals
from vaekit.report.curves import Line, curves, typical_range
from vaekit.report.figures import DENSITY
from vaekit.report.latents import kl_bars, latent_map, manifold, principal_plane
from vaekit.report.lines import MOST_CHANNELS, reconstructed_lines, sampled_lines
from vaekit.report.pictures import (
    OfColumns,
    brightness,
    column_categories,
    column_names,
    flat,
    image_grid,
    observed,
    pairs_grid,
    to_unit,
)
from vaekit.report.sounds import spectrograms, wavs
from vaekit.words import counted

Facts = Sequence[RunFacts]
_MOST_PAIRS = 10
_CLIPS = 4


def curves_section(facts: Facts) -> Section:
    """Training and validation: of one run together, of several runs overlaid."""
    logged = [f for f in facts if f.history]
    if not logged:
        return Section("Training")
    text = f"The loss is {MINUS}ELBO at beta = 1, whatever the objective weighs, so that epochs and runs compare."
    if any(f.is_score for f in logged):
        text += f" With the likelihood soft_bernoulli it is {SCORE}."
    return Section("Training", (text,), tuple(_one_run(logged[0]) if len(logged) == 1 else _overlaid(logged)))


def reconstructions_section(facts: Facts) -> Section:
    """Test rows and their reconstructions."""
    text = "The mean of p(x|z) at the mean of q(z|x), or at its most probable value where z is discrete, for test rows."
    pictures = [_reconstruction(f, f.held_out, facts) for f in facts if f.held_out is not None]
    return Section("Originals and reconstructions", (text,) if pictures else (), tuple(pictures))


def samples_section(facts: Facts) -> Section:
    """Means and draws of p(x|z), z from the prior."""
    pictures: list[Picture] = []
    for f in facts:
        tag = _tag(f, facts)
        if f.schema.sound is not None:
            pictures += [_sampled_sounds(f, facts)]
        elif f.schema.kind == "image":
            for kind, x in (("mean of p(x|z)", f.prior_means), ("draw of p(x|z)", f.prior_draws)):
                alt = f"{len(x)} images from the prior of {f.label}: {kind}."
                picture = image_grid(to_unit(x, f.schema))
                pictures += [
                    Picture(
                        _name(f"samples-{kind.split()[0]}", f, facts),
                        picture,
                        alt,
                        f"{tag}{kind}, z from the prior{f.prior_context}",
                    )
                ]
        else:
            pictures += [_sampled_lines(f, facts) if f.schema.kind == "sequence" else _sampled_columns(f, facts)]
            pictures += _counts(f, facts)
    text = "Means and draws come from the same z, in the same places." if any(_is_image(f) for f in facts) else ""
    return Section("Samples from the prior", (text,) if text else (), tuple(pictures))


def film_section(facts: Facts) -> Section:
    """Samples as they were while the model was trained."""
    pictures = [
        Picture(
            _name("samples-by-epoch", f, facts),
            f.film,
            f"Samples of {f.label} by epoch, from the first to the last that was kept.",
            f"{_tag(f, facts)}samples from the prior, from the same z, while the model was trained",
        )
        for f in facts
        if f.film is not None
    ]
    return Section("Samples by epoch", (), tuple(pictures))


def sounds_section(facts: Facts) -> Section:
    """Recordings to listen to: test rows, their reconstructions, and samples."""
    clips: list[Clip] = []
    for f in facts:
        if f.schema.sound is None:
            continue
        tag, sets = _tag(f, facts), {"sample": f.prior_means}
        if f.held_out is not None:
            kinds = {"features of a test row": f.held_out.originals, "reconstruction": f.held_out.reconstructions}
            sets = {**kinds, **sets}
        for kind, rows in sets.items():
            found = wavs(f.schema.to_stored(rows[:_CLIPS]), f.schema.sound)
            clips += [Clip(wav, f"{tag}{kind} {number}") for number, wav in enumerate(found, 1)]
    text = (
        "Sound by the Griffin-Lim algorithm, which finds phases for log-mel features: the features of a test row sound "
        "as good as a model could make them."
    )
    return Section("Sound", (text,) if clips else (), clips=tuple(clips))


def latent_section(facts: Facts) -> Section:
    """KL per dimension, the latent map, and the manifold of a plane."""
    pictures: list[Picture] = []
    for f in facts:
        if f.held_out is not None:
            pictures += _kl(f, f.held_out, facts)
            pictures += [_map(f, f.held_out, facts)]
        if f.manifold is not None:
            tiles = np.moveaxis(_rgb(to_unit(f.manifold, f.schema)), 2, -1)
            image = manifold(tiles, manifold_axis().numpy())
            caption = f"{_tag(f, facts)}mean of p(x|z) over the plane of z, at evenly spaced quantiles of the prior"
            pictures += [
                Picture(
                    _name("manifold", f, facts),
                    image,
                    f"What the latent plane of {f.label} decodes to.",
                    caption,
                    DENSITY,
                )
            ]
    text = "KL(q(z|x) ‖ p(z)) is what each dimension carries about x, a mean over test rows ± one standard error."
    return Section("Latent space", (text,) if pictures else (), tuple(pictures))


def _one_run(f: RunFacts) -> list[Picture]:
    def lines(name: str, sign: float = 1.0) -> list[Line]:
        best = _best_epoch(f) if name == "elbo" else None
        both = _line(f, "training", f"train_{name}", 0, sign), _line(f, "validation", f"valid_{name}", 1, sign, best)
        return [line for line in both if np.isfinite(line.values).any()] or list(both)

    found = [_curve("loss", "Loss", lines("elbo", -1.0), [f])]
    if _has_other_objective(f):
        line = _line(f, "training", "train_loss", 0)
        found += [_curve("objective", "What training minimised", [line], [f], "objective")]
    found += [_curve("distortion", _defined("distortion"), lines("distortion"), [f], "distortion")]
    if not f.is_deterministic:
        found += [_curve("rate", _defined("rate"), lines("rate"), [f], "rate")]
    return found


def _defined(name: str) -> str:
    """The label of a measure with its definition, as a figure's title."""
    return f"{_capital(name)}: {typeset(measure_of(name).definition)}"


def _capital(name: str) -> str:
    label = label_of(name)
    return label[0].upper() + label[1:]


def _overlaid(facts: Facts) -> list[Picture]:
    def lines(name: str, sign: float = 1.0) -> list[Line]:
        return [_line(f, f.label, name, i, sign) for i, f in enumerate(facts)]

    train, valid = lines("train_elbo", -1.0), lines("valid_elbo", -1.0)
    shared = typical_range([line.values for line in (*train, *valid)])
    found = [
        _curve("loss-validation", _capital("valid_loss"), valid, facts, limits=shared),
        _curve("loss-training", _capital("train_loss"), train, facts, limits=shared),
    ]
    if any(map(_has_other_objective, facts)):
        found += [_curve("objective", "What training minimised", lines("train_loss"), facts, "objective")]
    return [
        *found,
        _curve("distortion", _capital("valid_distortion"), lines("valid_distortion"), facts, "distortion"),
        _curve("rate", _capital("valid_rate"), lines("valid_rate"), facts, "rate"),
    ]


def _line(f: RunFacts, label: str, name: str, style: int, sign: float = 1.0, best: int | None = None) -> Line:
    epochs = np.array([line.get("epoch") or i + 1 for i, line in enumerate(f.history)])
    values = np.array([np.nan if line.get(name) is None else line[name] for line in f.history], dtype=float)
    return Line(label, epochs, sign * values, style, best)


def _curve(
    name: str,
    title: str,
    lines: list[Line],
    facts: Facts,
    what: str = "loss",
    limits: tuple[float, float] | None = None,
) -> Picture:
    scores = [f.is_score for f in facts] if what != "rate" else [False]
    remark = f";{'' if all(scores) else ' of soft labels'}\n{NOT_A_LIKELIHOOD}" if any(scores) else ""
    ends = [(line.label, line.values[np.isfinite(line.values)]) for line in lines]
    alt = (
        f"{title} over epochs, {NATS} per row. "
        + "; ".join(f"{n} ends at {v[-1]:.4g}" for n, v in ends if len(v))
        + "."
    )
    image = curves(lines, title, f"{what} ({NATS} per row{remark})", limits)
    return Picture(f"curves-{name}", image, alt, density=DENSITY)


def _has_other_objective(f: RunFacts) -> bool:
    """Whether training minimised something else than the negative ELBO: a weighted KL, free nats."""
    pairs = [(line.get("train_loss"), line.get("train_elbo")) for line in f.history]
    return any(a is not None and b is not None and abs(a + b) > 1e-4 * max(1.0, abs(a)) for a, b in pairs)


def _best_epoch(f: RunFacts) -> int | None:
    judged = [(line.get("valid_bound", line.get("valid_elbo")), line.get("epoch")) for line in f.history]
    known = [(value, epoch) for value, epoch in judged if value is not None]
    return int(max(known)[1] or 0) if len(known) > 1 else None


def _reconstruction(f: RunFacts, held: HeldOut, facts: Facts) -> Picture:
    tag, name = _tag(f, facts), _name("reconstructions", f, facts)
    alt = f"{counted(len(held.originals), 'test row')} of {f.label} and their reconstructions."
    if f.schema.sound is not None:
        rows = [f.schema.to_stored(part) for part in (held.originals, held.reconstructions)]
        image = spectrograms(rows, f.schema.sound, ("originals", "reconstructions"))
        caption = f"{tag}log-mel features of recordings above, their reconstructions directly below"
        return Picture(name, image, alt, caption, DENSITY)
    if _is_image(f):
        both = to_unit(np.concatenate([held.originals, held.reconstructions]), f.schema)
        originals, reconstructions = np.split(both, 2)
        caption = f"{tag}originals above, reconstructions directly below; {brightness(f.schema)}"
        return Picture(name, pairs_grid(originals, reconstructions, columns=12), alt, caption)
    if f.schema.kind == "sequence":
        originals = _tested(f, held).reshape(held.originals.shape)
        means = f.schema.to_stored(held.reconstructions)
        caption = f"{tag}three rows, a colour each, and dashed their reconstructions{_channels_left_out(f)}"
        return Picture(name, reconstructed_lines(originals, means), alt, caption, DENSITY)
    caption = f"{tag}{counted(len(held.originals), 'row')}; on the diagonal nothing is lost{_left_out(f)}"
    first = _columns_shown(f, MOST_COLUMNS)
    means = flat(f.schema.to_stored(held.reconstructions))
    return Picture(
        name,
        pairs_by_column(_tested(f, held)[:, first], means[:, first], *_names_of(f, first)),
        alt,
        caption,
        DENSITY,
    )


def _sampled_sounds(f: RunFacts, facts: Facts) -> Picture:
    assert f.schema.sound is not None
    rows = [f.schema.to_stored(part) for part in (f.prior_means, f.prior_draws)]
    image = spectrograms(rows, f.schema.sound, ("means of p(x|z)", "draws of p(x|z)"))
    caption = f"{_tag(f, facts)}log-mel features from the prior: means of p(x|z), and draws at the same z below"
    return Picture(_name("samples", f, facts), image, f"Recordings drawn from {f.label}.", caption, DENSITY)


def _counts(f: RunFacts, facts: Facts) -> list[Picture]:
    """Of many counts, what all columns of samples have in common with those of test rows."""
    if f.held_out is None or not _has_many_counts(f):
        return []
    data, samples = _tested(f, f.held_out), flat(f.schema.to_stored(f.prior_draws))
    sized = f.schema.context is not None and f.schema.context.size is not None
    size = "; samples have the median size, and test rows their own" if sized else ""
    which = f"{_counted(data)} and {len(samples):,} samples{size}"
    return [
        Picture(
            _name("mean-and-variance", f, facts),
            mean_and_variance(data, samples),
            f"The variance of each column over its mean, of test rows and of samples of {f.label}.",
            f"{_tag(f, facts)}each point is a column, of {which}",
            DENSITY,
        ),
        Picture(
            _name("zeros", f, facts),
            zeros_and_totals(data, samples),
            f"Shares of zeros in columns and rows, of test rows and of samples of {f.label}.",
            f"{_tag(f, facts)}on the dashed line samples have as many zeros; {which}",
            DENSITY,
        ),
    ]


def _sampled_lines(f: RunFacts, facts: Facts) -> Picture:
    others = None if f.held_out is None else _tested(f, f.held_out).reshape(f.held_out.originals.shape)
    image = sampled_lines(f.schema.to_stored(f.prior_draws), others)
    caption = f"{_tag(f, facts)}draws of p(x|z), z from the prior{f.prior_context}{_channels_left_out(f)}"
    return Picture(_name("samples", f, facts), image, f"Sequences drawn from {f.label}.", caption, DENSITY)


def _channels_left_out(f: RunFacts) -> str:
    channels = f.schema.shape[0]
    return f"; the first {MOST_CHANNELS} of {channels} channels" if channels > MOST_CHANNELS else ""


def _sampled_columns(f: RunFacts, facts: Facts) -> Picture:
    most = _most_shown(f)
    first = _columns_shown(f, most)
    tables = {"samples": flat(f.schema.to_stored(f.prior_draws))[:, first]}
    if f.held_out is not None:
        tables = {"test rows": _tested(f, f.held_out)[:, first], **tables}
    image = histograms_by_column(tables, *_names_of(f, first), most)
    draws = f"{len(f.prior_draws):,} draws of p(x|z), z from the prior{f.prior_context}"
    caption = f"{_tag(f, facts)}{draws}, by column{_left_out(f, most)}"
    return Picture(
        _name("samples", f, facts), image, f"Histograms of each column: {' and '.join(tables)}.", caption, DENSITY
    )


def _counted(rows: np.ndarray) -> str:
    return counted(len(rows), "test row")


def _left_out(f: RunFacts, most: int = MOST_COLUMNS) -> str:
    columns = len(column_names(f.schema))
    which = f"{most} with the largest means" if _has_many_counts(f) else f"first {most}"
    return f"; the {which} of {columns} columns" if columns > most else ""


def _most_shown(f: RunFacts) -> int:
    """How many columns are shown one by one, where these are compared with samples."""
    return MOST_MARGINALS if f.schema.kind == "table" and not _has_many_counts(f) else MOST_COLUMNS


def _columns_shown(f: RunFacts, most: int) -> np.ndarray:
    """The columns that pictures show, by number: the first, or of many counts, which are mostly 0, the largest."""
    columns = np.arange(len(column_names(f.schema)))
    if _has_many_counts(f):
        rows = f.prior_means if f.held_out is None else f.held_out.originals
        columns = np.argsort(-flat(rows).mean(0), kind="stable")
    return columns[:most]


def _names_of(f: RunFacts, columns: np.ndarray) -> tuple[list[str], OfColumns]:
    """The names of some columns, and their categories; of these nothing where no column is known."""
    names, categories = column_names(f.schema), column_categories(f.schema)
    return [names[place] for place in columns], [categories[place] for place in columns] if categories else []


def _has_many_counts(f: RunFacts) -> bool:
    schema = f.schema
    return schema.kind == "table" and schema.stored.kind in ("count", "binary") and len(column_names(schema)) > MANY


def _tested(f: RunFacts, held: HeldOut) -> np.ndarray:
    """Test rows as they are stored, (n, columns); NaN is a missing cell."""
    return flat(observed(f.schema.to_stored(held.originals), held.mask))


def columns_section(facts: Facts) -> Section:
    """How far the columns of samples, and pairs of columns, are from those of test rows."""
    tables = [
        table
        for f in facts
        if f.schema.kind == "table" and f.held_out is not None and len(f.held_out.originals) > 1
        for table in _column_tables(f, f.held_out, facts)
    ]
    text = (
        "Distances between the columns of samples and of test rows, over the cells that are there, from 0 (alike) to 1 "
        "± one standard error. By chance is what two tables of as many rows from one distribution have on average."
    )
    return Section("Columns and pairs", (text,) if tables else (), (), tuple(tables))


def _column_tables(f: RunFacts, held: HeldOut, facts: Facts) -> list[Table]:
    first = _columns_shown(f, _most_shown(f))
    names, known = _names_of(f, first)
    data, samples = _tested(f, held)[:, first], flat(f.schema.to_stored(f.prior_draws))[:, first]
    found = compare_columns(data, samples, names, [bool(one) for one in known] or [False] * len(names))
    worst = sorted(found.pairs, key=lambda one: one.chance - one.value)[:_MOST_PAIRS]
    tables = []
    for what, mean, shown in (
        ("column", found.single_mean, found.single),
        ("pair of columns", found.pairs_mean, worst),
    ):
        if mean is None:
            continue
        rows = [_distance_row("mean over all", mean), *(_distance_row(" and ".join(one.columns), one) for one in shown)]
        fewer = (
            f"; the {len(worst)} that are furthest from chance"
            if shown is worst and len(found.pairs) > len(worst)
            else ""
        )
        caption = f"{_tag(f, facts)}each {what}: {_counted(data)} and {len(samples):,} samples{fewer}"
        tables += [Table(("", "distance", "by chance", "measure"), tuple(rows), caption)]
    return tables


def _distance_row(name: str, found: Difference) -> tuple[Cell, ...]:
    measure = NOTHING if found.measure == "mean" else found.measure
    return cells(name, f"{found.value:.3f} ± {found.error:.3f}", f"{found.chance:.3f}", measure)


def _kl(f: RunFacts, held: HeldOut, facts: Facts) -> list[Picture]:
    if held.kl is None:
        return []
    caption = f"{_tag(f, facts)}KL per latent dimension, mean ± standard error over {counted(held.rows, 'test row')}"
    alt = (
        f"{label_of('kl_dimension')} of {f.label}, largest first, from {max(e.value or 0 for e in held.kl):.3g} {NATS}."
    )
    return [Picture(_name("kl-per-dimension", f, facts), kl_bars(held.kl), alt, caption, DENSITY)]


def _map(f: RunFacts, held: HeldOut, facts: Facts) -> Picture:
    points, names = principal_plane(held.codes)
    coloured = ", coloured by label" if held.labels is not None else ""
    classes = f": {', '.join(f.schema.classes)}" if coloured and f.schema.classes else ""
    caption = f"{_tag(f, facts)}means of q(z|x) of {_counted(points)}{coloured}"
    alt = f"Latent map of {f.label}: {_counted(points)} over {' and '.join(names)}{coloured}{classes}."
    return Picture(
        _name("latent-map", f, facts), latent_map(points, held.labels, f.schema.classes, names), alt, caption, DENSITY
    )


def _is_image(f: RunFacts) -> bool:
    return f.schema.kind == "image"


def _tag(f: RunFacts, facts: Facts) -> str:
    return f"{f.label}: " if len(facts) > 1 else ""


def _name(picture: str, f: RunFacts, facts: Facts) -> str:
    return f"{picture}-{f.label}" if len(facts) > 1 else picture


def _rgb(images: np.ndarray) -> np.ndarray:
    """(..., c, h, w) without an alpha channel."""
    return images[..., :3, :, :] if images.shape[-3] == 4 else images
