"""``python -m probes run``."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from model_zoo.command_line import printable
from model_zoo.decoding import ImageError
from probes.core import output, unreadable
from probes.core.runs import manifest
from probes.core.runs.progress import Progress

if TYPE_CHECKING:
    from probes.core.base import Probe
    from probes.core.runs.begun import Begun
    from probes.core.runs.engine import Engine
    from probes.core.runs.folder import RunFolder
    from probes.core.runs.identity import FileIdentity


def run(arguments: argparse.Namespace) -> int:
    """Measure and write OUT.zarr, unless it holds just that."""
    progress = Progress()
    try:
        if (known := _known(arguments)) is not None:
            _say(known, f"{arguments.out} holds this already")
            return 0
        return _run(arguments, progress)
    except (ImageError, ValueError) as error:
        said = str(error)
    except Exception as error:
        from model_zoo.memory import is_out_of_memory
        from model_zoo.reference import ModelError
        from probes.core.cluster import ClusterError
        from probes.core.runs.loader import WorkerError

        if is_out_of_memory(error):
            said = "The memory does not hold one image at a time; choose a smaller model or --image-size."
        elif isinstance(error, (ModelError, WorkerError, ClusterError)):
            said = str(error)
        elif isinstance(error, PermissionError):
            said = f"{error.filename} cannot be read: {error.strerror}."
        else:
            raise
    progress.end()
    print(f"python -m probes run: {printable(said)}", file=sys.stderr)
    return 2


def _known(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """The manifest of OUT, if it is a whole result of just what is asked."""
    with suppress(ValueError, TypeError, KeyError):
        held = manifest.read(arguments.out)
        if held is None or not manifest.is_whole(held) or not manifest.answers(held, arguments):
            return None
        output.check(arguments.out)
        return held if output.lost(arguments.out, held, arrays=True) is None else None
    return None


def _run(arguments: argparse.Namespace, progress: Progress) -> int:
    # Imported here so that a known result and a wrong argument answer at once.
    from model_zoo.images import sources
    from model_zoo.reference import parse_all
    from probes.core.parameters import UsageError, make_probes
    from probes.core.runs.folder import claimed

    chosen = make_probes(arguments.probe, arguments.param)
    if arguments.ray_workers and arguments.engine != "ray":
        raise UsageError("--ray-workers is of --engine ray: add that, or leave it out.")
    output.check(arguments.out)
    references = parse_all(arguments.model)
    images = sources(arguments.images, arguments.limit)
    if arguments.strict:
        unreadable.refuse(images)
    with claimed(arguments.out) as folder:
        document = _Run(arguments, chosen, images, folder, progress).finish(references)
    _say(document, f"{document['seconds']:.1f} s: {arguments.out}")
    return 0


def _say(document: Mapping[str, Any], how: str) -> None:
    """What came of a run, on stderr."""
    skipped = [entry["name"] for entry in document["images"] if "skipped" in entry]
    unreadable.report(skipped, len(document["images"]))
    for name, label, reason in document["undefined"]:
        print(f"{name} is not defined for {label}: {reason}.", file=sys.stderr)
    images, models = len(document["images"]) - len(skipped), len(document["models"])
    count = f"{images} image{'s' * (images != 1)}, {models} model{'s' * (models != 1)}"
    print(f"{count}, {how}", file=sys.stderr)


class _Run:
    """One run: sets of models in turn, each over all images, shard by shard."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        chosen: "dict[str, Probe]",
        images: Sequence[Any],
        folder: "RunFolder",
        progress: Progress,
    ) -> None:
        self.arguments, self.chosen, self.images, self.folder = arguments, chosen, images, folder
        self.progress = progress
        self.asked = manifest.asked(arguments)
        self.skipped = _Skipped(chosen)
        self.kept: dict[int, Any] = {}
        self.models: dict[str, Any] = {}
        self.files: list[FileIdentity] = []
        self.resumed = 0
        self.device, self.batch_size = "", 0
        self.engine: Engine
        self.begun: Begun

    def finish(self, references: Sequence[Any]) -> dict[str, Any]:
        """Measure what is not there yet, write OUT with its manifest, and remove the folder."""
        from probes.core.runs import shards
        from probes.core.runs.begun import begin
        from probes.core.runs.in_turn import sets

        began, started = datetime.now(UTC), time.perf_counter()
        self.begun = begin(
            self.folder, self.asked, self.images, self.chosen, resume=self.arguments.resume, say=self.progress.say
        )
        results: dict[str, dict[str, Any]] = {name: {} for name in self.chosen}
        with self._who_measures() as self.engine:
            together = any(probe.pairs for probe in self.chosen.values())
            turns = self.begun.decide(lambda: sets(references, self.engine.room, together))
            groups = [[reference for reference in references if reference.label in turn] for turn in turns]
            if len(groups) > 1:
                self.progress.say(
                    f"The models do not fit into memory together: {len(groups)} turns, images opened anew."
                )
            for number, group in enumerate(groups):
                for name, by_label in self._measure(number, group).items():
                    results[name] |= by_label
        if (other := shards.same_images(self.kept) or manifest.other_file(self.begun.compared)) is not None:
            raise _refused(f"{other} changed while the run was under way; leave --resume out to begin anew.")
        document = self._document(results, began, time.perf_counter() - started)
        output.write(self.arguments.out, results, document)
        self.folder.remove()
        return document

    def _who_measures(self) -> "AbstractContextManager[Engine]":
        import os

        from probes.core.runs.engine import Here

        if self.arguments.engine == "ray":
            from probes.core.runs.on_ray import on_ray

            return on_ray(self.arguments, len(self.images), self.progress.say)
        descriptor = self.folder.descriptor
        return nullcontext(Here(self.arguments.device, lambda: os.close(descriptor)))

    def _measure(self, number: int, references: Sequence[Any]) -> dict[str, dict[str, Any]]:
        """Results of a set of models that are in memory together."""
        from probes.core.runs import merge, shards
        from probes.core.runs.measure import in_shards

        self.engine.release()
        models = {reference.label: self._load(reference) for reference in references}
        self.engine.begin(references, models)
        kept = self.kept[number] = shards.found(self.folder, number)
        before = kept[0].provenance.dtypes if kept else {}
        dtypes: dict[str, Any] = self.engine.dtypes(self.arguments.dtype, len(self.images)) | before
        seen = in_shards(self.chosen)
        wanted = {
            label: adapter
            for label, adapter in models.items()
            if any(probe.undefined(adapter.spec) is None for probe in seen.values())
        }
        self.device = self.engine.device_name()
        if wanted:
            self._shards(number, wanted, seen, {label: dtypes[label] for label in wanted})
        measured = [entry for entry in shards.entries(kept) if not entry.skipped]
        if wanted and not measured:
            self.folder.remove()
            why = shards.entries(kept)[0].skipped
            raise ImageError(f"None of the {len(self.images)} images can be read. {why}")
        skipped = [entry.name for entry in shards.entries(kept) if entry.skipped]
        paths = [one.path for one in kept if one.shard.count]
        found = merge.results(models, self.chosen, dtypes, merge.Shards(paths, [e.name for e in measured], skipped))
        first = self.images[measured[0].place] if measured else None
        self._note(references, models, dtypes)
        return _with_differences(found, self.engine, dtypes, first, self.chosen, self.progress.say)

    def _load(self, reference: Any) -> Any:
        """A model, and for the manifest the files that it comes from, as they were when it was loaded."""
        from model_zoo.loading import load, weight_files
        from probes.core.runs.identity import identify

        self.progress.say(f"loading {reference.label}")
        files = [identify(path) for path in weight_files(reference, self.progress.load)]
        model = load(
            reference,
            image_size=self.arguments.image_size,
            device=self.engine.device,
            on_progress=self.progress.load,
        )
        if (other := manifest.other_file(files)) is not None:
            raise _refused(f"{other} changed while it was read; run again once nothing writes to it.")
        self.files += files
        return model

    def _shards(self, number: int, models: Mapping[str, Any], seen: "dict[str, Probe]", dtypes: Any) -> None:
        """Measure the shards that are not there."""
        from probes.core.parameters import UsageError
        from probes.core.runs import merge, shards
        from probes.core.runs.engine import Task
        from probes.core.runs.measure import shard_size

        kept, labels = self.kept[number], tuple(models)
        before = kept[-1] if kept else None
        batch = self.arguments.batch_size or (before.batch_size if before else self.engine.fitting(labels, seen))
        size = before.provenance.size if before else shard_size(seen, batch) * self.engine.stretch
        merge.refuse_too_many(models, seen, len(self.images), size)
        weights = {label: adapter.digest for label, adapter in models.items()}
        provenance = shards.Provenance(manifest.key(self.asked), weights, dict(dtypes), self.device, size)
        self._check(kept, provenance)
        measurement = self.engine.measure(
            Task(labels, self.images, seen, dtypes, size, batch, workers=self.arguments.workers)
        )
        total, done = len(self.images) * len(models), before.shard.stop if before else 0
        self.resumed = max(self.resumed, done)
        if done:
            self.progress.say(f"{done} of {len(self.images)} images are there already")
        try:
            for place, error in ((e.place, e.skipped) for e in shards.entries(kept) if e.skipped):
                self.skipped(place, error)
            for shard in measurement.shards(
                before and before.shard, lambda place: self.progress.step(place * len(models), total), self.skipped
            ):
                kept.append(shards.write(self.folder, number, shard, provenance, measurement.batch.now))
        except UsageError:
            self.folder.remove()
            raise
        self.progress.end()
        self.batch_size = measurement.batch.now

    def _check(self, kept: Sequence[Any], provenance: Any) -> None:
        """Refuse to go on with shards that stand on something else."""
        from probes.core.runs import shards
        from probes.core.runs.begun import cannot

        for one in kept:
            old = one.provenance
            for label, digest in provenance.weights.items():
                if old.weights.get(label) != digest:
                    raise _refused(cannot(f"the weights of {label} are not those that were measured"))
            if old.device != provenance.device:
                raise _refused(cannot(f"it ran on {old.device}, and this is {provenance.device}"))
            if old != provenance:
                raise _refused(cannot("it was another run's"))
        if (name := manifest.changed(shards.entries(kept), self.images)) is not None:
            raise _refused(cannot(f"the image {name} is not what was measured"))

    def _note(self, references: Sequence[Any], models: Mapping[str, Any], dtypes: Mapping[str, str]) -> None:
        """For the manifest: what the models are."""
        for reference in references:
            adapter = models[reference.label]
            self.models[reference.label] = {
                "model": reference.source,
                "architecture": adapter.spec.name,
                "weights_sha256": adapter.digest,
                "input_size": list(adapter.input_size),
                "dtype": dtypes[reference.label],
            }

    def _document(self, results: Mapping[str, Any], began: datetime, seconds: float) -> dict[str, Any]:
        """The manifest: what was computed from what."""
        import dataclasses

        from probes.core.runs import shards

        kept: Any = next((kept for kept in self.kept.values() if kept), [])
        images = [
            {"name": e.name, "file": e.file and e.file.as_json()} | ({"skipped": e.skipped} if e.skipped else {})
            for e in shards.entries(kept)
        ] or [{"name": image.name, "file": None} for image in self.images]
        return {
            "format": manifest.FORMAT,
            "key": manifest.key(self.asked),
            "asked": self.asked,
            "models": self.models,
            "probes": {
                name: {"title": probe.title, "parameters": dataclasses.asdict(probe)}  # type: ignore[call-overload]
                for name, probe in self.chosen.items()
            },
            "undefined": [
                [name, label, dataset.attrs["undefined"]]
                for name, by_label in results.items()
                for label, dataset in by_label.items()
                if "undefined" in dataset.attrs
            ],
            "engine": self.arguments.engine,
            "device": self.device,
            "batch_size": self.batch_size,
            "shards": len(kept),
            "resumed_after": self.resumed,
            "started": began.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "files": [{"file": known.as_json()} for known in [*self.files, *self.begun.compared]],
            "images": images,
        }


def _with_differences(
    results: dict[str, dict[str, Any]],
    engine: "Engine",
    dtypes: Mapping[str, str],
    image: Any,
    chosen: "dict[str, Probe]",
    say: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Where bfloat16 was used, measure on the first image what it changes, say it and keep it with the result."""
    for label in dtypes:
        cast = [n for n in chosen if results[n][label].attrs["dtype"] == "bfloat16" and image is not None]
        cast = [name for name in cast if "undefined" not in results[name][label].attrs]
        if not cast or dtypes[label] != "bfloat16":
            continue
        for name, found in engine.differences(label, image, {n: chosen[n] for n in cast}).items():
            results[name][label] = _noted(results[name][label], found)
            for variable, difference in found.items():
                say(f"{name} of {label}: bfloat16 changes {variable} by at most {difference:.2g} on the first image")
    return results


def _noted(result: Any, differences: Mapping[str, float]) -> Any:
    def note(dataset: Any) -> Any:
        for variable, difference in differences.items():
            if variable in dataset:
                dataset[variable].attrs["bfloat16_difference"] = difference
        return dataset

    return result.map(note) if isinstance(result, output.Pieces) else note(result)


def _refused(said: str) -> Exception:
    from probes.core.parameters import UsageError

    return UsageError(said)


class _Skipped:
    """Places of the images that cannot be read; stops the run where leaving one out would change what is asked."""

    def __init__(self, chosen: "dict[str, Probe]") -> None:
        of = {name: getattr(probe, "of", None) for name, probe in chosen.items()}
        self.counted = {name: place for name, place in of.items() if isinstance(place, int)}

    def __call__(self, place: int, error: str) -> None:
        from probes.core.parameters import UsageError

        for name, last in self.counted.items():
            if place <= last:
                raise UsageError(f"{name}.of={last} counts images, and image {place} cannot be read: {error}")
