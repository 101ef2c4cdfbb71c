"""A plot of the measured points."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.quantization.search import Search

__all__ = ["plot_front"]

_NAMES = {"kl": "mean divergence of a step (KL)", "sqnr": "noise to signal power"}


def plot_front(search: Search, path: Path) -> None:
    """Bytes against measured loss; colours are predicted times, the point that was taken has a ring.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    points, front = search.points, set(search.front)
    sizes = [p.bytes / 1e6 for p in points]
    # An exact point has no place on a scale of powers.
    least = min((p.noise for p in points if p.noise > 0), default=1.0) / 10
    losses = [max(p.noise, least) for p in points]
    drawn = axes.scatter(sizes, losses, c=[p.time for p in points], cmap="viridis", zorder=3)
    beaten = [i for i in range(len(points)) if i not in front]
    axes.scatter([sizes[i] for i in beaten], [losses[i] for i in beaten], marker="x", color="0.6", zorder=4)
    axes.scatter(
        [sizes[search.taken]],
        [losses[search.taken]],
        s=160,
        facecolors="none",
        edgecolors="tab:red",
        label="taken",
        zorder=5,
    )
    axes.set_yscale("log")
    axes.set_xlabel("file, MB")
    axes.set_ylabel(_NAMES[search.metric])
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.colorbar(drawn, label="predicted time of products, of the fastest point's")
    # Without a date the same front is the same file.
    figure.savefig(path, format="svg", metadata={"Date": None})
