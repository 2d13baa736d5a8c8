#!/usr/bin/python3
"""Draws docs/dashboard.png: four panels of the Grafana dashboard, their queries taken from its file and asked of a real Prometheus.

    hack/picture.py http://127.0.0.1:9095 --minutes 10 --step 30 --namespace shop

README's picture shows hack/picture-shop.yaml. The script draws with matplotlib (Debian's python3-matplotlib) and needs
no Grafana. The picture says so.
"""

import argparse
import json
import math
import pathlib
import sys
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates as dates
import matplotlib.pyplot as plot
from matplotlib.ticker import MaxNLocator

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Matplotlib counts time in days since 1970.
DAY = 86400
DASHBOARD = json.loads((ROOT / "manifests/components/grafana/pure-chaos.json").read_text())


class Prometheus:
    """Answers the dashboard's queries for one stretch of time."""

    def __init__(self, address, start, end, step, scrape, namespace):
        self.address, self.start, self.end, self.step = address, start, end, step
        self.values = {
            # Grafana computes this value from the step and the scrape interval in the same way.
            "$__rate_interval": f"{max(step + scrape, 4 * scrape)}s",
            "$__interval": f"{step}s",
            "$__range": f"{int(end - start)}s",
            "$job": ".+",
            "$namespace": namespace,
            "$workload": ".+",
        }

    def ask(self, expr):
        """Returns the series of an expression with Grafana's variables: labels, times, numbers."""
        for name, value in self.values.items():
            expr = expr.replace(name, value)
        parameters = urllib.parse.urlencode({"query": expr, "start": self.start, "end": self.end, "step": self.step})
        with urllib.request.urlopen(f"{self.address}/api/v1/query_range?{parameters}", timeout=30) as answer:
            result = json.load(answer)["data"]["result"]
        return [
            (series["metric"], [(at / DAY, float(number)) for at, number in series["values"]])
            for series in result
        ]


def targets(title):
    """Returns the targets of the panel with this title."""
    return next(panel for panel in DASHBOARD["panels"] if panel["title"] == title)["targets"]


def legend(target, labels):
    """Returns the name of a series, as its target's legendFormat defines it."""
    name = target["legendFormat"]
    for label, value in labels.items():
        name = name.replace("{{%s}}" % label, value)
    return name


def bars(axes, prometheus, target, width):
    """Draws stacked bars, one colour for each series that has a value above 0."""
    floor = {}
    for labels, samples in prometheus.ask(target["expr"]):
        samples = [(at, number) for at, number in samples if number > 0]
        if samples:
            times, numbers = zip(*samples)
            # Each value counts what happened before its time, so its bar ends at that time.
            axes.bar(times, numbers, -width, [floor.get(at, 0) for at in times], align="edge", label=legend(target, labels), alpha=0.8)
            for at, number in samples:
                floor[at] = floor.get(at, 0) + number
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def kills_and_restarts(axes, prometheus, width):
    kills, restarts = targets("Kills and container restarts by workload")
    bars(axes, prometheus, kills, width)
    for number, (labels, samples) in enumerate(prometheus.ask(restarts["expr"])):
        # A series without restarts would be a line on the axis.
        if any(count > 0 for _at, count in samples):
            axes.plot(*zip(*samples), f"C{number + 3}", linewidth=2, label=legend(restarts, labels))
    axes.set_ylabel(f"in about {prometheus.step} s")


def heat_map(axes, prometheus, width):
    (target,) = targets("Recovery times")
    by_edge = {labels["le"]: dict(samples) for labels, samples in prometheus.ask(target["expr"])}
    edges = sorted(by_edge, key=float)
    times = sorted({at for samples in by_edge.values() for at in samples})
    rows, below = [], {}
    for edge in edges:
        # Each bucket also counts everything in the buckets below it.
        rows.append([max(0, by_edge[edge].get(at, 0) - below.get(at, 0)) or math.nan for at in times])
        below = by_edge[edge]
    used = max(number for number, row in enumerate(rows) if any(not math.isnan(value) for value in row)) + 1
    axes.pcolormesh([times[0] - width] + times, range(used + 1), rows[:used], cmap="Oranges", vmin=0)
    axes.set_yticks(range(used + 1), ["0"] + edges[:used])
    axes.set_ylabel("s")


def percentiles(axes, prometheus, _):
    for target in targets("Percentiles of recovery time"):
        for _labels, samples in prometheus.ask(target["expr"]):
            samples = [(at, number) for at, number in samples if math.isfinite(number)]
            if samples:
                axes.plot(*zip(*samples), marker=".", label=target["legendFormat"])
    axes.set_ylabel("s")


def refusals(axes, prometheus, width):
    bars(axes, prometheus, targets("Refusals by reason")[0], width)
    axes.set_ylabel(f"in about {prometheus.step} s")


PANELS = {
    "Kills and container restarts by workload": kills_and_restarts,
    "Recovery times": heat_map,
    "Percentiles of recovery time": percentiles,
    "Refusals by reason": refusals,
}


def share(prometheus):
    """Returns the last value of the panel "Within the deadline", as text."""
    answer = prometheus.ask(targets("Within the deadline")[0]["expr"])
    return f"{answer[0][1][-1][1]:.1%}" if answer else "no outcome"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("address", help="of Prometheus, such as http://127.0.0.1:9095")
    arguments.add_argument("--minutes", type=float, default=5, help="how far back (5)")
    arguments.add_argument("--step", type=int, default=15, help="seconds from bar to bar (15)")
    arguments.add_argument("--scrape", type=int, default=2, help="seconds from scrape to scrape (2)")
    arguments.add_argument("--namespace", default=".+", help="a regular expression; all, if not given")
    arguments.add_argument("--output", default=str(ROOT / "docs/dashboard.png"))
    given = arguments.parse_args()

    end = int(time.time())
    start = end - int(given.minutes * 60)
    prometheus = Prometheus(given.address.rstrip("/"), start, end, given.step, given.scrape, given.namespace)
    kills = prometheus.ask(DASHBOARD["annotations"]["list"][0]["expr"])
    if not kills:
        sys.exit("No kill in this time: nothing worth a picture.")

    figure, grid = plot.subplots(2, 2, figsize=(13, 7.2), layout="constrained")
    width = given.step / DAY
    for axes, (title, draw) in zip(grid.flat, PANELS.items()):
        draw(axes, prometheus, width * 0.9)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlim(start / DAY, end / DAY)
        axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
        axes.xaxis.set_major_locator(dates.AutoDateLocator(maxticks=7))
        if not axes.has_data():
            axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center")
            axes.set_yticks([])
        axes.grid(alpha=0.25)
        # The dashboard also marks kills in every panel, by an annotation.
        for _labels, samples in kills:
            for at, _number in samples:
                axes.axvline(at, color="red", linestyle=":", linewidth=0.8, alpha=0.7)
        if axes.get_legend_handles_labels()[0]:
            # The legend needs room above the data.
            axes.set_ylim(0, axes.dataLim.ymax * 1.4)
            axes.legend(fontsize=8, ncols=3, loc="upper left")
    figure.suptitle(f"Pure Chaos    recovered within the deadline: {share(prometheus)}    dotted: kills", fontsize=13)
    figure.supxlabel("Queries of the Grafana dashboard, asked of a real Prometheus; drawn with matplotlib, not by Grafana", fontsize=9)
    figure.savefig(given.output, dpi=100)
    print(given.output)


if __name__ == "__main__":
    main()
