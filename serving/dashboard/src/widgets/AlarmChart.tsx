/** The series of an alarm: its values as a line over the band of what was expected. */
import { useMemo } from "preact/hooks";
import type { AlarmPoint } from "../api/contract";
import { Chart } from "../charts/Chart";
import { Cursor, Tip } from "../charts/Cursor";
import type { ChartColours } from "../charts/theme";
import { usePlace } from "../charts/usePlace";
import { alarmKind, formatExpected, formatValue, metricName } from "../data/alarms";
import { formatTick } from "../format/numbers";
import { formatTime } from "../format/times";

interface Props {
  metric: string;
  points: AlarmPoint[];
  isTable: boolean;
}

function isOutside({ value, expected_low: low, expected_high: high }: AlarmPoint): boolean {
  return value !== null && ((low !== null && value < low) || (high !== null && value > high));
}

export function AlarmChart({ metric, points, isTable }: Props) {
  const { placeOf, onDrawn } = usePlace();
  const draw = useMemo(() => (palette: ChartColours) => optionOf(metric, points, palette), [metric, points]);
  if (isTable) return <PointTable metric={metric} points={points} />;
  const expectedOf = (point: AlarmPoint) => formatExpected(metric, point.expected_low, point.expected_high);
  return (
    <div class="series">
      <ul class="legend" aria-label="Legend">
        <li>
          <span class="mark" data-mark="line-0" />
          {metricName(metric)}
        </li>
        <li>
          <span class="mark" data-mark="band" />
          Expected
        </li>
        {points.some(isOutside) && (
          <li>
            <span class="mark" data-mark="dot" />
            Outside
          </li>
        )}
      </ul>
      <Cursor
        label={`${metricName(metric)} and what was expected. Arrow keys read the figures.`}
        count={points.length}
        placeOf={placeOf}
        textOf={(index) => {
          const point = points[index]!;
          const state = isOutside(point) ? ", outside of what is expected" : "";
          return `${formatTime(point.at)}: ${formatValue(metric, point.value)}, expected ${expectedOf(point)}${state}`;
        }}
        tooltipOf={(index) => {
          const point = points[index]!;
          const rows = [
            { label: metricName(metric), value: formatValue(metric, point.value), mark: "line-0" },
            { label: "Expected", value: expectedOf(point), mark: "band" },
          ];
          return <Tip title={`Until ${formatTime(point.at)}`} rows={rows} />;
        }}
      >
        <Chart draw={draw} onDrawn={onDrawn} />
      </Cursor>
    </div>
  );
}

function optionOf(metric: string, points: AlarmPoint[], palette: ChartColours) {
  const kind = alarmKind(metric);
  const top = Math.max(...points.flatMap((point) => [point.value ?? 0, point.expected_high ?? 0])) * 1.1 || 1;
  const lows = points.map((point) => (hasBand(point) ? (point.expected_low ?? 0) : null));
  const heights = points.map((point) =>
    hasBand(point) ? Math.max(0, (point.expected_high ?? top) - (point.expected_low ?? 0)) : null,
  );
  const band = { type: "line", stack: "band", symbol: "none", silent: true, lineStyle: { opacity: 0 }, z: 2 };
  return {
    grid: { left: 4, right: 12, top: 8, bottom: 4, outerBoundsMode: "same" },
    xAxis: {
      type: "category",
      boundaryGap: false,
      data: points.map((point) => formatTime(point.at)),
      axisLine: { lineStyle: { color: palette.line } },
      axisTick: { show: false },
      axisLabel: { color: palette.muted, fontSize: 12, margin: 10, hideOverlap: true },
    },
    yAxis: {
      type: "value",
      min: 0,
      splitNumber: 3,
      axisLabel: {
        color: palette.muted,
        fontSize: 12,
        margin: 10,
        formatter: (value: number) => (kind === "seconds" ? formatValue(metric, value) : formatTick(kind, value)),
      },
      splitLine: { lineStyle: { color: palette.line } },
    },
    series: [
      { ...band, data: lows },
      { ...band, data: heights, areaStyle: { color: palette.muted, opacity: 0.22 } },
      {
        type: "line",
        data: points.map((point) => {
          const isShown = isOutside(point) || points.length === 1;
          const itemStyle = { color: isOutside(point) ? palette.bad : palette.accent };
          return { value: point.value, symbol: isShown ? "circle" : "none", symbolSize: 7, itemStyle };
        }),
        showAllSymbol: true,
        z: 4,
        color: palette.accent,
        lineStyle: { width: 2, color: palette.accent, join: "round" },
      },
    ],
  };
}

function hasBand({ expected_low: low, expected_high: high }: AlarmPoint): boolean {
  return low !== null || high !== null;
}

function PointTable({ metric, points }: Omit<Props, "isTable">) {
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label={`${metricName(metric)}, hour by hour`}>
      <table class="table">
        <thead>
          <tr>
            <th scope="col">Until</th>
            <th scope="col" class="number">
              {metricName(metric)}
            </th>
            <th scope="col" class="number">
              Expected
            </th>
          </tr>
        </thead>
        <tbody>
          {[...points].reverse().map((point) => (
            <tr key={point.at}>
              <th scope="row">
                {formatTime(point.at)}
                {isOutside(point) && <span class="tag">Outside</span>}
              </th>
              <td class="number">{formatValue(metric, point.value)}</td>
              <td class="number">{formatExpected(metric, point.expected_low, point.expected_high)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
