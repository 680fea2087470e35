"""What the packages import is what requirements.txt and those of the optional packages pin, no more and no less."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("dashboard", "probes", "model_zoo")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> set[str]:
    modules: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules.add(node.module.partition(".")[0])
    return modules - sys.stdlib_module_names - {*PACKAGES}


def test_every_import_is_declared_and_every_requirement_imported() -> None:
    lines = [
        line
        for file in ("requirements.txt", "requirements-ray.txt", "requirements-umap.txt")
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    declared = {normal(line.partition("==")[0]) for line in lines}
    owners = packages_distributions() | {"umap": ["umap-learn"]}
    needed = {module: {normal(name) for name in owners[module]} for module in imported()}
    assert {module: names for module, names in needed.items() if not names & declared} == {}
    assert declared - set().union(*needed.values()) == set()
