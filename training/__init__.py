"""Fit, backtest, compare, track and promote models."""
