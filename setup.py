"""Maps the two top-level folders into the package, and builds the native engine.

`passes/` and `kernels/` are installed as `graphopt.passes` and `graphopt.kernels`, so that an installed
graphopt puts exactly one name into site-packages. The engine is built by CMake (kernels/CMakeLists.txt);
without a compiler, or with GRAPHOPT_NO_NATIVE=1, graphopt is installed without it. Everything else about the
project stands in pyproject.toml.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def mapped(folder: str) -> list[str]:
    """The packages of a top-level folder under their installed names."""
    return [f"graphopt.{folder}"] + [f"graphopt.{folder}.{p}" for p in find_packages(folder)]


class BuildEngine(build_ext):
    """Runs CMake; the extension and its kernel libraries come to lie beside each other."""

    def build_extension(self, ext: Extension) -> None:
        import nanobind

        # Build environments of pip come and go: each set of tools has its own folder.
        tools = hashlib.sha256(f"{sys.executable} {nanobind.cmake_dir()}".encode()).hexdigest()[:12]
        build = ROOT / "build" / f"native-{tools}"
        isas = os.environ.get("GRAPHOPT_ISAS")
        configure = [
            *("cmake", "-S", str(ROOT / "kernels"), "-B", str(build), "-G", "Ninja"),
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={build / 'made'}",
            *([f"-DGRAPHOPT_ISAS={isas}"] if isas else []),
        ]
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build)], check=True)
        folders = [Path(self.get_ext_fullpath(ext.name)).resolve().parent]
        if self.editable_mode:
            # Setuptools brings the extension there, and knows nothing of its kernel libraries.
            folders.append(ROOT / "kernels")
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            for library in (build / "made").glob("*.so"):
                (folder / library.name).unlink(missing_ok=True)
                shutil.copy2(library, folder)


def extensions() -> list[Extension]:
    """The engine, unless it is not wanted."""
    if os.environ.get("GRAPHOPT_NO_NATIVE"):
        return []
    return [Extension("graphopt.kernels._engine", sources=[], optional=True)]


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
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildEngine},
)
