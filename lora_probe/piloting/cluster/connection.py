"""Reaching a Ray cluster, or starting one on this machine, without waiting for what will not come."""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.errors import BadPilotOption, MissingLibrary, NoCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.piloting.cluster.options import Cluster

__all__ = ["connected", "require_cluster"]

_HERE = "local"
"""Ray's word for a cluster that is started on this machine."""
_PATIENCE = 5.0
"""Seconds in which the head of a cluster answers; Ray itself waits for more than a minute."""
_ADDRESS = re.compile(r"\[?([^\s\[\]/]+?)\]?:(\d{1,5})")
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How an HTTP/2 connection begins (RFC 9113, 3.4), with empty settings: gRPC, which Ray speaks, is that."""
_SETTINGS = 4
"""The type of the frame with which a server begins, in the fourth byte."""
_ADVICE = "see with `ray status` on its head that it runs, and give its token as RAY_AUTH_TOKEN"
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}


def require_cluster(cluster: Cluster) -> None:
    """Make sure, within seconds, that Ray is installed and that somebody answers at the cluster's address.

    Raises:
        MissingLibrary: Ray is not installed.
        BadPilotOption: the address is none.
        NoCluster: nobody answers there, or something that is no cluster.

    """
    if find_spec("ray") is None:
        raise MissingLibrary(what="--engine ray", package="Ray", install="'lora-probe[ray]'")
    address = _address(cluster)
    if address not in {_HERE, "auto"}:  # of the latter, Ray itself tells at once whether it is there
        _call(address)


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Be a driver of the cluster while the block runs; yields the library.

    Without an address, that of ``RAY_ADDRESS`` counts, as for all of Ray. A cluster that is started here ends
    with the block. It has a token of its own, so that nobody else on the network can send it work: Ray
    listens on all interfaces, whatever address it is given.

    Raises:
        NoCluster: there is none, or it does not let this process in.

    """
    address = _address(cluster)
    if address == _HERE and "ray" not in sys.modules:
        # Ray reads them once, when it is loaded; loaded before, it asks for a token by itself.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with _environment(_QUIET):
        import ray

        if ray.is_initialized():  # by whoever uses the library: theirs to end
            yield ray
            return
        _join(ray, address)
        try:
            yield ray
        finally:
            ray.shutdown()


def _address(cluster: Cluster) -> str:
    return cluster.address or os.environ.get("RAY_ADDRESS") or _HERE


def _join(ray: Any, address: str) -> None:
    arguments: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
    if address == _HERE:
        arguments |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(**arguments)
    except (Exception, SystemExit) as error:  # Ray ends the process where a head does not answer
        words = str(error).strip().splitlines()
        problem = words[0].rstrip(".") if words and isinstance(error, Exception) else "it does not answer"
        if address == "auto" and isinstance(error, ConnectionError):
            problem = "none runs on this machine"
        raise NoCluster(address=address, problem=problem, advice=_ADVICE) from error


def _call(address: str) -> None:
    """Make sure that somebody at `address` speaks as the head of a cluster does."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 2**16:
        problem = "must be host:port of the cluster's head (as 10.0.0.1:6379), or auto"
        raise BadPilotOption(option="--ray-address", value=address, problem=problem)
    try:
        with socket.create_connection((found[1], int(found[2])), timeout=_PATIENCE) as line:
            line.sendall(_GREETING)
            answer = line.recv(9)
    except TimeoutError:
        raise NoCluster(
            address=address, problem=f"no answer in {_PATIENCE:g} seconds", advice=_ADVICE
        ) from None
    except OSError as error:
        raise NoCluster(address=address, problem=error.strerror or str(error), advice=_ADVICE) from error
    if answer[3:4] != bytes((_SETTINGS,)):
        raise NoCluster(address=address, problem="something else than a Ray cluster answers", advice=_ADVICE)


@contextmanager
def _environment(names: dict[str, str]) -> Iterator[None]:
    """Set environment variables that are not set, while the block runs."""
    added = {name: value for name, value in names.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
