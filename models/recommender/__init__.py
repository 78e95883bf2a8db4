"""Recommendations: heads, a blend that picks candidates, a ranker that orders them, filters, and evidence."""

from models.recommender.ask import AIMS, MODES, Aim, Ask, Filter, Mode
from models.recommender.blend import Blend
from models.recommender.catalogue import Attributes, Catalogue
from models.recommender.heads import Shop
from models.recommender.history import DAY_US, History
from models.recommender.model import HEADS, Recommender, Suggestion
from models.recommender.past import Past

__all__ = [
    "AIMS",
    "DAY_US",
    "HEADS",
    "MODES",
    "Aim",
    "Ask",
    "Attributes",
    "Blend",
    "Catalogue",
    "Filter",
    "History",
    "Mode",
    "Past",
    "Recommender",
    "Shop",
    "Suggestion",
]
