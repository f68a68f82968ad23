/** The time series as an ECharts option: lines, the dashed comparison, the provisional band. */
import type { EChartsCoreOption } from "echarts/core";
import type { ChartColours } from "../charts/theme";
import type { Metric } from "../data/metrics";
import { formatTick } from "../format/numbers";

export interface SeriesData {
  labels: string[];
  metrics: Metric[];
  values: (number | null)[][];
  before: ((number | null)[] | null)[];
  /** The first bucket that may still change, or the number of buckets. */
  firstOpen: number;
}

export function seriesOption(data: SeriesData, colours: ChartColours): EChartsCoreOption {
  const { labels, metrics, firstOpen } = data;
  const isSingle = labels.length === 1;
  const band = [{ xAxis: Math.max(0, firstOpen - 1) }, { xAxis: labels.length - 1 }];
  const lines = metrics.flatMap((metric, at) => {
    const colour = at === 0 ? colours.accent : colours.second;
    const common = { type: "line", yAxisIndex: at, showSymbol: isSingle, symbol: "circle", symbolSize: 6 };
    const before = data.before[at];
    const current = {
      ...common,
      name: metric.name,
      data: data.values[at],
      z: 4,
      color: colour,
      lineStyle: { width: 2, color: colour, join: "round", cap: "round" },
      ...(at === 0 && metrics.length === 1 ? { areaStyle: { color: colour, opacity: 0.07 } } : {}),
      ...(at === 0 && firstOpen < labels.length
        ? { markArea: { silent: true, itemStyle: { color: colours.muted, opacity: 0.12 }, data: [band] } }
        : {}),
    };
    if (!before) return [current];
    const dashed = {
      ...common,
      name: `${metric.name} before`,
      data: before,
      z: 3,
      color: colour,
      lineStyle: { width: 1.5, type: [4, 4], color: colour, opacity: 0.55 },
    };
    return [dashed, current];
  });
  return {
    grid: { left: 4, right: metrics.length > 1 ? 4 : 16, top: 12, bottom: 4, outerBoundsMode: "same" },
    xAxis: {
      type: "category",
      data: labels,
      boundaryGap: isSingle,
      axisLine: { lineStyle: { color: colours.line } },
      axisTick: { show: false },
      axisLabel: {
        color: colours.muted,
        fontSize: 12,
        margin: 12,
        hideOverlap: true,
        interval: interval(labels.length),
      },
    },
    yAxis: metrics.map((metric, at) => ({
      type: "value",
      min: 0,
      splitNumber: 4,
      alignTicks: at > 0,
      axisLabel: {
        color: colours.muted,
        fontSize: 12,
        margin: 12,
        formatter: (value: number) => formatTick(metric.kind, value),
      },
      axisLine: { show: false },
      axisTick: { show: false },
      splitLine: { show: at === 0, lineStyle: { color: colours.line } },
    })),
    series: lines,
  };
}

/** Labels at even distances, seven of them at most. */
function interval(count: number): number {
  return Math.max(0, Math.ceil(count / 7) - 1);
}
