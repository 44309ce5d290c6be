"""Which file system a folder is on, and what kind that is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["local", "memory", "overlay", "network", "object store", "FUSE", "foreign", "unknown"]

_KINDS: dict[Kind, tuple[str, ...]] = {
    "local": ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs"),
    "memory": ("tmpfs", "ramfs", "hugetlbfs"),
    "overlay": ("overlay", "aufs", "fuse.fuse-overlayfs"),
    "network": (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.ceph", "fuse.ceph-fuse", "lustre", "gpfs"),
        *("beegfs", "beegfs_nodev", "fhgfs", "glusterfs", "fuse.glusterfs", "pvfs2", "orangefs", "panfs", "wekafs"),
        *("ocfs2", "gfs2", "virtiofs", "vboxsf", "fuse.sshfs", "fuse.juicefs", "fuse.moosefs", "fuse.quobyte"),
    ),
    "object store": (
        *(
            "fuse.s3fs",
            "fuse.goofys",
            "fuse.gcsfuse",
            "gcsfuse",
            "fuse.mount-s3",
            "mountpoint-s3",
            "fuse.mountpoint-s3",
        ),
        *("fuse.rclone", "fuse.blobfuse", "fuse.blobfuse2", "blobfuse2", "fuse.ossfs", "fuse.cosfs", "fuse.obsfs"),
    ),
    "foreign": ("vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "hfsplus", "apfs", "iso9660"),
}

_FOLLOWS: dict[Kind, str] = {
    "local": "all that a run needs",
    "memory": "it is gone after a restart and takes memory from the jobs; put the store on a disk",
    "overlay": "the layer of a container: the store ends with the container; mount a folder of the host for it",
    "network": "stores need no locks, and shards are read without any; many hosts may do parts of one store "
    "(--part I/N), and shards (--format hdf5) spare it millions of small files",
    "object store": "a rename copies here and is not atomic, so that a store can be left half made; extract to a local "
    "disk and copy the finished store",
    "FUSE": "a file system in user space: it depends on it what renames and flushes are worth; extract to a local disk "
    "and copy the finished store if in doubt",
    "foreign": "names that differ in case alone are one here, and others may be forbidden; shards (--format hdf5) have "
    "plain names",
    "unknown": "nothing is known about it; what was tried is below",
}

_SPECIAL = {
    "nfs": "; it reports a failed write late, at the flush: keep --durability video",
    "nfs4": "; it reports a failed write late, at the flush: keep --durability video",
    "lustre": "; `lfs setstripe -c 1` on the folder suits its files",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A mounted file system: where, its type as the kernel names it, its source, and our kind."""

    point: str
    type: str
    source: str
    kind: Kind
    read_only: bool

    @property
    def follows(self) -> str:
        """What follows for the user."""
        return _FOLLOWS[self.kind] + _SPECIAL.get(self.type, "")


def kind_of(type_: str) -> Kind:
    """The kind of a file system by the kernel's name for its type."""
    for kind, types in _KINDS.items():
        if type_ in types:
            return kind
    return "FUSE" if type_ == "fuse" or type_.startswith("fuse.") else "unknown"


def find_mount(folder: Path, mountinfo: str) -> Mount | None:
    """The mount that holds an absolute, resolved folder, by the text of /proc/self/mountinfo; None if it does not say.

    Of two at the same place the later one hides the other. Lines are as proc(5) says:
    `36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/sda1 rw`, with blanks and such in octal.
    """
    best: Mount | None = None
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields, others = before.split(" "), after.split(" ")
        if not dash or len(fields) < 6 or len(others) < 2:
            continue
        point = _plain(fields[4])
        if folder.is_relative_to(point) and (best is None or len(point) >= len(best.point)):
            options = [*fields[5].split(","), *(others[2].split(",") if len(others) > 2 else ())]
            best = Mount(
                point=point,
                type=others[0],
                source=_plain(others[1]),
                kind=kind_of(others[0]),
                read_only="ro" in options,
            )
    return best


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
