"""Draws panels of the dashboards from what their own queries find in a Prometheus. Not Grafana: it reads of each panel what
is needed to show the data as Grafana would, and lays the panels out as gridPos says."""

import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.colors as colors  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy  # noqa: E402
import queries  # noqa: E402
import units  # noqa: E402
from matplotlib.patches import FancyBboxPatch  # noqa: E402
from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: E402
from PIL import Image  # noqa: E402

WIDTH, DPI = 1500, 100  # pixels of a picture
CELL = 40  # pixels of one row of the grid
TEXT, FAINT, CARD, PAGE = "#24292e", "#6a737d", "#ffffff", "#f4f5f5"
NAMED = {
    "green": "#37872d", "orange": "#e0752d", "red": "#c4162a", "blue": "#1f60c4", "transparent": "none",
}  # fmt: skip
OUTCOMES = {"ok": "#37872d", "error": "#c4162a", "rejected": "#e0752d", "deadline": "#a352cc", "invalid": "#6a737d",
            "cancelled": "#1f60c4"}  # fmt: skip
LINES = ["#1f60c4", "#e0752d", "#37872d", "#a352cc", "#c4162a", "#0f9b9b", "#8f6b00", "#6a737d"]

plt.rcParams.update({"font.size": 9.5, "text.color": TEXT, "axes.edgecolor": "#c8cdd2", "xtick.color": FAINT,
                     "ytick.color": FAINT, "axes.labelcolor": FAINT, "font.family": "DejaVu Sans"})  # fmt: skip


class Data:
    """What a panel's targets find between two times."""

    def __init__(self, prometheus, start, end, step):
        self.prometheus, self.start, self.end, self.step = prometheus, start, end, step

    def _filled(self, target):
        return queries.fill_in(
            target["expr"], rate_interval=f"{max(4 * self.step, 10)}s", range=f"{int(self.end - self.start)}s"
        )

    def lines(self, panel):
        """(name, labels, times since the start, values), of every series with a number in it."""
        for target in panel["targets"]:
            for labels, samples in self.prometheus.query_range(self._filled(target), self.start, self.end, self.step):
                times = numpy.array([t - self.start for t, _ in samples])
                values = numpy.array([v for _, v in samples])
                if numpy.isfinite(values).any():
                    yield queries.legend(target, labels), labels, times, values

    def now(self, panel):
        """(labels, value) of every series of an instant query, at the end."""
        query = dict(query=self._filled(panel["targets"][0]), time=self.end)
        return [(s["metric"], float(s["value"][1])) for s in self.prometheus.get("/api/v1/query", **query)["result"]]


def clock(seconds, _=None):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def defaults(panel):
    return panel.get("fieldConfig", {}).get("defaults", {})


def overrides(panel):
    """Series name -> {property: value}."""
    return {
        o["matcher"]["options"]: {p["id"]: p["value"] for p in o["properties"]}
        for o in panel.get("fieldConfig", {}).get("overrides", [])
    }


def format_axis(axis, unit, ticks=5):
    axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: units.text(value, unit)))


def format_time(axes, data):
    axes.set_xlim(0, data.end - data.start)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 1.5, 3, 6]))
    axes.xaxis.set_major_formatter(FuncFormatter(clock))


def plain(axes):
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    axes.tick_params(axis="x", pad=6)


def color_of(i, name):
    return OUTCOMES.get(name, LINES[i % len(LINES)])


def highest(series):
    return max(float(numpy.nanmax(values)) for _, _, _, values in series)


def draw_lines(axes, panel, data):
    unit, own = defaults(panel)["unit"], overrides(panel)
    custom = defaults(panel).get("custom", {})
    series = list(data.lines(panel))
    stacking = custom.get("stacking", {}).get("mode", "none")
    handles, right = [], None
    if stacking != "none":
        times = numpy.unique(numpy.concatenate([t for _, _, t, _ in series]))
        values = numpy.array([numpy.interp(times, t, numpy.nan_to_num(v)) for _, _, t, v in series])
        if stacking == "percent":
            total = values.sum(axis=0)
            values = numpy.divide(values, total, out=numpy.zeros_like(values), where=total > 0)
            unit = "percentunit"
            series = [(name, labels, times, shares) for (name, labels, _, _), shares in zip(series, values)]
        handles = axes.stackplot(times, values, colors=[color_of(i, s[0]) for i, s in enumerate(series)], alpha=0.75)
    else:
        for i, (name, _, times, values) in enumerate(series):
            on = axes
            if own.get(name, {}).get("custom.axisPlacement") == "right":
                on = right = axes.twinx()
                format_axis(right.yaxis, own[name]["unit"])
                right.set_ylabel(own[name]["custom.axisLabel"])
            handles += on.plot(times, values, color=color_of(i, name), linewidth=1.4)
    bounds = defaults(panel)
    if bounds.get("min") == 0:
        for each in filter(None, (axes, right)):
            each.set_ylim(0, each.get_ylim()[1] if highest(series) > 0 else 1)
    if bounds.get("max") is not None:
        axes.set_ylim(top=bounds["max"] * 1.02)
    if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        for step in bounds["thresholds"]["steps"]:
            if step["value"] is not None and step["color"] != "transparent":
                axes.axhline(step["value"], color=NAMED[step["color"]], linestyle="--", linewidth=1)
    format_axis(axes.yaxis, unit)
    format_time(axes, data)
    axes.grid(axis="y", color="#e6e8ea", linewidth=0.8)
    axes.set_axisbelow(True)
    plain(axes)
    if right:
        plain(right)
        right.spines["right"].set_visible(True)
    names = []
    for name, _, _, values in series:
        own_unit = own.get(name, {}).get("unit", unit)
        names.append(f"{name}  {units.text(float(numpy.nanmean(values)), own_unit)}")
    columns = int(axes.bbox.width / (30 + 6 * max(map(len, names))))  # pixels of an entry, roughly
    axes.legend(handles, names, loc="upper left", bbox_to_anchor=(-0.02, -0.14), ncols=max(1, columns), frameon=False,
                fontsize=8.5, handlelength=1, handletextpad=0.5, columnspacing=1.4, borderpad=0, labelspacing=0.35)  # fmt: skip


def draw_heat(axes, panel, data):
    target, options = panel["targets"][0], panel["options"]
    series = sorted(data.lines(panel), key=lambda s: float(s[0].replace("+Inf", "inf")))
    times = numpy.unique(numpy.concatenate([t for _, _, t, _ in series]))
    rows = numpy.array([numpy.interp(times, t, v, left=numpy.nan) for _, _, t, v in series])
    names = [name for name, _, _, _ in series]
    if target["format"] == "heatmap":
        rows = numpy.diff(rows, axis=0, prepend=0)
        seen = numpy.flatnonzero(numpy.nanmax(rows, axis=1) > 1e-9)
        first, last = seen.min(), seen.max() + 1
        rows, names = rows[first:last], names[first:last]
        rows = numpy.where(rows > 1e-9, rows, numpy.nan)
        names = [units.text(float(name), options["yAxis"]["unit"]) if name != "+Inf" else "more" for name in names]
    scheme = colors.LinearSegmentedColormap.from_list("", ["#e8f1fa", "#5b9bd5", "#1f4e8c", "#0b1f3f"])
    mesh = axes.pcolormesh(
        numpy.append(times, times[-1] + data.step),
        numpy.arange(len(rows) + 1),
        rows,
        cmap=scheme,
        vmin=options["color"].get("min", 0),
        vmax=options["color"].get("max"),
        linewidth=0,
        rasterized=True,
    )
    axes.set_yticks(numpy.arange(len(rows)) + 0.5, names)
    axes.set_ylabel(options["yAxis"].get("axisLabel", ""))
    format_time(axes, data)
    plain(axes)
    unit = options["cellValues"]["unit"]
    bar = axes.figure.colorbar(mesh, ax=axes, fraction=0.045, pad=0.015)
    format_axis(bar.ax.yaxis, unit)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)


def draw_number(axes, panel, data):
    axes.set_axis_off()
    _, _, times, values = next(data.lines(panel))
    known = values[numpy.isfinite(values)]
    color = NAMED["blue"]
    for step in defaults(panel)["thresholds"]["steps"]:
        if step["value"] is None or known[-1] >= step["value"]:
            color = NAMED[step["color"]]
    axes.fill_between(times, values, min(known.min(), 0), color=color, alpha=0.15, linewidth=0)
    axes.plot(times, values, color=color, linewidth=1, alpha=0.6)
    axes.set_xlim(times[0], times[-1])
    axes.set_ylim(min(0, known.min()), max(known.max(), 1e-9) * 2.2)
    axes.text(0.5, 0.66, units.text(float(known[-1]), defaults(panel)["unit"]), transform=axes.transAxes, fontsize=18,
              fontweight="bold", color=color, ha="center", va="center")  # fmt: skip


def draw_matrix(axes, panel, data):
    options = panel["transformations"][0]["options"]
    row_label, column_label = options["rowField"], options["columnField"]
    found = data.now(panel)
    rows = sorted({labels[row_label] for labels, _ in found}, key=int)
    columns = sorted({labels[column_label] for labels, _ in found}, key=int)
    cells = numpy.full((len(rows), len(columns)), numpy.nan)
    for labels, value in found:
        cells[rows.index(labels[row_label]), columns.index(labels[column_label])] = value
    scheme = colors.LinearSegmentedColormap.from_list("", ["#d6e6f5", "#fff3b0", "#f2994a", "#c4162a"])
    axes.imshow(cells, cmap=scheme, aspect="auto", vmin=0)
    for (y, x), value in numpy.ndenumerate(cells):
        axes.text(x, y, units.text(value, defaults(panel)["unit"]), ha="center", va="center", fontsize=9.5)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(column_label)
    axes.set_ylabel(row_label)
    for edge in range(1, len(columns)):
        axes.axvline(edge - 0.5, color=CARD, linewidth=2)
    for edge in range(1, len(rows)):
        axes.axhline(edge - 0.5, color=CARD, linewidth=2)
    plain(axes)


def draw_scatter(axes, panel, data):
    x, y = [dict(zip(times, values)) for _, _, times, values in data.lines(panel)]
    moments = sorted(x.keys() & y.keys())
    points = axes.scatter([x[t] for t in moments], [y[t] for t in moments], c=moments, cmap="viridis", s=16, alpha=0.75)
    names = [target["legendFormat"] for target in panel["targets"]]
    own = overrides(panel)
    format_axis(axes.xaxis, own[names[0]]["unit"])
    format_axis(axes.yaxis, own[names[1]]["unit"])
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.set_ylim(bottom=0)
    axes.grid(color="#e6e8ea", linewidth=0.8)
    axes.set_axisbelow(True)
    plain(axes)
    bar = axes.figure.colorbar(points, ax=axes, fraction=0.045, pad=0.015)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(clock))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)


# Drawer, and the margins that its axes leave in the card, in pixels: left, right, bottom, top.
KINDS = {
    "timeseries": (draw_lines, (78, 20, 96, 44)),
    "heatmap": (draw_heat, (78, 52, 38, 44)),
    "stat": (draw_number, (12, 12, 6, 34)),
    "table": (draw_matrix, (60, 16, 52, 44)),
    "xychart": (draw_scatter, (84, 44, 56, 44)),
}


def margins(panel):
    left, right, bottom, top = KINDS[panel["type"]][1]
    if defaults(panel).get("unit") == "flops":
        left += 24
    if any("custom.axisPlacement" in own for own in overrides(panel).values()):
        right += 44
    return left, right, bottom, top


def draw(dashboard, rows, data, path):
    """Writes a PNG of the rows of a dashboard with these titles."""
    chosen, inside = [], False
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            inside = panel["title"] in rows
        if inside:
            chosen.append(panel)
    top = min(panel["gridPos"]["y"] for panel in chosen)
    height = CELL * (max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in chosen) - top)
    figure = plt.figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor=PAGE)
    for panel in chosen:
        at = panel["gridPos"]
        left, width = at["x"] * WIDTH / 24, at["w"] * WIDTH / 24
        bottom, tall = height - (at["y"] - top + at["h"]) * CELL, at["h"] * CELL
        if panel["type"] == "row":
            figure.text((left + 12) / WIDTH, (bottom + 13) / height, panel["title"], fontsize=13, fontweight="bold")
            continue
        figure.add_artist(
            FancyBboxPatch(
                ((left + 5) / WIDTH, (bottom + 5) / height),
                (width - 10) / WIDTH,
                (tall - 10) / height,
                boxstyle="square,pad=0",
                facecolor=CARD,
                edgecolor="#dfe2e5",
                zorder=-1,
            )
        )
        figure.text((left + 16) / WIDTH, (bottom + tall - 27) / height, panel["title"], fontsize=10.5, fontweight="bold")
        m_left, m_right, m_bottom, m_top = margins(panel)
        axes = figure.add_axes(
            (
                (left + m_left) / WIDTH,
                (bottom + m_bottom) / height,
                (width - m_left - m_right) / WIDTH,
                (tall - m_bottom - m_top) / height,
            ),
            facecolor="none",
        )
        KINDS[panel["type"]][0](axes, panel, data)
    figure.savefig(path, dpi=DPI, facecolor=PAGE)
    plt.close(figure)
    Image.open(path).convert("RGB").save(path, optimize=True)


def size_kb(path):
    return math.ceil(path.stat().st_size / 1000)
