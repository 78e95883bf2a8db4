"""`ebbtide`: every verb, and how errors are told."""

import os
import sys
from importlib import import_module

import typer

from features.errors import UserError

VERBS = ("ingest", "signals", "score", "recommend", "promote", "rollback", "deploy", "serve", "ui", "runs", "demo")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="An event log in; churn probabilities, recommendations and what to do next out.",
)


def build() -> typer.Typer:
    """The application with all its verbs."""
    if not app.registered_commands:
        for verb in VERBS:
            app.command(name=verb)(getattr(import_module(f"cli.{verb}"), verb))
        train = typer.Typer(no_args_is_help=True, help="Train a model, backtest it and track the run in MLflow.")
        train.command(name="churn")(import_module("cli.train_churn").train_churn)
        train.command(name="cross-sell")(import_module("cli.train_cross_sell").train_cross_sell)
        app.add_typer(train, name="train")
    return app


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "BENTOML_DO_NOT_TRACK"):
        os.environ.setdefault(name, "true")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # implicit's own threads run beside
    try:
        build()()
    except UserError as error:
        print(f"ebbtide: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
