"""``python -m probes video``."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from model_zoo.command_line import printable
from probes.core.runs.progress import Progress
from probes.core.video.clip import Clip, Limits, Part, VideoError

if TYPE_CHECKING:  # brings torch
    from probes.core.video.film import Made

SCENE = re.compile(r"scene:(0|[1-9][0-9]{0,8})")


def run(arguments: argparse.Namespace) -> int:
    """Make the film and print how stable the maps are."""
    progress = Progress()
    try:
        return _run(arguments, progress)
    except VideoError as error:
        said = str(error)
    except Exception as error:
        from model_zoo.memory import is_out_of_memory
        from model_zoo.reference import ModelError

        if is_out_of_memory(error):
            said = "The memory does not hold so many frames at a time; choose a smaller --batch-size or --short-side."
        elif isinstance(error, (ModelError, OSError)):
            said = str(error)
        else:
            raise
    progress.end()
    print(f"python -m probes video: {printable(said)}", file=sys.stderr)
    return 2


def open_clip(text: str, part: Part, most_seconds: float | None = None) -> Clip:
    """The clip of ``--input``.

    Raises:
        VideoError: there is none.
    """
    from probes.core.video.reading import FileClip
    from probes.core.video.scene_clip import SceneClip

    if found := SCENE.fullmatch(text):
        return SceneClip(int(found[1]), part)
    path = Path(text)
    if not path.is_file():
        raise VideoError(f"{text} is no file; give a video file, or scene:N.")
    return FileClip(path, part, Limits() if most_seconds is None else Limits(seconds=most_seconds))


def _run(arguments: argparse.Namespace, progress: Progress) -> int:
    # Imported here so that wrong arguments answer at once.
    from model_zoo.input_size import step_of
    from model_zoo.loading import load
    from model_zoo.reference import parse_all
    from probes.core.video import film, writing
    from probes.core.video.framing import framing
    from probes.core.video.maps import Show
    from probes.core.video.screen import Style

    if not 1 <= arguments.batch_size <= 1024:
        raise VideoError(f"--batch-size is {arguments.batch_size}; it must be 1 to 1024.")
    show = Show(arguments.show, arguments.head, arguments.layer, arguments.tau)
    style = Style(arguments.draw, arguments.scale, arguments.smooth)
    writing.check_out(arguments.out)
    part = Part(arguments.start, arguments.end, arguments.stride)
    clip = open_clip(arguments.input, part, arguments.most_seconds)
    references = parse_all(arguments.model)
    frame = framing(clip.size, [step_of(reference.timm_name) for reference in references], arguments.short_side)
    models = {
        one.label: load(one, image_size=frame.size, device=arguments.device, on_progress=progress.load)
        for one in references
    }
    made = film.make(
        models,
        clip,
        frame,
        arguments.out,
        show=show,
        style=style,
        batch_size=arguments.batch_size,
        dtype=arguments.dtype,
        on_progress=progress.stage,
    )
    progress.end()
    for note in made.notes:
        print(printable(note), file=sys.stderr)
    print(json.dumps({"out": str(arguments.out), **asdict(made)}, indent=1) if arguments.json else _table(made))
    return 0


def _table(made: "Made") -> str:
    rows: list[Sequence[str]] = [("model", "stability", "on the object", "IoU", "shown")]
    for label, numbers in made.models.items():
        if numbers.get("undefined"):
            rows.append((label, "–", "–", "–", f"not defined: {numbers['undefined']}"))
            continue
        values = (numbers[name] for name in ("stability", "stability_on_object", "iou"))
        rows.append((label, *("–" if value is None else f"{value:.3f}" for value in values), numbers["shown"]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    width, height = made.size
    return "\n".join([*lines, f"{made.frames} frames, {made.duration:.1f} s, {width} × {height} px. {made.region}"])
