"""A Ray cluster: one on this machine for as long as it is needed, or the one that ``RAY_ADDRESS`` names.

Ray is an optional package and is imported only here and where a cluster is there already.
"""

import importlib.util
import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from tempfile import TemporaryDirectory
from typing import Any

import torch

REACHED = 5.0
"""Seconds that the head of a cluster has to answer."""
ATTEMPTS = 3
"""A node has 30 s to start, which is Ray's own limit; a busy machine may need the files in its memory first."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_gcs_rpc_server_connect_timeout_s": "5",
    "RAY_py_gcs_connect_timeout_s": "5",
}
ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # also on Linux the switch that binds everything to 127.0.0.1
    "RAY_AUTH_MODE": "token",
    "RAY_agent_register_timeout_ms": "100000",
    "RAY_enable_metrics_collection": "0",
}


class ClusterError(RuntimeError):
    """The cluster cannot do what is asked; the message is one sentence for a person."""


@dataclass(frozen=True)
class Share:
    """What every worker has of a cluster.

    Attributes:
        count: workers.
        cpus: processors of each.
        gpus: of each; a fraction where several share one.
    """

    count: int
    cpus: int
    gpus: float

    @property
    def device(self) -> str:
        """Where models lie, as `model_zoo.loading.load` takes it."""
        return "cuda" if self.gpus else "cpu"

    @property
    def neighbours(self) -> int:
        """How many workers share a memory: those of a GPU, else all, as on one machine."""
        return max(1, round(1 / self.gpus)) if self.gpus else self.count


@contextmanager
def connected(workers: int | None = None, device: str = "auto") -> Iterator[None]:
    """Connect to a cluster, and leave it at the end; one that was started here ends with it.

    Nothing happens where this process is connected already.

    Args:
        workers: processors of a cluster that is started here without GPUs; all that this process may use if None.
        device: ``cpu`` leaves the GPUs of this machine out.

    Raises:
        ClusterError: Ray is not installed, or the cluster does not answer, or none can be started.
    """
    ray = required()
    if ray.is_initialized():
        yield
        return
    address = _address()
    with nullcontext("") if address else _folder() as folder:
        try:
            if address:
                _join(ray, address)
            else:
                _start(ray, folder, workers, device)
            yield
        finally:
            ray.shutdown()


def processors() -> int:
    """Of the whole cluster."""
    import ray

    return int(ray.cluster_resources().get("CPU", 0))


def share(asked: int | None, device: str) -> Share:
    """How the cluster is shared out: a worker a GPU where there are any, else a worker a processor.

    Raises:
        ClusterError: the cluster has nothing for even one.
    """
    import ray

    cpus, gpus = processors(), 0 if device == "cpu" else int(ray.cluster_resources().get("GPU", 0))
    if device == "cuda" and not gpus:
        raise ClusterError("The Ray cluster has no GPU: leave --device out, or start its machines with --num-gpus.")
    if not cpus:
        raise ClusterError("The Ray cluster has no processor for workers: start its machines with --num-cpus.")
    count = min(asked or gpus or cpus, cpus)
    if not gpus:
        return Share(count, 1, 0)
    on_each = -(-count // gpus)
    return Share(count, max(1, cpus // count), 1 / on_each if on_each > 1 else 1)


def _address() -> str:
    """The cluster that the user means; empty for one of our own."""
    found = os.environ.get("RAY_ADDRESS", "").strip()
    return "" if found == "local" else found


def required() -> Any:
    """Ray, set to tell nobody of itself, and, for a cluster of our own, to answer nobody but this process.

    Raises:
        ClusterError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ClusterError("--engine ray needs Ray: pip install -r requirements-ray.txt, or leave --engine out.")
    os.environ |= QUIET
    if not _address() and "ray" not in sys.modules:
        os.environ |= {"RAY_AUTH_TOKEN": secrets.token_hex(32), **ALONE}
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    return ray


def _folder() -> TemporaryDirectory:
    """Where Ray keeps its sockets and logs, whose paths may not be long."""
    return TemporaryDirectory(prefix="probes-", dir="/tmp", ignore_cleanup_errors=True)


def _start(ray: Any, folder: str, workers: int | None, device: str) -> None:
    os.environ |= {"RAY_gcs_server_port_wait_time_s": "60"}
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    gpus = 0 if device == "cpu" else torch.cuda.device_count()
    for attempt in range(ATTEMPTS):
        try:
            ray.init(
                address="local",
                num_cpus=cores if gpus else min(workers or cores, max(cores, 2)),
                num_gpus=gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                _temp_dir=folder,
            )
            return
        except Exception as error:
            ray.shutdown()
            if attempt + 1 == ATTEMPTS:
                raise ClusterError(
                    f"Ray does not start on this machine: {_first_line(error)} Try again when the machine is less "
                    "busy, or leave --engine out."
                ) from None


def _join(ray: Any, address: str) -> None:
    if "://" in address:
        raise ClusterError(
            f"RAY_ADDRESS is {address}; run on a machine of the cluster and write HOST:PORT of its head, or auto."
        )
    if address != "auto":
        _answers(address)
    os.environ |= {"RAY_gcs_server_port_wait_time_s": "1"}  # attempts, each of some 15 s
    try:
        with _silent():
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:
        ray.shutdown()
        raise ClusterError(
            f"The Ray cluster of RAY_ADDRESS={address} cannot be used: {_first_line(error)} Run on one of its "
            f"machines, with Ray {version('ray')} and one RAY_AUTH_TOKEN on all, or unset RAY_ADDRESS for a cluster on "
            "this machine."
        ) from None


def _answers(address: str) -> None:
    """See that somebody listens, which Ray itself waits long for."""
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
        raise ClusterError(f"RAY_ADDRESS is {address!r}; write HOST:PORT of the cluster's head, or auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHED).close()
    except OSError as error:
        why = error.strerror or error
        raise ClusterError(
            f"No Ray cluster answers at RAY_ADDRESS={address} ({why}): start one with `ray start --head`, or unset "
            "RAY_ADDRESS for a cluster on this machine."
        ) from None


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what Ray's own library prints from stderr; no setting does."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _first_line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text if text.endswith((".", "!", "?")) else text + "."
