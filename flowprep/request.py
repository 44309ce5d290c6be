"""What is asked for, and everything about it that must be known before work begins. Nothing here changes the disk."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flowprep import overwrite, resume
from flowprep.cluster.batch import check_batch
from flowprep.cluster.configfile import read_config
from flowprep.cluster.connection import check_running
from flowprep.cluster.settings import ClusterSettings
from flowprep.config import DEVICE_BACKENDS, ExtractSettings, FlowSettings, RunSettings
from flowprep.datasets import list_videos
from flowprep.errors import MissingDataError, SettingsError, StoreError
from flowprep.flow import resolve
from flowprep.flow.parameters import parse_parameters
from flowprep.parts import part_slices
from flowprep.records import Video
from flowprep.stores.layouts import check_listing
from flowprep.stores.savedlist import SavedList, list_path, read_list
from flowprep.survey import sizes_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for: where the videos are, where the store goes, and all settings."""

    videos: Path
    out: Path
    splits: Path | None = None
    settings: ExtractSettings = field(default_factory=ExtractSettings)
    run: RunSettings = field(default_factory=RunSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    skip_bad_lines: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request with everything resolved.

    `is_shared` says that the list is that of the store; else `checked` is the version of it that was compared.
    """

    settings: ExtractSettings
    saved: SavedList
    is_shared: bool = False
    checked: resume.ListVersion = None

    @property
    def videos(self) -> Sequence[Video]:
        """All videos of the list."""
        return self.saved.listing.videos

    def indices(self, part: str | None) -> range:
        """Places in the list of the videos of a part; of all without one."""
        if part is None:
            return range(len(self.videos))
        number, num_parts = RunSettings(part=part).slice_of_parts()
        assert self.saved.num_bytes is not None, "the list of a run has sizes"
        return part_slices(self.saved.num_bytes, num_parts)[number - 1]


def prepare(request: Request, *, here: bool = True) -> Prepared:
    """Resolve the backend and list the dataset, or take a part's list from the store; every error of use shows here.

    Unless the work is to be done `here`, a backend that is named need not run on this machine.
    """
    here = here and not request.cluster
    if request.overwrite and request.run.part is not None:
        raise SettingsError(
            "--overwrite makes a store anew in one run; begin it so, or remove it by hand before --part"
        )
    _check_cluster(request)
    _refuse_adopted(request.out)
    stored = None if request.overwrite else _stored_flow(request.out)
    settings = resolved(request.settings, stored, here=here)
    devices_of(settings, request.run)
    is_shared = request.run.part is not None and list_path(request.out).exists()
    if is_shared:
        saved = shared_list(request)
    else:
        listing = list_videos(
            settings.dataset, request.videos, splits=request.splits, skip_bad_lines=request.skip_bad_lines
        )
        check_listing(settings, listing.videos)
        saved = SavedList(
            listing=listing,
            videos=request.videos.absolute(),
            splits=None if request.splits is None else request.splits.absolute(),
            skip_bad_lines=request.skip_bad_lines,
            num_bytes=sizes_of(listing.videos, request.videos),
        )
    _check_places(request)
    if request.overwrite:
        return Prepared(settings=settings, saved=saved)
    if stored is None and (stored := _stored_flow(request.out)) is not None:
        # Listing takes a while, and another part has begun meanwhile.
        settings = resolved(request.settings, stored, here=here)
    checked = resume.check(request.out, settings, None if is_shared else saved.listing)
    return Prepared(settings=settings, saved=saved, is_shared=is_shared, checked=checked)


def resolved(settings: ExtractSettings, stored: FlowSettings | None = None, *, here: bool = True) -> ExtractSettings:
    """The settings with backend, variant and all parameters named.

    `stored` are those that the store was begun with: its backend and variant are what `auto` means from then on. Unless
    it is to run `here`, a backend that is named need not be able to.
    """
    if not settings.store.flow:
        return dataclasses.replace(settings, flow=FlowSettings())
    name, variant = settings.flow.backend, settings.flow.variant
    if name == "auto" and stored is not None and stored.backend != "auto" and variant in (None, stored.variant):
        name, variant = stored.backend, stored.variant
    name, variant = resolve(name, variant, settings.flow.cpu_baseline, here=here)
    settings = dataclasses.replace(settings, flow=dataclasses.replace(settings.flow, backend=name, variant=variant))
    # Not asked of a backend: what opens a device here would keep some of its memory for the whole run.
    parameters = parse_parameters(name, variant, settings.flow.parameters).to_json()
    return dataclasses.replace(settings, flow=dataclasses.replace(settings.flow, parameters=parameters))


def devices_of(settings: ExtractSettings, run: RunSettings) -> tuple[str, ...]:
    """Devices that compute the flow of a run, none where its workers do. Raises SettingsError if one is of no use."""
    needed = settings.store.flow and settings.flow.backend in DEVICE_BACKENDS
    if run.device is not None and not needed:
        what = f"flow backend {settings.flow.backend} computes" if settings.store.flow else "a store without flow needs"
        raise SettingsError(f"--device {run.device}: {what} on no device; leave it out, or choose another --backend")
    return (run.devices() or ("cuda:0",)) if needed else ()


def _check_cluster(request: Request) -> None:
    """Refuse a cluster that may not be used, before anything else is done."""
    if not request.cluster:
        return
    if request.run.jobs:
        raise SettingsError("--jobs is for this machine; on a cluster each thread of a worker does a video")
    config = read_config(request.cluster.config_file)
    if request.cluster.dask is not None:
        check_running(request.cluster)
    else:
        check_batch(request.cluster, config)


def shared_list(request: Request) -> SavedList:
    """The list that is in the store, which all its parts go by.

    Raises MissingDataError where there is none yet, SettingsError where it was made for another request.
    """
    saved = read_list(request.out)
    asked = {
        "dataset": (saved.listing.dataset, request.settings.dataset),
        "videos": (_place(saved.videos), _place(request.videos)),
        "splits": (_place(saved.splits), _place(request.splits)),
        "skip_bad_lines": (saved.skip_bad_lines, request.skip_bad_lines),
    }
    differences = [f"{name}: {there} there, {here} asked for" for name, (there, here) in asked.items() if there != here]
    if differences:
        raise SettingsError(
            f"the list of the store {request.out} was made for another request ({'; '.join(differences)}); "
            "use the same, or renew the list by a run with --list-only"
        )
    if saved.num_bytes is None:
        saved = dataclasses.replace(saved, num_bytes=sizes_of(saved.listing.videos, request.videos))
    return saved


def _stored_flow(out: Path) -> FlowSettings | None:
    try:
        return resume.read_settings(out).flow
    except MissingDataError:
        return None


def _refuse_adopted(out: Path) -> None:
    """Also before --overwrite, which would replace images that flowprep cannot make again."""
    with contextlib.suppress(MissingDataError, StoreError):
        resume.refuse_adopted(out, resume.read_settings(out))


def _place(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _check_places(request: Request) -> None:
    """Refuse a store in the folder of the videos, and one that would contain them or their lists."""
    out, videos = request.out.resolve(), request.videos.resolve()
    if out == videos or videos in out.parents:
        raise SettingsError(
            f"the store {request.out} lies in the folder of the videos {request.videos}; give another --out"
        )
    for given in (request.videos, request.splits):
        if given is not None and out in (given.resolve(), *given.resolve().parents):
            raise SettingsError(f"the store {request.out} would contain {given}; give another --out")
    if request.overwrite:
        overwrite.check(request.out)
