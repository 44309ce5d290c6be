"""How long the driver of a cluster waits for what. Seconds; tests take much shorter ones."""

from __future__ import annotations

from dataclasses import dataclass

from flowprep.settings import Settings, setting

_SIGN_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Waits(Settings):
    """The waits of a run on a cluster, section `[waits]` of `--cluster-config`."""

    poll_seconds: float = setting(1.0, "How often the scheduler is asked who is there.", above=0)
    connect_seconds: float = setting(30.0, "For a scheduler to answer at the beginning, or after it was lost.", above=0)
    reply_seconds: float = setting(30.0, "For a reply of the scheduler, before it counts as lost.", above=0)
    workers_seconds: float = setting(3600.0, "For workers, when there are none.", above=0)
    submit_seconds: float = setting(
        60.0, "Before a job that the batch system has not taken is asked for again; doubled each time.", above=0
    )
    silence_seconds: float = setting(
        1800.0, "Without a sign of life from any worker, before the cluster counts as stuck.", above=0
    )
    visible_seconds: float = setting(
        90.0, "For what a worker has published to be seen here: network disks remember that it was missing.", above=0
    )
    idle_seconds: float = setting(60.0, "After which processes on a worker that has no more work end.", above=0)
    move_seconds: float = setting(
        2.0, "That a video waits behind another one, before an idle worker gets it at the end.", above=0
    )
    witness_seconds: float = setting(
        60.0, "For a second worker, before a suspect is done beside none: its death would prove nothing.", above=0
    )
    num_restarts: int = setting(3, "Restarts in a row with nothing done in between.", minimum=0)

    @property
    def sign_seconds(self) -> float:
        """After which a thread of a worker that has no frames to report says that it is at work."""
        return min(_SIGN_SECONDS, self.silence_seconds / 4)
