"""Which clusters may be asked for, what their addresses mean, and how long jobs live."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import dask.utils
import pytest

from flowprep.cluster.batch import _walltime
from flowprep.cluster.configfile import ClusterConfig, JobSettings, read_config, walltime_seconds
from flowprep.cluster.security import address_of, check_address, is_loopback
from flowprep.cluster.settings import ClusterSettings
from flowprep.cluster.waits import Waits
from flowprep.config import RunSettings
from flowprep.errors import MissingDataError, SettingsError
from flowprep.flow import resolve
from flowprep.request import Request, prepare


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dask": "x", "system": "slurm", "num_workers": 1}, "give one of --dask and --cluster"),
        ({"system": "slurm"}, "--cluster slurm needs --workers"),
        ({"num_workers": 3}, "--workers and --dashboard are for --cluster"),
        ({"dask": "x", "dashboard": ":8787"}, "--workers and --dashboard are for --cluster"),
        ({"system": "lsf", "num_workers": 1, "tls_ca": "ca.pem"}, "--cluster makes certificates"),
        ({"dask": "x", "tls_cert": "cert.pem"}, "--tls-cert and --tls-key belong together"),
        ({"insecure": True}, "are for --dask and --cluster"),
        ({"config_file": "c.toml"}, "are for --dask and --cluster"),
        ({"system": "condor", "num_workers": 1}, "`system` must be one of slurm, pbs, sge, lsf"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ClusterSettings(**values)


def test_nothing_asked_for_is_no_cluster() -> None:
    assert not ClusterSettings()
    assert ClusterSettings(dask="tcp://127.0.0.1:1")
    assert ClusterSettings.from_json(ClusterSettings(dask="a", tls_ca="b").to_json()).tls_ca == "b"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("tcp://127.0.0.1:8786", True),
        ("tcp://127.8.0.1:8786", True),
        ("tcp://[::1]:8786", True),
        ("tcp://localhost:8786", True),
        ("tcp://192.168.0.1:8786", False),
        ("tcp://node1:8786", False),
        ("tcp://localhost.example.org:8786", False),
        ("tcp://127.0.0.1.example.org:1", False),
        ("tcp://0.0.0.0:8786", False),
        ("nonsense", False),
    ],
)
def test_only_this_machine_is_this_machine(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


@pytest.mark.parametrize("address", ["tcp://node1:8786", "ws://node1:8786", "ucx://node1:8786"])
def test_an_address_elsewhere_must_have_tls(address: str, caplog: pytest.LogCaptureFixture) -> None:
    check_address("tls://node1:8786", ClusterSettings(dask="x"))
    check_address("tcp://127.0.0.1:8786", ClusterSettings(dask="x"))
    assert caplog.messages == []
    with pytest.raises(SettingsError, match=f"{address} has no TLS, and whoever reaches it can run code as you"):
        check_address(address, ClusterSettings(dask="x"))
    with caplog.at_level(logging.WARNING):
        check_address(address, ClusterSettings(dask="x", insecure=True))
    assert f"{address} has no TLS" in caplog.text


def test_a_cluster_is_named_by_address_or_file(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text('{"type": "Scheduler", "address": "tls://10.0.0.1:8786"}')
    assert address_of(str(file)) == "tls://10.0.0.1:8786"
    assert address_of("tls://node1:8786") == "tls://node1:8786"
    assert address_of("node1:8786") == "tcp://node1:8786"
    for wrong in (str(tmp_path / "no.json"), "node1", "node1:http"):
        with pytest.raises(MissingDataError, match="there is no such scheduler file"):
            address_of(wrong)
    file.write_text("{}")
    with pytest.raises(SettingsError, match="is no scheduler file of Dask"):
        address_of(str(file))


def test_a_request_for_a_cluster_is_checked_before_anything_else(tmp_path: Path) -> None:
    cluster = ClusterSettings(dask="tcp://192.0.2.1:8786")
    request = Request(videos=tmp_path / "none", out=tmp_path / "out", cluster=cluster)
    with pytest.raises(SettingsError, match="has no TLS"):
        prepare(request)
    request = Request(videos=tmp_path, out=tmp_path / "out", run=RunSettings(jobs=4), cluster=cluster)
    with pytest.raises(SettingsError, match="--jobs is for this machine"):
        prepare(request)


def test_a_backend_that_is_named_need_not_run_where_the_cluster_is_started() -> None:
    assert resolve("opencv-cuda", here=False) == ("opencv-cuda", "cuda")
    assert resolve("native-cuda", "cpu", here=False) == ("native-cuda", "cpu")


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:30", 1800), ("24:00:00", 86400), ("1-02:00:00", 93600), ("100:00:01", 360001)]
)
def test_walltimes_are_understood(text: str, seconds: float) -> None:
    assert walltime_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "1 day", "00:00:00", "1:2:3", "-1:00"])
def test_what_is_no_walltime_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="`walltime` must be"):
        walltime_seconds(text)


@pytest.mark.parametrize(
    ("walltime", "given", "expected"),
    [
        ("24:00:00", None, (85800.0, 300.0)),
        ("00:30:00", None, (1620.0, 90.0)),
        ("24:00:00", 100.0, (100.0, 50.0)),
    ],
)
def test_workers_end_before_their_jobs_and_not_all_at_once(
    walltime: str, given: float | None, expected: tuple[float, float]
) -> None:
    assert JobSettings(walltime=walltime, lifetime_seconds=given).lifetime() == expected


def test_a_configuration_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('[job]\ncores = 4\nprologue = ["a", "b"]\n[waits]\nsilence_seconds = 60\n')
    assert read_config(path) == ClusterConfig(
        job=JobSettings(cores=4, prologue=("a", "b")), waits=Waits(silence_seconds=60.0)
    )
    assert read_config(None) == ClusterConfig()
    with pytest.raises(MissingDataError, match="No such file"):
        read_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[jobs]\n", "unknown section jobs; known are job, waits"),
        ("[job]\ngpu = 1\n", "unknown setting `gpu`; known are queue, account"),
        (
            '[job]\nwalltime = "1 day"\n',
            "`walltime` must be D-HH:MM:SS, HH:MM:SS or HH:MM, minutes and seconds up to 59, got '1 day'",
        ),
        ('[job]\nwalltime = "00:99"\n', "minutes and seconds up to 59, got '00:99'"),
        ('[job]\nmemory = "16"\n', "`memory` must be a number with a unit, such as 16GB, got '16'"),
        ('[job]\nmemory = "lots"\n', "`memory` must be a number with a unit, such as 16GB, got 'lots'"),
        (
            '[job]\nwalltime = "01:00:00"\nlifetime_seconds = 3600\n',
            "`lifetime_seconds` must be less than the 3600 s of `walltime`",
        ),
        ("[job]\ncores = 0\n", "`cores` must be at least 1, got 0"),
        (
            '[job]\nlog_directory = "my logs"\n',
            "`log_directory` must be one word, since batch",
        ),
        ("[job]\ndirectives = [1]\n", "`directives` must be a list of texts"),
        ("[waits]\npoll_seconds = 0\n", "`poll_seconds` must be above 0"),
        ("job\n", "is no TOML"),
    ],
)
def test_a_wrong_configuration_is_wrong_use(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.toml").write_text(text)
    with pytest.raises(SettingsError, match=re.escape(message)):
        read_config(tmp_path / "cluster.toml")


@pytest.mark.parametrize("memory", ["16GB", "16 GB", "16G", "1.5TiB", "900mb"])
def test_memory_is_asked_for_with_any_unit_of_dask(memory: str) -> None:
    assert dask.utils.parse_bytes(JobSettings(memory=memory).memory) > 1e8


def test_no_walltime_of_lsf_is_shorter_than_it_is_given() -> None:
    """It knows minutes alone; half of one would be none."""
    assert _walltime("00:00:30", "lsf") == "00:01"
    assert _walltime("1-00:59:01", "lsf") == "25:00"
    assert _walltime("00:00:30", "slurm") == "00:00:30"


def test_no_worker_outlives_its_job() -> None:
    seconds, stagger = JobSettings(walltime="01:00:00", lifetime_seconds=3590).lifetime()
    assert (seconds, stagger) == (3590, 5)
