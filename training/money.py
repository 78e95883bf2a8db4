"""What an offer earns: whom to contact, how many of them, and for how much."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from features.errors import UserError
from features.timeline import Array


@dataclass(frozen=True)
class Offer:
    """What is offered to users at risk; all amounts in units of the currency, a user.

    Attributes:
        lifetime_value: what a user who is kept is worth.
        offer_cost: of an offer that is taken up.
        contact_cost: of reaching a user, whatever comes of it.
        alpha, beta: the share of leavers who accept and stay is Beta(alpha, beta).
    """

    lifetime_value: float = 200.0
    offer_cost: float = 10.0
    contact_cost: float = 1.0
    alpha: float = 6.0
    beta: float = 14.0

    def __post_init__(self) -> None:
        """Raises UserError where a number makes no sense."""
        for name in ("lifetime_value", "alpha", "beta"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} of an offer is {getattr(self, name)}; it must be greater than 0")
        for name in ("offer_cost", "contact_cost"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} of an offer is {getattr(self, name)}; it must be 0 or more")

    @property
    def accepted(self) -> float:
        """Mean share of leavers who accept."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def per_leaver(self) -> float:
        """Profit of contacting a user who was about to leave."""
        return self.accepted * (self.lifetime_value - self.offer_cost) - self.contact_cost

    @property
    def per_stayer(self) -> float:
        """Profit of contacting a user who would have stayed: they take the offer all the same."""
        return -self.offer_cost - self.contact_cost

    @property
    def threshold(self) -> float:
        """The probability of leaving from which on contacting a user pays; 1 if it never does, 0 if it always does."""
        gain, loss = self.per_leaver, -self.per_stayer
        return float(np.clip(loss / (gain + loss), 0, 1)) if gain + loss > 0 else 1.0


@dataclass(frozen=True)
class ProfitCurve:
    """Profit by the share of users contacted, highest risk first.

    Attributes:
        share: float64[users + 1], from 0 to 1.
        expected: float64[users + 1], currency units by user of all, as the probabilities foretell it.
        realised: the same as it came about; None where outcomes are not known.
        best: place on the curve where every user from the threshold upwards is contacted.
    """

    offer: Offer
    share: Array
    expected: Array
    realised: Array | None
    best: int

    @property
    def best_share(self) -> float:
        """Share of users worth contacting, by their probabilities."""
        return float(self.share[self.best])


def profit_curve(probability: Array, offer: Offer, churned: Array | None = None) -> ProfitCurve:
    """Profit of contacting more and more users, with the costs and gains of Verbraken, Verbeke and Baesens (2013).

    A leaver accepts with the offer's mean share; `metrics.expected_maximum_profit` is over that share's distribution.

    Args:
        probability: float64[users], calibrated.
        churned: bool[users], where it is known.
    """
    order = np.argsort(-probability, kind="stable")
    best = int((probability >= offer.threshold).sum()) if offer.threshold < 1 else 0
    share = np.arange(len(order) + 1) / max(1, len(order))
    realised = None if churned is None else _running(churned[order].astype(np.float64), offer)
    return ProfitCurve(offer, share, _running(probability[order], offer), realised, best)


def _running(leaves: Array, offer: Offer) -> Array:
    """Profit by user of all after each contact; `leaves` is how surely each leaves."""
    each = leaves * offer.per_leaver + (1 - leaves) * offer.per_stayer
    return np.append(0.0, np.cumsum(each)) / max(1, len(leaves))


def profit_plot(curve: ProfitCurve, day: str) -> Figure:
    """Expected and realised profit by the share of users contacted, with the best share marked."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(
        title=f"Profit of an offer, {day}",
        xlabel="share of users contacted, highest risk first",
        ylabel="currency units by user",
    )
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(0, color="#999", lw=1, ls=":")
    axes.plot(curve.share, curve.expected, color="#0b6e8a", label="expected from the probabilities")
    if curve.realised is not None:
        axes.plot(curve.share, curve.realised, color="#c0792a", label="realised")
    label = f"worth contacting: {curve.best_share:.0%} (probability of {curve.offer.threshold:.2f} and more)"
    axes.axvline(curve.best_share, color="#0b6e8a", lw=1, ls="--", label=label)
    axes.legend(frameon=False)
    return figure
