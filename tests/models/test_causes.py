"""Causes of leaving: each account is told from its own signs, little evidence is unknown, an answer outweighs all."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from features import signals as catalogue
from features.engines.local import matrices
from features.errors import UserError
from features.events.ingest import ingest
from features.events.sources import Source
from features.timeline import Array
from models import causes
from models.causes import SIGNALS, Cause, infer_causes, load_settings, usual_of
from tests.features.support import NOW, at
from training.simulation import simulate
from training.simulation.parameters import load

#: a user with a year behind her, all as it used to be until she stopped; the shop's mean user is the same
AS_EVER: dict[str, float] = {
    "views_ever": 200,
    "visits_ever": 50,
    "order_days_ever": 12,
    "browse_minutes_ever": 100,
    "searches_ever": 40,
    "empty_searches_ever": 4,
    "not_interested_ever": 2,
    "carts_ever": 30,
    "purchases_ever": 18,
    "refunds_ever": 1,
    "complaints_ever": 0.5,
    "failed_payments_ever": 0.5,
    "delivery_days_ever": 3,
    "messages_sent_ever": 20,
    "messages_opened_ever": 6,
    "days_since_first_seen": 365,
    **{f"views_in_{n}v": 4 * n for n in (1, 2, 4, 8, 16)},
    **{f"browse_minutes_in_{n}v": 2 * n for n in (1, 2, 4, 8)},
    **{f"favourite_category_before_{n}v": 0.5 for n in (1, 2, 4, 8)},
    **{f"favourite_category_in_{n}v": 0.5 for n in (1, 2, 4, 8)},
    **{f"messages_sent_in_{n}v": 0.4 * n for n in (1, 2, 4, 8)},
    **{f"messages_opened_in_{n}v": 0.12 * n for n in (1, 2, 4, 8)},
    **{f"days_since_visits_{n}v": 30 + 7 * (n - 1) for n in (1, 2, 4, 8, 16)},
    **{f"searches_in_{n}v": 0.8 * n for n in (4, 16)},
    **{f"empty_searches_in_{n}v": 0.08 * n for n in (4, 16)},
    **{f"not_interested_in_{n}v": 0.04 * n for n in (4, 16)},
    **{f"carts_in_{n}v": 0.6 * n for n in (4, 16)},
    **{f"purchases_in_{n}v": 0.36 * n for n in (4, 16)},
    "refunds_in_3o": 0,
    "complaints_in_3o": 0,
    "failed_payments_in_3o": 0,
    "delivery_days_in_3o": 3,
}
NEED_ENDED = {
    **{f"favourite_category_in_{n}v": 0.0 for n in (1, 2, 4, 8)},
    **{f"browse_minutes_in_{n}v": 0.9 * n for n in (1, 2, 4, 8)},
    **{f"messages_opened_in_{n}v": 0.0 for n in (1, 2, 4, 8)},
}
ORDERS_FAILED = {"refunds_in_3o": 3, "refunds_ever": 4, "complaints_in_3o": 2, "complaints_ever": 2.5}
NOTHING_FOUND = {"searches_in_16v": 24, "empty_searches_in_16v": 10, "searches_ever": 55, "empty_searches_ever": 14}
THINNED_OUT = {f"days_since_visits_{n}v": 30 + 20 * (n - 1) for n in (1, 2, 4, 8)}


def row(*changes: Mapping[str, float]) -> Array:
    """float32[1, signals]; what is not named was never observed."""
    told = dict(AS_EVER)
    for change in changes:
        told.update(change)
    return np.array([[told.get(name, np.nan) for name in SIGNALS]], np.float32)


USUAL = row()[0].astype(np.float64)


def cause(*changes: Mapping[str, float], language: str = "en") -> Cause:
    return infer_causes(row(*changes), USUAL, language="zh" if language == "zh" else "en")[0]


@pytest.mark.parametrize(
    ("signs", "expected", "said"),
    [
        (NEED_ENDED, "natural", "The category viewed most makes up 0 % of the newest views; "),
        (ORDERS_FAILED, "experience", "5 refunds, complaints and failed payments around the last 3 orders; "),
        (NOTHING_FOUND, "experience", "10 of 24 searches in the last 16 visits found nothing; "),
        (THINNED_OUT, "soft", "20 days from visit to visit at last; "),
    ],
)
def test_each_cause_is_told_from_its_signs(signs: Mapping[str, float], expected: str, said: str) -> None:
    found = cause(signs)
    assert found.cause == expected
    assert 0.5 < found.confidence < 1
    assert any(text.startswith(said) for text in found.evidence), found.evidence
    chinese = cause(signs, language="zh")
    assert (chinese.cause, chinese.confidence) == (found.cause, found.confidence)
    assert all(text.endswith("。") for text in chinese.evidence)


def test_the_more_goes_wrong_the_surer_it_was_we() -> None:
    sure = []
    for troubles in range(7):
        found = cause({"refunds_in_3o": troubles, "refunds_ever": 1 + troubles})
        sure.append(found.confidence if found.cause == "experience" else 0.0)
    assert sure == sorted(sure)
    assert sure[0] == 0 < 0.5 < sure[-1]


def test_what_is_usual_for_the_user_is_no_sign() -> None:
    """Who always had trouble and stayed is not leaving for it: the same newest orders, another past."""
    new = cause(ORDERS_FAILED)
    used_to_it = cause(ORDERS_FAILED, {"refunds_ever": 15, "complaints_ever": 8})
    assert new.cause == "experience"
    assert used_to_it.cause != "experience" or used_to_it.confidence < new.confidence - 0.2


def test_little_evidence_is_unknown() -> None:
    nothing = np.full((1, len(SIGNALS)), np.nan, np.float32)
    (found,) = infer_causes(nothing, np.full(len(SIGNALS), np.nan))
    assert (found.cause, found.evidence) == ("unknown", [])
    purchases_only = row()
    seen = [SIGNALS.index(name) for name in ("order_days_ever", "days_since_first_seen", "purchases_ever")]
    purchases_only[:, [i for i in range(len(SIGNALS)) if i not in seen]] = np.nan
    assert infer_causes(purchases_only, usual_of(purchases_only))[0].cause == "unknown"


@pytest.mark.parametrize("said", ["natural", "soft", "experience"])
def test_an_answer_outweighs_what_is_inferred(said: str) -> None:
    for signs in (NEED_ENDED, ORDERS_FAILED, THINNED_OUT, {}):
        found = cause(signs, {f"days_since_answer_{said}": 12.0})
        assert found.cause == said
        assert found.confidence >= 0.85
        assert found.evidence[0].startswith("Answered 12 days ago: ")


def test_the_newest_answer_in_time_counts() -> None:
    both = {"days_since_answer_soft": 12.0, "days_since_answer_experience": 40.0}
    assert cause(NEED_ENDED, both).cause == "soft"
    assert cause(NEED_ENDED, {"days_since_answer_soft": 400.0}).cause == "natural"
    assert cause(NEED_ENDED, {"days_since_answer_other": 12.0}).cause == "unknown"


def test_users_do_not_depend_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    signs: list[Mapping[str, float]] = [NEED_ENDED, ORDERS_FAILED, NOTHING_FOUND, THINNED_OUT, {}]
    values = np.concatenate([row(one) for one in signs] * 3)
    together = infer_causes(values, USUAL)
    assert together == [cause(one) for one in signs] * 3
    monkeypatch.setattr(causes, "CHUNK", 4)
    assert infer_causes(values, USUAL) == together
    assert infer_causes(values[:0], USUAL) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[weigths]\nneed = 1", "[weigths]"),
        ("[weights]\nneeds = 1", "needs"),
        ("[weights]\nneed = 2", "give a share"),
        ("[natural]\nneed = 0", "more than 0"),
        ("[unmet]\nempty = 1.0", "give a share"),
        ("[settings]\ncap = true", "give a number"),
        ("[prior]\nsoft = nan", "give a number"),
        ("weights = 3", "must be a table"),
        ("[weights", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_key(text: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "causes.toml"
    file.write_text(text)
    with pytest.raises(UserError) as told:
        load_settings(file)
    assert problem in str(told.value)
    assert str(file) in str(told.value)


def test_a_file_overrides_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "causes.toml"
    file.write_text("[settings]\nconfidence = 0.99\n[soft]\ndwell = 1.0\n")
    settings = load_settings(file)
    assert settings.weights == load_settings().weights
    assert infer_causes(row(THINNED_OUT), USUAL, settings)[0].cause == "unknown"


def test_causes_of_a_simulated_shop(tmp_path: Path, tell: Callable[..., None]) -> None:
    """Simulated, and another seed than the weights were set on; larger and other shops: benchmarks/causes.py."""
    simulate(load(), tmp_path / "shop", users=1_200, days=360, seed=77)
    store = ingest(
        Source(tmp_path / "shop" / "events.parquet", tmp_path / "shop" / "items.parquet"), tmp_path / "store", now=NOW
    ).store
    assert store is not None
    truth = pd.read_parquet(tmp_path / "shop" / "truth" / "users.parquet").set_index("user_id")
    moment = at("2022-12-15")
    (matrix,) = matrices(store, [moment], catalogue.by_name((*SIGNALS, "days_since_purchase")), threads=1)
    bought = np.isfinite(matrix.values[:, -1])
    rows = truth.reindex(matrix.user_ids.to_pandas())
    leaving = bought & (rows["onset"].to_numpy() < np.datetime64(moment, "us"))
    values = np.ascontiguousarray(matrix.values[:, :-1])
    found = np.array([one.cause for one in infer_causes(values[leaving], usual_of(values[bought]))])
    known = found != "unknown"
    truly = rows["cause"][leaving].to_numpy(str)
    macro = float(f1_score(truly[known], found[known], average="macro", labels=list(causes.CAUSES)))
    tell(simulated_users=int(leaving.sum()), macro_f1=round(macro, 3), unknown=round(1 - float(known.mean()), 3))
    assert macro >= 0.75
    assert known.mean() >= 0.8


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_not_observed_an_answer_is_sound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.repeat(row(), 300, axis=0) * rng.choice([0.0, 0.5, 1.0, 3.0], (300, len(SIGNALS)))
    values[rng.random(values.shape) < 0.3] = np.nan
    for one in infer_causes(values.astype(np.float32), np.where(rng.random(len(SIGNALS)) < 0.2, np.nan, USUAL)):
        assert one.cause in (*causes.CAUSES, "unknown")
        assert 0 < one.confidence <= 1
        assert len(one.evidence) <= 3
        assert not any("nan" in text or "inf" in text for text in one.evidence)
