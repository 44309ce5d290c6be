"""Where a cluster may listen without TLS, and certificates.

Dask runs whatever code it is sent: whoever reaches the port of a scheduler works as its user. So a cluster off this
machine must have TLS with certificates on both sides.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flowprep.cluster.settings import ClusterSettings
from flowprep.errors import MissingDataError, SettingsError

if TYPE_CHECKING:
    from distributed.security import Security

_log = logging.getLogger(__name__)


def address_of(given: str) -> str:
    """The scheduler's address: as given, or as a scheduler file says.

    Raises MissingDataError where there is no such file, SettingsError where it is none.
    """
    if "://" in given:
        return given
    try:
        text = Path(given).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        host, colon, port = given.rpartition(":")
        if colon and host and port.isdecimal() and "/" not in given:
            return f"tcp://{given}"
        raise MissingDataError(
            f"--dask {given}: there is no such scheduler file, and it is no address such as tls://node1:8786"
        ) from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"--dask {given} cannot be read ({error}); give a scheduler file or an address") from error
    try:
        address = json.loads(text)["address"]
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{given} is no scheduler file of Dask ({error}); give one that it has written") from error
    return str(address)


def check_address(address: str, settings: ClusterSettings) -> None:
    """Refuse what is no address, and one without TLS off this machine, unless that is asked for; then it is logged."""
    protocol = address.partition("://")[0]
    try:
        port = urlsplit(address).port
    except ValueError as error:
        raise SettingsError(f"{address} is no address of a scheduler ({error}); one is tls://node1:8786") from error
    if port is None and protocol in ("tcp", "tls"):
        raise SettingsError(f"{address} has no port; give that of the scheduler too, such as tls://node1:8786")
    if protocol == "tls" or is_loopback(address):
        return
    if not settings.insecure:
        raise SettingsError(
            f"{address} has no TLS, and whoever reaches it can run code as you; start the cluster with certificates "
            "(tls://, see docs/clusters.md), or give --insecure-cluster on a network that you trust"
        )
    _log.warning("%s has no TLS: whoever reaches it can run code as you (--insecure-cluster)", address)


def is_loopback(address: str) -> bool:
    """True if an address such as tcp://127.0.0.1:8786 can be reached from this machine alone."""
    try:
        host = urlsplit(address).hostname or ""
        if host == "localhost":
            return True
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def client_security(address: str, settings: ClusterSettings) -> Security | None:
    """Certificates for a scheduler: those given, else those of Dask's own configuration; None without TLS.

    Raises MissingDataError where one is not there, SettingsError where they are of no use or none are known.
    """
    if not address.startswith("tls://"):
        return None
    from distributed.security import Security

    for path in (settings.tls_ca, settings.tls_cert, settings.tls_key):
        if path is not None and not os.path.isfile(path):
            raise MissingDataError(f"there is no file {path} that we may see; give the certificates of the cluster")
    given = {
        "tls_ca_file": settings.tls_ca,
        "tls_client_cert": settings.tls_cert,
        "tls_client_key": settings.tls_key,
    }
    security = Security(require_encryption=True, **{name: path for name, path in given.items() if path is not None})
    if security.tls_ca_file is None or security.tls_client_cert is None:
        raise SettingsError(
            f"{address} needs certificates; give --tls-ca, --tls-cert and --tls-key, or set distributed.comm.tls "
            "in Dask's configuration"
        )
    try:
        security.get_connection_args("client")
    except (OSError, ValueError) as error:
        files = ", ".join(str(path) for path in (security.tls_ca_file, security.tls_client_cert) if path)
        raise SettingsError(
            f"certificates {files} cannot be used ({error}); give PEM files that belong together and that we may read"
        ) from error
    return security
