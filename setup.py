"""Maps the two top-level folders `passes/` and `kernels/` into the package.

An installed graphopt puts exactly one name, `graphopt`, into site-packages.
Everything else about the project stands in pyproject.toml.
"""

from setuptools import find_packages, setup


def mapped(folder: str) -> list[str]:
    """The packages of a top-level folder under their installed names."""
    return [f"graphopt.{folder}"] + [f"graphopt.{folder}.{p}" for p in find_packages(folder)]


setup(
    packages=["graphopt"]
    + [f"graphopt.{p}" for p in find_packages("graphopt")]
    + mapped("passes")
    + mapped("kernels"),
    package_dir={
        "graphopt": "graphopt",
        "graphopt.passes": "passes",
        "graphopt.kernels": "kernels",
    },
)
