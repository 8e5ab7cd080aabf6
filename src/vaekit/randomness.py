"""How random numbers are keyed: what is drawn is a function of a seed and of what it is drawn for, never of the past.

A stream of numbers is found by (seed, purpose, where). `Purpose` lists all of them; no two draws of a run have the same
key, so no two share numbers by accident.
"""

from collections.abc import Callable, Sequence
from enum import Enum

import numpy as np
import torch
from torch import Tensor


class Purpose(Enum):
    """What random numbers are for: the beginning of their key. What else is in the key stands beside each.

    The numbers are fixed, or a run would not give the same result again. One may begin with another's, where the keys
    differ in length.
    """

    # building a model
    WEIGHTS = (0,)  # first weights of the model
    START_ROWS = (0, 1)  # binarisation of the training rows that the model is initialised from
    DISCRIMINATOR = (0, 2)  # first weights of an objective's discriminator
    CODEBOOKS = (7,)  # at which encoded rows code vectors start
    TRIAL = (8,)  # a pass that shows shapes, or whether parts fit: its numbers are thrown away

    # training
    ORDER = (1,)  # the rows in a random order: epoch; without one, which test rows a report shows
    BINARISE = (2,)  # binarisation of a batch: step, block of rows
    POSTERIOR = (3,)  # noise of z: step, group, block of rows; of steps drawn at once, see `NoiseSource`
    HIDE = (14,)  # which numbers are hidden from the encoder: step, block of rows
    STEP = (9,)  # what a step draws by a generator: step, first row of its part of the batch, process
    VALIDATE = (4,)  # z of the validation rows: block of rows

    # evaluating a trained model
    BASELINE = (2, 1)  # binarisation of the training rows that the best model without z is fitted to
    EVALUATE = (5,)  # z of evaluated rows, the same for every measure: block of rows
    EVALUATED_ROWS = (10,)  # their binarisation, of training rows alone: block of rows; without one, of some of them
    SIMULATE = (11,)  # rows that the model makes, to be evaluated with their true z
    COMPARED_ROWS = (12,)  # binarisation of the training rows that samples are compared with
    CLASSIFIER = (31,)  # first weights of the classifier whose features samples are compared in
    CLASSIFIER_SCALE = (31, 0)  # binarisation of the rows that scale its inputs
    CLASSIFIER_ROWS = (31, 1)  # binarisation of the rows that it is trained on
    CLASSIFIER_ORDER = (32,)  # their order
    COMPONENTS_ROWS = (33,)  # binarisation of the rows that principal components are made from
    COMPONENTS = (33, 0)  # the directions at which a search for many components starts
    PROBE_ROWS = (35, 0)  # on which rows the penalty of a linear probe is chosen
    PROBE_FOLDS = (35, 1)  # how these are divided for cross-validation
    SCORED_ROWS = (36, 0)  # the rows that scores of disentanglement are of
    SCORED_TREES = (36, 1)  # the ties of decision trees in them
    FACTOR_VOTES = (36, 2)  # the batches of the FactorVAE score

    TABLE_TREES = (38, 0)  # gradient boosting of a column from the others
    TABLE_ROWS = (38, 1)  # resampling of the rows that are predicted

    # checks of gradient estimators, on models of their own: number, estimator
    GRADIENT_CHECK = (20,)
    BOUND_CHECK = (21,)

    # using a trained model
    ENCODED_ROWS = (13,)  # binarisation of rows to encode or reconstruct, of training rows alone: first row
    GENERATE = (6,)  # new rows
    GENERATED_CONTEXTS = (43,)  # the training rows whose context they have
    SAMPLER_CODES = (30, 0)  # z that a sampler is fitted to: block of rows
    SAMPLER_FLOW = (30, 1)  # first weights of a sampler's flow
    SAMPLER_MIXTURE = (30, 2)  # where the components of a sampler's mixture start
    SAMPLER_ORDER = (34,)  # the order of the codes that it is fitted to
    IMPUTED_ROWS = (40, 0)  # z of a row with missing cells, and these: row
    HIDDEN_CELLS = (40, 1)  # which observed cells are hidden to be imputed: without a key
    HIDDEN_ROWS = (40, 2)  # z of a row of which cells are hidden, and these: row
    SHARED_BY_ROWS = (44,)  # z of rows that an estimator scores, the same for each of them: group
    SCORED_Z = (46, 0)  # z of a row that is scored: a checksum of the row
    CONDITIONAL_CELLS = (
        46,
        1,
    )  # the same without one of its cells: a checksum of the row, cell; its binarisation: block of them
    HELD_OUT_ITEMS = (42,)  # which items of each user are held out: without a key
    EXPRESSED_CELLS = (45, 0)  # z of the cells whose expression of genes is drawn: block of rows
    COMPARED_CELLS = (45, 1)  # z of the pairs of cells whose expression is compared: which of both, block of pairs
    PAIRS_OF_CELLS = (45, 2)  # which cells these are: without a key
    PHASES = (37,)  # the phases that sound made of its spectrum starts from


def new_generator(seed: int, *key: Purpose | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose stream is a function of (seed, *key) alone, for instance (seed, purpose, step)."""
    state = _sequence(seed, key).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state) >> 1)


def fixed_generator() -> torch.Generator:
    """The generator of what is the same in every run: moments of a distribution by its draws, an order of rows.

    It is torch's for the seed 0, without a key: first weights and numbers of runs that were made before depend on it.
    """
    return torch.Generator().manual_seed(0)


def numpy_generator(seed: int, purpose: Purpose, *key: int) -> "np.random.Generator":  # whose import takes a while
    """A generator of NumPy whose stream is a function of (seed, purpose, *key) alone."""
    return np.random.default_rng(_sequence(seed, (purpose, *key)))


def sklearn_seed(seed: int, purpose: Purpose, *key: int) -> int:
    """The `random_state` for something of scikit-learn, a function of (seed, purpose, *key) alone."""
    return int(_sequence(seed, (purpose, *key)).generate_state(1)[0])


def _sequence(seed: int, key: Sequence[Purpose | int]) -> "np.random.SeedSequence":
    numbers = [number for part in key for number in (part.value if isinstance(part, Purpose) else (part,))]
    # as a spawn key, not as entropy: there (1,) and (1, 0) would be one stream
    return np.random.SeedSequence(seed, spawn_key=numbers)


def split_generator(seed: int, part: int) -> "np.random.Generator":  # whose import takes a while
    """The generator that chooses which rows are for training, validation and test.

    Its key is not among those of `Purpose`, since runs record nothing of a split but `data.seed`: a split that was made
    once is made so again. It is entropy, beside which a spawn key never gives the same stream.

    Args:
        seed: Of the split, `data.seed`.
        part: Of the data that is divided: 0 for the training rows, and arrays given in Python; 1 for the test rows of a
            set that brings its own.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, part])))


BLOCK = 256  # rows of a batch whose noise is drawn at once


def noise_of_rows(
    draw: Callable[[int, torch.Generator], Tensor],
    rows: slice,
    batch: int,
    seed: int,
    *key: Purpose | int,
    device: torch.device | str = "cpu",
    dim: int = 0,
) -> Tensor:
    """Noise for the rows `rows` of a batch: a function of the key and of where the rows stand in the batch.

    So a batch that is divided, among processes or to save memory, gets the noise that it would get whole.

    Args:
        draw: Makes noise for a number of rows, from a generator.
        rows: Those wanted, by number within the batch.
        batch: Rows of the whole batch.
        seed: Of the run.
        key: Purpose and step, and whatever else distinguishes draws; blocks of rows are distinguished here.
        device: Of the generators.
        dim: The dimension of the noise that has the rows.
    """
    parts = []
    for block in range(rows.start // BLOCK, max(rows.start // BLOCK + 1, -(-rows.stop // BLOCK))):
        first = block * BLOCK
        noise = draw(min(BLOCK, batch - first), new_generator(seed, *key, block, device=device))
        start = max(rows.start, first) - first
        parts += [noise.narrow(dim, start, min(rows.stop - first, noise.shape[dim]) - start)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
