"""The same kernel on one machine or on a cluster."""
