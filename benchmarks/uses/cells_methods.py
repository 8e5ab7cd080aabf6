"""What models counts of genes in cells: functions (case, seed) -> numbers, for the Python of either contender."""

import hashlib
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from scipy import sparse
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

TESTED = 0.1
SAMPLES, FEW, AT_ONCE = 5000, 100, 250
WEIGHED = 30  # cells of the bound with SAMPLES; all that are held out have that with FEW
NEIGHBOURS = 15
WIDTH, LATENTS = 128, 10  # of both contenders

Decoded = tuple[Tensor, Tensor, Tensor | None]  # ln of rates (samples, genes), ln r (genes,), logits of other zeros
Decode = Callable[[Tensor, float], Decoded]  # from z (samples, latents) and ln of a cell's total


def vaekit(case: str, seed: int) -> dict[str, float]:
    """The preset `cells`, as it is."""
    from vaekit import fit
    from vaekit.models.distributions.base import unwrapped
    from vaekit.runs import run

    x, kinds, test = cells(case, seed)
    began = time.process_time()
    settings = (f"seed={seed}", f"data.seed={seed}", "data.test_fraction=0", "train.device=cpu")
    trained = fit(run(*settings, preset="cells"), x[~test], progress=False)
    spent = time.process_time() - began
    model, context = trained.model, trained.schema.context
    assert context is not None

    def decode(z: Tensor, log_total: float) -> Decoded:
        given = context.scaled(np.array([[log_total]]))
        px: Any = unwrapped(model.decode((z,), torch.from_numpy(given).expand(len(z), -1)))
        return px.log_rate.float(), px.log_inverse, None

    def posterior(some: sparse.csr_matrix) -> tuple[Tensor, Tensor]:
        found = [trained.rows(some[start : start + 256]) for start in range(0, some.shape[0], 256)]
        codes = [model.encode(**rows.inputs(slice(0, len(rows)))).posteriors[0] for rows in found]
        return torch.cat([q.mean for q in codes]), torch.cat([q.stddev for q in codes])

    with torch.no_grad():
        return measures(x, kinds, test, posterior, decode, seed) | {"cpu seconds of training": spent}


def scvi(case: str, seed: int) -> dict[str, float]:
    """Its defaults, with early stopping."""
    import logging
    import warnings

    import anndata
    from scvi import REGISTRY_KEYS, model
    from scvi import settings as of_all

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    x, kinds, test = cells(case, seed)
    of_all.seed = seed
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    began = time.process_time()
    data = anndata.AnnData(x[~test])
    model.SCVI.setup_anndata(data)
    trained = model.SCVI(data, n_hidden=WIDTH, n_latent=LATENTS)
    trained.train(early_stopping=True, accelerator="cpu", enable_progress_bar=False)
    spent = time.process_time() - began
    module = trained.module.eval()

    def decode(z: Tensor, log_total: float) -> Decoded:
        library, batch = torch.full((len(z), 1), log_total), torch.zeros(len(z), 1)
        px = module.generative(z=z, library=library, batch_index=batch)["px"]
        return px.mu.log(), module.px_r, px.zi_logits

    def posterior(some: sparse.csr_matrix) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(some.toarray())
        q = module.inference(x=rows, batch_index=torch.zeros(len(rows), 1))["qz"]
        return q.loc, q.scale

    with torch.no_grad():
        found = measures(x, kinds, test, posterior, decode, seed)
        rows = torch.from_numpy(x[test][:20].toarray())
        of_one = torch.zeros(len(rows), 1)
        tensors = {REGISTRY_KEYS.X_KEY: rows, REGISTRY_KEYS.BATCH_KEY: of_one, REGISTRY_KEYS.LABELS_KEY: of_one}
        theirs = module.marginal_ll(tensors, n_mc_samples=200)
        ours = [log_p(row, *posterior_of(some, posterior), decode, 200, seed) for row, some in each(x[test][:20])]
    found["difference from marginal_ll"] = float(np.mean(ours) - np.mean(np.asarray(theirs)))
    return found | {"cpu seconds of training": spent, "epochs": len(trained.history["elbo_train"])}


def cells(case: str, seed: int) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Counts (cells, genes), the number of each cell's type, and which tenth of the cells is for the test."""
    with h5py.File(Path(os.environ["VAEKIT_DATA"]) / "cells" / f"{case}.h5ad") as file:
        matrix: Any = file["X"]
        parts = [matrix[name][()] for name in ("data", "indices", "indptr")]
        x = sparse.csr_matrix(tuple(parts), shape=tuple(matrix.attrs["shape"]), dtype=np.float32)
        kinds = np.asarray(file["obs/cell_type/codes"], np.int64)
    test = np.zeros(len(kinds), bool)
    test[np.random.default_rng(seed).permutation(len(kinds))[: round(TESTED * len(kinds))]] = True
    return x, kinds, test


def measures(
    x: sparse.csr_matrix,
    kinds: np.ndarray,
    test: np.ndarray,
    posterior: Callable[[sparse.csr_matrix], tuple[Tensor, Tensor]],
    decode: Decode,
    seed: int,
) -> dict[str, float]:
    """Of any of both: the bound on ln p(x | total) per held-out cell, and how well neighbours say types."""
    codes = [posterior(x[start : start + 256])[0] for start in range(0, x.shape[0], 256)]
    z = torch.cat(codes).numpy()
    neighbours = KNeighborsClassifier(NEIGHBOURS).fit(z[~test], kinds[~test])

    def bounds_of(some: sparse.csr_matrix, samples: int) -> list[float]:
        return [log_p(row, *posterior_of(one, posterior), decode, samples, seed) for row, one in each(some)]

    bounds = bounds_of(x[test][:WEIGHED], SAMPLES)
    digest = hashlib.sha256(z.tobytes() + np.array(bounds).tobytes()).digest()
    return {
        "log-likelihood": float(np.mean(bounds)),
        "log-likelihood of all": float(np.mean(bounds_of(x[test], FEW))),
        "accuracy of neighbours": float((neighbours.predict(z[test]) == kinds[test]).mean()),
        "digest": float(int.from_bytes(digest[:6], "big")),
    }


def each(x: sparse.csr_matrix) -> list[tuple[np.ndarray, sparse.csr_matrix]]:
    return [(x[place].toarray()[0], x[place]) for place in range(x.shape[0])]


def posterior_of(some: sparse.csr_matrix, posterior: Callable[..., tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    mean, spread = posterior(some)
    return mean[0], spread[0]


def log_p(x: np.ndarray, mean: Tensor, spread: Tensor, decode: Decode, samples: int, seed: int) -> float:
    """ln (1/K) sum_k p(x|z_k) p(z_k) / q(z_k|x), with all constants, given the cell's total."""
    noise = torch.Generator().manual_seed(seed)
    seen = torch.from_numpy(np.flatnonzero(x))
    counts = torch.from_numpy(x).double()[seen]
    log_w = []
    for start in range(0, samples, AT_ONCE):
        e = torch.randn(min(AT_ONCE, samples - start), len(mean), generator=noise)
        z = mean + spread * e
        log_rate, log_r, zero_logits = decode(z, float(math.log(x.sum())))
        of_zeros = -log_r.exp() * (log_rate - log_r).exp().log1p()
        # of counts: ln Gamma(x + r) / (Gamma(r) x!) + r ln(r / (r + m)) + x ln(m / (r + m)), the middle as of zeros
        r, ln_r, ln_m = log_r[seen].exp().double(), log_r[seen].double(), log_rate[:, seen].double()
        constant = torch.lgamma(counts + r) - torch.lgamma(r) - torch.lgamma(counts + 1)
        of_counts = constant + counts * (ln_m - torch.logaddexp(ln_r, ln_m))
        if zero_logits is not None:  # of p(0) = pi + (1 - pi) NB(0), and p(x) = (1 - pi) NB(x)
            inflated = torch.logaddexp(zero_logits, of_zeros)
            of_counts = of_counts + (of_zeros - inflated)[:, seen].double()
            of_zeros = inflated - torch.nn.functional.softplus(zero_logits)
        log_px = of_zeros.sum(1).double() + of_counts.sum(1)
        log_pz_qz = 0.5 * (e.double() ** 2 - z.double() ** 2).sum(1) + spread.double().log().sum()
        log_w += [log_px + log_pz_qz]
    return float(torch.cat(log_w).logsumexp(0) - math.log(samples))
