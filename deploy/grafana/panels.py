"""What the dashboards are put together from: queries and panels with the settings that all share."""

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
    xychart,
)
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models import prometheus as prometheus_model
from grafana_foundation_sdk.models import xychart as xychart_model

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
TARGET = 'instance=~"$instance"'  # in every selector of a query
RATE = "$__rate_interval"


def rate(metric, by="", *, labels="", over=RATE):
    """Rate of a counter of the chosen servers, summed over all labels but those of `by`."""
    selector = ", ".join(filter(None, (TARGET, labels)))
    by = f" by ({by})" if by else ""
    return f"sum{by} (rate({metric}{{{selector}}}[{over}]))"


def quantile(q, histogram, *, by=(), labels=""):
    """A quantile of a histogram of the chosen servers."""
    return f"histogram_quantile({q}, {rate(histogram + '_bucket', ', '.join(('le', *by)), labels=labels)})"


def query(expr, legend="", *, instant=False, format=prometheus_model.PromQueryFormat.TIME_SERIES):
    target = prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").format(format)
    return target.instant() if instant else target.range()


def quantiles(histogram, *, labels=""):
    return [query(quantile(q, histogram, labels=labels), name) for q, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))]


def steps(*bounds):
    """Thresholds: a colour, then pairs of the value from which another holds."""
    colour, rest = bounds[0], bounds[1:]
    levels = [model.Threshold(value=None, color=colour)]
    levels += [model.Threshold(value=value, color=colour) for value, colour in zip(rest[::2], rest[1::2])]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(levels)


def _finish(panel, title, description, targets, *, width, height, unit):
    panel = panel.title(title).description(description).datasource(DATASOURCE).span(width).height(height)
    if unit:
        panel = panel.unit(unit)
    for i, target in enumerate(targets):
        panel = panel.with_target(target.ref_id(chr(ord("A") + i)))
    return panel


def number(title, description, expr, *, unit, thresholds, decimals=None, width=4):
    """One big number with its recent past behind it."""
    panel = (
        stat.Panel()
        .color_mode(common_model.BigValueColorMode.VALUE)
        .graph_mode(common_model.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(thresholds)
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    return _finish(panel, title, description, [query(expr)], width=width, height=4, unit=unit)


def lines(title, description, targets, *, unit, width=12, height=8, stacked=None, thresholds=None, floor=0, ceiling=None):
    """Lines over time. `stacked`: common_model.StackingMode; `thresholds` are drawn as dashed lines."""
    panel = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(60 if stacked else 8)
        .show_points(common_model.VisibilityMode.NEVER)
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_model.LegendDisplayMode.TABLE)
            .placement(common_model.LegendPlacement.BOTTOM)
            .calcs(["mean", "max", "lastNotNull"])
        )
        .tooltip(
            common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI).sort(common_model.SortOrder.DESCENDING)
        )
    )
    if floor is not None:
        panel = panel.min(floor)
    if ceiling is not None:
        panel = panel.max(ceiling)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(stacked).group("A"))
    if thresholds:
        panel = panel.thresholds(thresholds).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.DASHED)
        )
    return _finish(panel, title, description, targets, width=width, height=height, unit=unit)


def on_right_axis(panel, series, *, unit, label):
    """Gives one of the panel's series an axis of its own."""
    return panel.override_by_name(
        series,
        [
            model.DynamicConfigValue(id_val="unit", value=unit),
            model.DynamicConfigValue(id_val="custom.axisPlacement", value="right"),
            model.DynamicConfigValue(id_val="custom.axisLabel", value=label),
        ],
    )


def heat(title, description, target, *, unit, y_unit, y_label, scheme="Spectral", width=12, height=8, lowest=None, highest=None):
    """Rows that a query already has: a histogram's buckets, or one series per row."""
    color = (
        heatmap.HeatmapColorOptions()
        .mode(heatmap_model.HeatmapColorMode.SCHEME)
        .scheme(scheme)
        .reverse(scheme == "Spectral")
        .steps(64)
    )
    if lowest is not None:
        color = color.min(lowest)
    if highest is not None:
        color = color.max(highest)
    panel = (
        heatmap.Panel()
        .calculate(False)
        .color(color)
        .cell_gap(1)
        .cell_values(heatmap.CellValues().unit(unit))
        .y_axis(heatmap.YAxisConfig().unit(y_unit).axis_label(y_label).axis_placement(common_model.AxisPlacement.LEFT))
        .show_color_scale(True)
        .show_y_histogram()
        .show_legend()
    )
    return _finish(panel, title, description, [target], width=width, height=height, unit="")


def histogram_heat(title, description, histogram, *, y_unit, y_label, **settings):
    target = query(rate(f"{histogram}_bucket", "le"), "{{le}}", format=prometheus_model.PromQueryFormat.HEATMAP)
    return heat(title, description, target, unit="suffix: /s", y_unit=y_unit, y_label=y_label, **settings)


def matrix(title, description, expr, *, rows, columns, unit, width=16, height=8):
    """A table whose cells are coloured by value, of one series per pair of the labels `rows` and `columns`."""
    cell = {"type": "color-background", "mode": "basic"}
    panel = (
        table.Panel()
        .decimals(1)
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.CONTINUOUS_BL_YL_RD))
        .with_transformation(
            model.DataTransformerConfig(
                id_val="groupingToMatrix",
                options={"rowField": rows, "columnField": columns, "valueField": "Value", "emptyValue": "null"},
            )
        )
        .override_by_regexp("[0-9]+", [model.DynamicConfigValue(id_val="custom.cellOptions", value=cell)])
        .override_by_name(f"{rows}\\{columns}", [model.DynamicConfigValue(id_val="unit", value="string")])
    )
    target = query(expr, instant=True, format=prometheus_model.PromQueryFormat.TABLE)
    return _finish(panel, title, description, [target], width=width, height=height, unit=unit)


def scatter(title, description, x, y, *, x_unit, y_unit, width=12, height=8):
    """A point for each moment; `x` and `y` are pairs of query and name."""

    def matcher(kind, option):
        return xychart.MatcherConfig().id(kind).options(option)

    series = (
        xychart.XYSeriesConfig()
        .name(xychart.XychartXYSeriesConfigName().fixed(y[1]))
        .frame(xychart.XychartXYSeriesConfigFrame().matcher(matcher("byIndex", 0)))
        .x(xychart.XychartXYSeriesConfigX().matcher(matcher("byName", x[1])))
        .y(xychart.XychartXYSeriesConfigY().matcher(matcher("byName", y[1])))
    )
    panel = (
        xychart.Panel()
        .mapping(xychart_model.SeriesMapping.MANUAL)
        .series([series])
        .show(xychart_model.XYShowMode.POINTS)
        .with_transformation(
            model.DataTransformerConfig(id_val="joinByField", options={"byField": "Time", "mode": "inner"})
        )
        .legend(common.VizLegendOptions().show_legend(False).placement(common_model.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.SINGLE))
    )
    for (_, name), unit in ((x, x_unit), (y, y_unit)):
        properties = [
            model.DynamicConfigValue(id_val="unit", value=unit),
            model.DynamicConfigValue(id_val="custom.axisLabel", value=name),
        ]
        panel = panel.override_by_name(name, properties)
    return _finish(panel, title, description, [query(*x), query(*y)], width=width, height=height, unit="")


def _variable(name, label, query_text):
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query_text)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .current(model.VariableOption(selected=True, text="All", value="$__all"))
    )


def build(uid, title, description, rows):
    """A dashboard of rows: (title, panels), each line of panels 24 wide."""
    result = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["adamoe"])
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time("now-30m", "now")
        .refresh("10s")
        .link(dashboard.DashboardLink("AdaMoE").type(model.DashboardLinkType.DASHBOARDS).tags(["adamoe"]).keep_time(True))
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_variable("model", "Model", "label_values(adamoe_model_info, model_name)"))
        .with_variable(
            _variable("instance", "Instance", 'label_values(adamoe_model_info{model_name=~"$model"}, instance)')
        )
        .annotation(
            dashboard.AnnotationQuery()
            .name("Firing alerts")
            .datasource(DATASOURCE)
            .enable(True)
            .icon_color("red")
            .expr('ALERTS{alertname=~"Adamoe.+", alertstate="firing", instance=~"$instance|"}')
        )
    )
    for name, panels in rows:
        result = result.with_row(dashboard.Row(name))
        for panel in panels:
            result = result.with_panel(panel)
    result = result.build()
    for i, panel in enumerate(result.panels, 1):
        panel.id_val = i
    return result
