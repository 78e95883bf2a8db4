"""`ebbtide runs`."""

from cli.options import say, table


def runs() -> None:
    """List the registered versions with their figures and who serves.

    Example: ebbtide runs
    """
    from training.promotion import MAIN, champion
    from training.tracking import connect, run_of

    client = connect()
    rows: list[list[object]] = []
    for name, main in MAIN.items():
        present = champion(client, name)
        for version in sorted(client.search_model_versions(f"name='{name}'"), key=lambda v: -int(v.version)):
            run = run_of(client, version).data
            figures = ", ".join(f"{metric} {run.metrics[f'{metric}_mean']:.4f}" for metric in main)
            mark = "champion" if present is not None and present.version == version.version else ""
            gate = version.tags.get("gate", "not asked").split(":")[0]
            rows.append([f"{name}/{version.version}", run.params["as of"], figures, gate, mark, version.run_id])
    if not rows:
        say("no version is registered yet: `ebbtide train churn --store DIR`")
        return
    table(("version", "as of", "mean over the backtest", "gate", "", "run"), rows)
