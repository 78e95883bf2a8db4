"""From a run to what is tracked of it: bundle, figures, plots, parameters."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pyarrow as pa

from analysis import audience_report
from features.audience.learn import Learned, learn
from features.events.store import Store
from models import audience, operations
from models import churn as churn_model
from models.batch import risks
from models.bundle import WritePart, write_bundle
from models.deployed import CROSS_SELL as CROSS_SELL_PART
from training import churn, cross_sell, offers, offers_report, paired, plots, report, tracking
from training.backtest import show
from training.champion import Champion, champion_in_force
from training.headline import Headline, headline
from training.promotion import MAIN
from training.segments import segment_figures
from training.tracking import Evidence, Tracked, scratch


def record_churn(run: churn.ChurnRun, store: Store) -> Tracked:
    """Log a churn run to MLflow and register its model, with the page on which it can be judged."""
    as_of = run.schedule.as_of
    digest = store.digest(as_of)
    described = run.model.description() | {"as_of": show(as_of), "data_digest": digest}
    params = _params(run.recipe, digest, as_of, [r.matrix.as_of for r in run.backtest]) | {
        "horizon": run.model.horizon,
        "lookback": run.model.lookback,
        "signals": len(run.model.signals),
        "training moments": len(run.schedule.train),
        "training rows": run.rows,
        "plain share": run.model.plain_share,
        "learned horizons": " ".join(map(str, run.model.horizons)),
    }
    scores = paired.backtest_table(run)
    champion = champion_in_force()
    found = headline(run, scores, _comparable(champion, run))
    by_segment = segment_figures(run)
    pictures = plots.churn_plots(run)
    learned = learn(store, as_of)
    html = report.churn_report(report.Material(run, store, params, found, by_segment, champion, pictures))
    with scratch() as folder:
        parts: dict[str, tuple[Mapping[str, Any], WritePart]] = {
            churn_model.PART: (described, run.model.save),
            audience.PART: ({"as_of": show(as_of)}, partial(audience.save, learned)),
        }
        bundle = write_bundle(folder, parts)
        evidence = Evidence(
            name=tracking.CHURN,
            contender=churn.MODEL,
            as_of=as_of,
            params=params,
            figures={result.matrix.as_of: result.figures for result in run.backtest},
            main=MAIN[tracking.CHURN],
            plots=pictures,
            bundle=bundle,
            store=store.path,
            data_digest=digest,
            signature=tracking.churn_signature(run.model.names),
            bounds=found.bounds(),
            summary=_summary(run, found, by_segment),
            tables={paired.FILE: scores},
            pages={report.FILE: html, audience_report.FILE: _audience_page(run, store, learned)},
            verdict=report.verdict(found),
        )
        return tracking.track(evidence)


def _audience_page(run: churn.ChurnRun, store: Store, learned: Learned) -> str:
    """The user base at the moment of training, with the new model's risks and the tables that come with Ebbtide."""
    as_of, tables = run.schedule.as_of, operations.shipped()
    scores = risks(store, as_of, run.model)
    about = audience_report.audience_material(store, as_of, tables.stages, tables.segments, learned, scores)
    return audience_report.audience_report(about)


def _comparable(champion: Champion | None, run: churn.ChurnRun) -> tuple[pa.Table, str] | None:
    """The champion's scores, if they answer the same question; like the gate, which asks only then."""
    if champion is None or champion.scores is None or champion.params.get("horizon") != str(run.model.horizon):
        return None
    return champion.scores, champion.contender


def _summary(
    run: churn.ChurnRun, found: Headline, by_segment: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> dict[str, dict[str, float]]:
    """Contender → metric → value, over all moments; the best offer at the newest."""
    out = {
        name: figures
        | {
            f"segment_{segment}_{figure}": value
            for segment, of_segment in by_segment[name].items()
            for figure, value in of_segment.items()
        }
        for name, figures in found.summary().items()
    }
    curve = plots.newest_profit(run)
    out[churn.MODEL] |= {
        "profit_best_share": curve.best_share,
        "profit_expected": float(curve.expected[curve.best]),
        "profit_threshold": curve.offer.threshold,
    }
    if curve.realised is not None:
        out[churn.MODEL]["profit_realised"] = float(curve.realised[curve.best])
    return out


def record_cross_sell(run: cross_sell.CrossSellRun, store: Store) -> Tracked:
    """Log a cross-sell run to MLflow and register its model, with the page on which it can be judged."""
    digest = store.digest(run.as_of)
    described = {"as_of": show(run.as_of), "data_digest": digest, "horizon": run.horizon}
    params = _params(run.recipe, digest, run.as_of, [r.as_of for r in run.backtest]) | {
        "horizon": run.horizon,
        "items": len(run.model.catalogue),
        "training rows": run.rows,
        "rankers": " ".join(run.model.rankers) or "none",
        **{f"blend.{aim}": str(blend.to_json()) for aim, blend in run.model.blends.items()},
    }
    found = offers.judged(run)
    pictures = plots.cross_sell_plots(found)
    html = offers_report.cross_sell_report(offers_report.Material(run, store, params, found, pictures))
    with scratch() as folder:
        bundle = write_bundle(folder, {CROSS_SELL_PART: (described, run.model.save)})
        evidence = Evidence(
            name=tracking.CROSS_SELL,
            contender=cross_sell.MODEL,
            as_of=run.as_of,
            params=params,
            figures={result.as_of: _ranking_figures(result) for result in run.backtest},
            main=MAIN[tracking.CROSS_SELL],
            plots=pictures,
            bundle=bundle,
            store=store.path,
            data_digest=digest,
            signature=tracking.cross_sell_signature(),
            summary=found.summary(),
            tables={offers.FILE: found.table},
            pages={offers_report.FILE: html},
            verdict="\n\n".join(offers_report.verdicts(found, run.model)),
        )
        return tracking.track(evidence)


def _ranking_figures(result: cross_sell.MomentResult) -> dict[str, dict[str, float]]:
    """Contender → metric → value, at one moment."""
    return {
        name: {
            f"{aim}_{figure}_at_{cross_sell.K}": getattr(by_name[name], figure)
            for aim, by_name in result.scores.items()
            for figure in offers.FIGURES
        }
        for name in result.scores["all"]
    }


def _params(recipe: Any, digest: str, as_of: int, tests: list[int]) -> dict[str, Any]:
    flat = {
        f"{name}.{key}" if isinstance(value, dict) else name: inner
        for name, value in recipe.items()
        for key, inner in (value.items() if isinstance(value, dict) else [("", value)])
    }
    return flat | {"as of": show(as_of), "data digest": digest, "test moments": " ".join(show(t) for t in tests)}
