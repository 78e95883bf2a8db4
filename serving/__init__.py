"""The BentoML service: one bundle and one store, read only, answering over HTTP."""
