"""What is wrong with a cluster, and is said before a list is read or a store begun, or while a run connects."""

from __future__ import annotations

import errno
import os
import queue
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.certificates import Authority
from helpers.fake_slurm import install_slurm

from flowprep import commit
from flowprep.childprocess import Task, Work
from flowprep.cluster.batch import job_script
from flowprep.cluster.configfile import ClusterConfig, JobSettings
from flowprep.cluster.connection import _written_address, check_running, connect_running
from flowprep.cluster.flights import EngineLostError
from flowprep.cluster.settings import ClusterSettings
from flowprep.cluster.tasks import run_tasks
from flowprep.cluster.waits import Waits
from flowprep.config import ExtractSettings
from flowprep.errors import FlowprepError, MissingDataError, RunStoppedError, SettingsError
from flowprep.records import Video
from flowprep.request import Request, prepare

SLURM = ClusterSettings(system="slurm", num_workers=2)


def refused(tmp_path: Path, cluster: ClusterSettings, config: str = "") -> str:
    """What a request is refused with that has no list to read: the cluster is looked at first."""
    if config:
        path = tmp_path / "cluster.toml"
        path.write_text(config)
        cluster = ClusterSettings.from_json({**cluster.to_json(), "config_file": str(path)})
    request = Request(videos=tmp_path / "none", out=tmp_path / "out", cluster=cluster)
    with pytest.raises(SettingsError) as caught:
        prepare(request)
    assert not (tmp_path / "out").exists()
    return str(caught.value)


@pytest.mark.parametrize("package", ["distributed", "dask_jobqueue"])
def test_packages_that_are_missing_are_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    clusters = [SLURM] if package == "dask_jobqueue" else [SLURM, ClusterSettings(dask="tcp://127.0.0.1:1")]
    for cluster in clusters:
        assert "which is not installed" in refused(tmp_path, cluster)


def test_a_batch_system_that_is_not_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no command sbatch here; run this where jobs are submitted" in refused(tmp_path, SLURM)
    lsf = ClusterSettings(system="lsf", num_workers=1)
    assert "there is no command bsub here" in refused(tmp_path, lsf)


def test_a_host_must_be_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands, _ = install_slurm(tmp_path)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    said = refused(tmp_path, SLURM, '[job]\nhost = "192.0.2.7"\n')
    assert said == "`host` 192.0.2.7 is no address of this machine (Cannot assign requested address)"


def test_an_interface_must_be_one_of_the_scheduler_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands, _ = install_slurm(tmp_path)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    said = refused(tmp_path, SLURM, '[job]\ninterface = "ib9"\n')
    assert said.startswith("`interface`: 'ib9' is not a valid network interface. Valid network interfaces are: ['lo'")
    (tmp_path / "cluster.toml").write_text('[job]\ninterface = "ib9"\nhost = "127.0.0.1"\nlog_directory = "no/logs"\n')
    cluster = ClusterSettings(system="slurm", num_workers=2, config_file=str(tmp_path / "cluster.toml"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FlowprepError, match="none"):  # the folder of the videos is what is wrong now
        prepare(Request(videos=tmp_path / "none", out=tmp_path / "out", cluster=cluster))
    assert not (tmp_path / "no").exists()


def test_a_folder_for_logs_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = ClusterConfig(job=JobSettings(log_directory=f"{tmp_path}/file/logs"))
    with pytest.raises(SettingsError, match=r"`log_directory` .*/file/logs cannot be made"):
        job_script(SLURM, config)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tls://node1", "tls://node1 has no port; give that of the scheduler too"),
        ("tcp://[::1:8786", r"tcp://[::1:8786 is no address of a scheduler (Invalid IPv6 URL)"),
        ("tls://node1:http", "tls://node1:http is no address of a scheduler"),
    ],
)
def test_what_is_no_address_is_refused(address: str, message: str, tmp_path: Path) -> None:
    assert message in refused(tmp_path, ClusterSettings(dask=address))


def test_certificates_are_looked_at_first(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ours")
    cert, key = authority.issue("cluster")
    _, other = authority.issue("other")
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")

    def given(ca: Path, cert: Path, key: Path) -> ClusterSettings:
        return ClusterSettings(dask="tls://127.0.0.1:1", tls_ca=str(ca), tls_cert=str(cert), tls_key=str(key))

    assert check_running(given(authority.ca, cert, key)) == "tls://127.0.0.1:1"
    for wrong in (given(broken, cert, key), given(authority.ca, broken, key), given(authority.ca, cert, other)):
        assert re.search("certificates .*pem cannot be used .* give PEM files", refused(tmp_path, wrong))
    for missing in (given(tmp_path / "no.pem", cert, key), given(authority.ca, cert, broken / "no.pem")):
        with pytest.raises(MissingDataError, match=r"there is no file .*no.pem that we may see"):
            check_running(missing)


def test_a_scheduler_file_that_is_a_folder_is_named(tmp_path: Path) -> None:
    assert "cannot be read ([Errno 21] Is a directory" in refused(tmp_path, ClusterSettings(dask=str(tmp_path)))


def test_a_scheduler_that_has_taken_its_file_with_it_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"

    def write() -> None:
        time.sleep(0.2)
        file.write_text("")  # as one sees it while it is being written
        time.sleep(0.2)
        file.write_text('{"address": "tcp://127.0.0.1:1"}')

    writer = threading.Thread(target=write)
    writer.start()
    assert _written_address(str(file), 20) == "tcp://127.0.0.1:1"
    writer.join()


def test_a_scheduler_that_does_not_come_again_is_lost(tmp_path: Path) -> None:
    """With exit code 3 by way of the engine; where it never was that is wrong use."""
    file = tmp_path / "cluster.json"
    settings = ClusterSettings(dask=str(file))
    with pytest.raises(MissingDataError, match="there is no such scheduler file"):
        connect_running(settings, Waits())
    file.write_text('{"address": "tcp://127.0.0.1:1"}')
    connect = connect_running(settings, Waits(connect_seconds=0.2))
    file.unlink()
    with pytest.raises(EngineLostError, match=r"no Dask scheduler has written .*cluster.json for 0 s"):
        connect("token", queue.SimpleQueue())


@pytest.mark.parametrize(
    ("place", "number", "message"),
    [
        ("write_file", errno.ENOSPC, "is full"),
        ("make_folder", errno.EROFS, "Read-only file system; run again when the disk works"),
        ("chmod", errno.EPERM, "Operation not permitted; run again when the disk works"),
    ],
)
def test_a_disk_that_takes_nothing_ends_the_run(
    place: str, number: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    work = Work(videos=tmp_path, out=tmp_path / "out", settings=ExtractSettings(), durability="fast")
    (work.out / ".flowprep" / "staging").mkdir(parents=True)
    monkeypatch.setattr(os if place == "chmod" else commit, place, fail)
    task = Task(list_index=0, video=Video(id="v", path="v.avi"))
    with pytest.raises(RunStoppedError, match=message):
        list(run_tasks(work, [task], ClusterSettings(dask="tcp://127.0.0.1:1"), ClusterConfig()))
    assert [*(work.out / ".flowprep" / "staging").iterdir()] == []
