"""Who may use a cluster, cases 83 and 84. (85 is in test_dask_batch, with a scheduler of ours.)"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.certificates import Authority
from helpers.command import flowprep, store_bytes
from helpers.dask_cluster import DaskCluster, arguments, end_run, make_videos, start_run, write_config
from helpers.invariants import Invariants


def test_case_83_only_who_has_a_certificate_may_use_a_cluster_with_tls(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Refused are no certificates, those of another authority, and old ones; the cluster goes on working."""
    folder = tmp_path_factory.mktemp("data")
    videos = make_videos(folder / "videos", ["v0", "v1", "v2"])
    flowprep(*arguments(videos, folder / "whole", None, None))
    ours, others = Authority(folder / "ours"), Authority(folder / "others")
    cert, key = ours.issue("cluster")
    expired, foreign = ours.issue("expired", days=-1), others.issue("foreign")
    out, config = tmp_path / "out", write_config(tmp_path / "config.toml", connect_seconds=2)
    tls = ["--tls-ca-file", str(ours.ca), "--tls-cert", str(cert), "--tls-key", str(key)]
    with DaskCluster(tmp_path_factory.mktemp("cluster") / "dask", 1, tls=["--protocol", "tls", *tls]) as cluster:
        command = arguments(videos, out, cluster, config)
        plain = cluster.file.read_text().partition("tls://")[2].partition('"')[0]

        def with_certificates(ca: Path, cert: Path, key: Path) -> list[str]:
            return [*command, "--tls-ca", str(ca), "--tls-cert", str(cert), "--tls-key", str(key)]

        assert "needs certificates; give --tls-ca" in end_run(start_run(command, os.environ), 2)
        for bad in (
            arguments(videos, out, f"tcp://{plain}", config),
            with_certificates(ours.ca, *foreign),
            with_certificates(others.ca, *foreign),
            with_certificates(ours.ca, *expired),
        ):
            said = end_run(start_run(bad, os.environ), 3)
            assert "no Dask scheduler answers at" in said, bad
        with Invariants(tmp_path, out) as invariants:
            end_run(start_run(with_certificates(ours.ca, cert, key), invariants.environment), 0)
    invariants.check(store_bytes(folder / "whole"))


def test_case_84_without_tls_a_cluster_elsewhere_is_refused_unless_that_is_asked_for(tmp_path: Path) -> None:
    videos = make_videos(tmp_path / "videos", ["v0"])
    config = write_config(tmp_path / "config.toml", connect_seconds=0.5)
    command = arguments(videos, tmp_path / "out", "tcp://192.0.2.1:8786", config)
    said = end_run(start_run(command, os.environ), 2)
    assert "has no TLS, and whoever reaches it can run code as you" in said
    assert not (tmp_path / "out").exists()
    said = end_run(start_run([*command, "--insecure-cluster"], os.environ), 3)
    assert "tcp://192.0.2.1:8786 has no TLS: whoever reaches it can run code as you (--insecure-cluster)" in said
