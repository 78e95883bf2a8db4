"""Start the service."""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from features.errors import UserError
from serving.exposures import Exposing
from serving.live import Live
from serving.settings import Settings

# BentoML reports its use to its makers unless told not to; tracing costs a sixth of a request and nobody reads it;
# one request is worked on by one thread.
QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "OTEL_SDK_DISABLED": "true",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def serve(settings: Settings, host: str = "127.0.0.1", port: int = 3000) -> NoReturn:
    """Become the server of a store and of the bundle deployed under a folder; this process is replaced by BentoML's.

    Raises:
        UserError: there is no store or no bundle, it is bad, the exposure log cannot be written, or the address cannot
            be had.
    """
    Live(settings)  # whatever is wrong is said here, once, and not by a worker that is started again and again
    if settings.exposures is not None:
        Exposing.to(settings.exposures, settings.explore).log.close()
    _check_free(host, port)
    arguments, env = command(settings, host, port)
    sys.stdout.flush()
    os.execve(arguments[0], arguments, {**os.environ, **env})


def command(settings: Settings, host: str, port: int) -> tuple[list[str], dict[str, str]]:
    """The command that starts BentoML, and the environment variables it needs beside the present ones."""
    here = str(Path(__file__).resolve().parents[1])
    served = ["-m", "bentoml", "serve", "serving.service:Ebbtide", "--working-dir", here]
    return [sys.executable, *served, "--host", host, "--port", str(port)], {**settings.to_env(), **QUIET}


def _check_free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}): choose another --port") from error
