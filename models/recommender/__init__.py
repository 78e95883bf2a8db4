"""Recommendations: candidate heads, a blend per mode, and an explanation for every item."""

from models.recommender.blend import MODES, Blend, Mode
from models.recommender.history import DAY_US, Catalogue, History
from models.recommender.model import HEADS, Recommender, Suggestion

__all__ = ["DAY_US", "HEADS", "MODES", "Blend", "Catalogue", "History", "Mode", "Recommender", "Suggestion"]
