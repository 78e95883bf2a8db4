"""Maximum likelihood for BG/NBD (`models.bgnbd`)."""

import numpy as np
from scipy import optimize, special

from features.errors import UserError
from features.matrix import Matrix
from features.timeline import Array
from models.bgnbd import SIGNALS, BgNbd, Purchases

MOST_FITTED = 20_000  # customers; four numbers need no more


def purchases_of(matrix: Matrix) -> Purchases:
    """What BG/NBD reads, in days, of a matrix of users who have bought."""
    return Purchases.of(*(matrix.column(name) for name in SIGNALS))


def log_likelihood(model: BgNbd, past: Purchases) -> float:
    """Mean over customers (equation 6 of Fader, Hardie and Lee 2005)."""
    r, alpha, a, b = model.r, model.alpha, model.a, model.b
    x, tx, age = past.repeats, past.last, past.age
    bought = special.gammaln(r + x) - special.gammaln(r) + r * np.log(alpha)
    stays = special.betaln(a, b + x) - special.betaln(a, b) - (r + x) * np.log(alpha + age)
    leaves = special.betaln(a + 1, b + np.maximum(x, 1) - 1) - special.betaln(a, b) - (r + x) * np.log(alpha + tx)
    return float(np.mean(bought + np.where(x > 0, np.logaddexp(stays, leaves), stays)))


def fit_bgnbd(past: Purchases, seed: int = 0) -> BgNbd:
    """Maximum likelihood; of more than 20,000 customers a sample.

    Raises:
        UserError: nobody bought twice, so that there is no rate to tell.
    """
    if not (past.repeats > 0).any():
        raise UserError("BG/NBD needs customers with a second purchase, and there are none before the moment")
    if past.age.size > MOST_FITTED:
        chosen = np.random.default_rng(seed).choice(past.age.size, MOST_FITTED, replace=False)
        past = Purchases(past.repeats[chosen], past.last[chosen], past.age[chosen])
    unit = float(past.age.mean()) or 1.0  # so that all four parameters are of a size
    scaled = Purchases(past.repeats, past.last / unit, past.age / unit)
    # Beyond e^±8 the likelihood is flat: a shop where nobody leaves, or where all have one rate.
    found = optimize.minimize(
        lambda logs: -log_likelihood(_from_logs(logs), scaled), np.zeros(4), method="L-BFGS-B", bounds=[(-8.0, 8.0)] * 4
    )
    fitted = _from_logs(found.x)
    return BgNbd(fitted.r, fitted.alpha * unit, fitted.a, fitted.b)


def _from_logs(logs: Array) -> BgNbd:
    return BgNbd(*(float(value) for value in np.exp(logs)))
