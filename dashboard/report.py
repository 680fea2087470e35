"""``python -m dashboard.report OUT.zarr --out report.html``: a result as one page of HTML to keep, send or print."""

import sys
from collections.abc import Sequence
from pathlib import Path

from model_zoo.command_line import Parser, leave, printable


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; 0 when it is written, 2 for bad input."""
    parser = Parser(prog="python -m dashboard.report", description="Write a result of `python -m probes run` as HTML.")
    parser.add_argument("result", type=Path, metavar="OUT.zarr")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.html")
    arguments = parser.parse_args(argv)
    # What draws takes seconds to import.
    from dashboard import navigation
    from dashboard.runs import report
    from dashboard.runs.run import opened
    from probes.core.output import OutputError

    try:
        navigation.pages()  # the pages offer their charts
        written = report.html(opened(arguments.result))
        arguments.out.write_text(written, encoding="utf-8")
    except (OutputError, OSError) as error:
        said = str(error) if isinstance(error, OutputError) else f"{arguments.out} cannot be written: {error.strerror}."
        print(f"python -m dashboard.report: {printable(said)}", file=sys.stderr)
        return 2
    print(f"{arguments.out}: {len(written.encode()) / 1e6:.1f} MB", file=sys.stderr)
    return 0


if __name__ == "__main__":
    leave(main)
