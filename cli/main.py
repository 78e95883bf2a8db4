"""`ebbtide`: every verb, and how errors are told."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import typer

from features.errors import UserError

# verb: the line that the list of commands shows; its file has the same first line
VERBS = {
    "ingest": "Read an event log into a store.",
    "signals": "Write every signal of every user at a moment.",
    "train churn": "Train the churn model.",
    "train cross-sell": "Train the recommender.",
    "score": "Write every user's churn probability.",
    "recommend": "Write every user's recommendations.",
    "promote": "Make a version champion if it passes the gate; else exit 1.",
    "rollback": "Go back to the champion before this one.",
    "monitor": "Compare live users and outcomes with training; exit 1 on alarm.",
    "deploy": "Put the champions and the operator's tables into one bundle and into service.",
    "audience": "Write who every user is: stage, segment, tier, needs, risk, cause, value.",
    "plan": "Write whom to contact now, how and with what, for a CRM to send.",
    "needs": "Propose needs: what users look at or buy first, and what then.",
    "structure": "Show who was where at some moments, who moved, who stayed.",
    "report": "Write the page on the user base, or on one user.",
    "serve": "Serve the deployed bundle over HTTP.",
    "off-policy": "Tell from the exposure log what a recommender's lists would have earned.",
    "erase": "Remove a person everywhere, and prove it; exit 1 if a trace is left.",
    "ui": "Open MLflow on the tracked runs.",
    "runs": "List the registered versions with their figures and who serves.",
    "simulate": "Write the log of a simulated shop, and the truth behind it.",
    "demo": "The whole road on Complete Journey (grocery shopping, by its makers simulated from real patterns).",
}


def build(arguments: Sequence[str]) -> typer.Typer:
    """The application for a command line: it lists all verbs and imports the one asked for, as that takes seconds."""
    app = _group("An event log in; churn probabilities, recommendations and what to do next out.")
    train = _group("Train a model, backtest it and track the run in MLflow.")
    asked = " ".join(word for word in arguments if not word.startswith("-")) + " "
    for verb, line in VERBS.items():
        run = _function(verb) if asked.startswith(f"{verb} ") else _not_asked
        *group, name = verb.split()
        (train if group else app).command(name, help=line if run is _not_asked else None)(run)
    app.add_typer(train, name="train")
    return app


def _group(about: str) -> typer.Typer:
    return typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        help=about,
    )


def _function(verb: str) -> Callable[..., Any]:
    name = verb.replace(" ", "_").replace("-", "_")
    function: Callable[..., Any] = getattr(import_module(f"cli.{name}"), name)
    return function


def _not_asked() -> None:
    raise AssertionError("a verb that is not asked for is only listed")


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "BENTOML_DO_NOT_TRACK"):
        os.environ.setdefault(name, "true")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # implicit's own threads run beside
    try:
        build(sys.argv[1:])(prog_name="ebbtide")
    except UserError as error:
        print(f"ebbtide: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a full disk, a folder in place of a file: it names the path
        print(f"ebbtide: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
