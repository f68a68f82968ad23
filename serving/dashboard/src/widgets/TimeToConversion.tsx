/** How long after the last touch people convert, as a histogram. */
import { useMemo, useState } from "preact/hooks";
import type { TimeToConversionAnswer } from "../api/contract";
import { Chart } from "../charts/Chart";
import { Cursor, Tip } from "../charts/Cursor";
import type { ChartColours } from "../charts/theme";
import { usePlace } from "../charts/usePlace";
import { type Loaded, useGetAll } from "../data/answers";
import { useCampaignPaths } from "../data/campaignPaths";
import { formatCount, formatShare, formatTick } from "../format/numbers";
import { formatSeconds } from "../format/times";
import { Body, Frame, State, TableToggle } from "./Frame";

type Buckets = TimeToConversionAnswer["buckets"];

/** Histograms of single campaigns add up, since their buckets are the same. */
function addUp(answers: TimeToConversionAnswer[]): Buckets {
  const sums = new Map<string, Buckets[number]>();
  for (const { buckets } of answers) {
    for (const bucket of buckets) {
      const key = `${bucket.from_seconds}-${bucket.to_seconds}`;
      const before = sums.get(key)?.conversions ?? 0;
      sums.set(key, { ...bucket, conversions: before + bucket.conversions });
    }
  }
  return [...sums.values()].sort((a, b) => a.from_seconds - b.from_seconds);
}

export function TimeToConversion() {
  const [isTable, setTable] = useState(false);
  const { paths, obstacle, note } = useCampaignPaths("time_to_conversion");
  const loaded = useGetAll<TimeToConversionAnswer>(paths);
  const buckets: Loaded<Buckets> = {
    ...loaded,
    data: useMemo(() => loaded.data && addUp(loaded.data), [loaded.data]),
  };
  return (
    <Frame
      title="Time to conversion"
      subtitle="From the last touch"
      isWaiting={loaded.isWaiting}
      note={note}
      actions={<TableToggle isTable={isTable} onToggle={() => setTable(!isTable)} />}
    >
      {obstacle ? (
        <State icon="filter" title={obstacle.title}>
          {obstacle.text}
        </State>
      ) : (
        <Body loaded={buckets} isEmpty={(data) => data.every((bucket) => bucket.conversions === 0)}>
          {(data) => (isTable ? <BucketTable buckets={data} /> : <Histogram buckets={data} />)}
        </Body>
      )}
    </Frame>
  );
}

function bucketName({ from_seconds: from, to_seconds: to }: Buckets[number]): string {
  if (to === null) return `over ${formatSeconds(from)}`;
  return from === 0 ? `under ${formatSeconds(to)}` : `${formatSeconds(from)} to ${formatSeconds(to)}`;
}

function axisName({ from_seconds: from, to_seconds: to }: Buckets[number]): string {
  return to === null ? `>${shortSeconds(from)}` : `<${shortSeconds(to)}`;
}

/** For example `10m`, so that every bar has room for its name. */
function shortSeconds(seconds: number): string {
  return formatSeconds(seconds).replace(/ (\w)\w*$/, "$1");
}

function Histogram({ buckets }: { buckets: Buckets }) {
  const { placeOf, onDrawn } = usePlace();
  const total = buckets.reduce((sum, bucket) => sum + bucket.conversions, 0);
  const draw = useMemo(
    () => (palette: ChartColours) => ({
      grid: { left: 4, right: 8, top: 12, bottom: 4, outerBoundsMode: "same" },
      xAxis: {
        type: "category",
        data: buckets.map(axisName),
        axisLine: { lineStyle: { color: palette.line } },
        axisTick: { show: false },
        axisLabel: { color: palette.muted, fontSize: 12, margin: 12 },
      },
      yAxis: {
        type: "value",
        splitNumber: 4,
        minInterval: 1,
        axisLabel: {
          color: palette.muted,
          fontSize: 12,
          margin: 12,
          formatter: (value: number) => formatTick("count", value),
        },
        splitLine: { lineStyle: { color: palette.line } },
      },
      series: [
        {
          type: "bar",
          data: buckets.map((bucket) => bucket.conversions),
          barCategoryGap: "20%",
          itemStyle: { color: palette.accent, borderRadius: [3, 3, 0, 0] },
        },
      ],
    }),
    [buckets],
  );
  const textOf = (index: number) => {
    const bucket = buckets[index]!;
    const share = formatShare(bucket.conversions / total);
    return `${bucketName(bucket)}: ${formatCount(bucket.conversions)} conversions, ${share}`;
  };
  return (
    <Cursor
      label="Time to conversion. Arrow keys read the figures."
      count={buckets.length}
      hasLine={false}
      placeOf={placeOf}
      textOf={textOf}
      tooltipOf={(index) => {
        const bucket = buckets[index]!;
        const rows = [
          { label: "Conversions", value: formatCount(bucket.conversions) },
          { label: "Share", value: formatShare(bucket.conversions / total) },
        ];
        return <Tip title={bucketName(bucket)} rows={rows} />;
      }}
    >
      <Chart draw={draw} onDrawn={onDrawn} />
    </Cursor>
  );
}

function BucketTable({ buckets }: { buckets: Buckets }) {
  const total = buckets.reduce((sum, bucket) => sum + bucket.conversions, 0);
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label="Time to conversion">
      <table class="table">
        <thead>
          <tr>
            <th scope="col">Time</th>
            <th scope="col" class="number">
              Conversions
            </th>
            <th scope="col" class="number">
              Share
            </th>
          </tr>
        </thead>
        <tbody>
          {buckets.map((bucket) => (
            <tr key={bucket.from_seconds}>
              <th scope="row">{bucketName(bucket)}</th>
              <td class="number">{formatCount(bucket.conversions)}</td>
              <td class="number">{formatShare(bucket.conversions / total)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
