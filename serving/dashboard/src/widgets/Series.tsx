/** One or two metrics over time, with the comparison dashed and the provisional band. */
import { useMemo, useState } from "preact/hooks";
import type { Answer, Grain } from "../api/contract";
import { Chart } from "../charts/Chart";
import { Cursor, Tip } from "../charts/Cursor";
import type { ChartColours } from "../charts/theme";
import { usePlace } from "../charts/usePlace";
import { cell, useAnswer } from "../data/answers";
import { isOfPeople, metricOf, netNote, shownMetrics } from "../data/metrics";
import { possibleGrains, reachObstacle, seriesQuestion, usualGrain } from "../data/questions";
import { formatFull, toNumber } from "../format/numbers";
import { formatBucket, formatBucketFully } from "../format/times";
import { range, view, zone } from "../state/store";
import { COMPARISONS } from "../state/view";
import { AlarmMarks, type Marks, markText, useMarks } from "./AlarmMarks";
import { Body, Frame, Select, State, TableToggle } from "./Frame";
import { type SeriesData, seriesOption } from "./seriesOption";

interface Props {
  first: string;
  second: string | null;
  grainChoice: string;
  onChange: (options: string[]) => void;
}

const GRAINS: Record<Grain, string> = { hour: "Hourly", day: "Daily", week: "Weekly", month: "Monthly" };

export function Series({ first, second, grainChoice, onChange }: Props) {
  const [isTable, setTable] = useState(false);
  const metrics = second === null || second === first ? [first] : [first, second];
  const grains = possibleGrains(range.value, metrics);
  const usual = usualGrain(range.value);
  const grain = grains.find((one) => one === grainChoice) ?? (grains.includes(usual) ? usual : grains[0]!);
  const obstacle = metrics.some(isOfPeople) ? reachObstacle(view.value.filters) : null;
  const loaded = useAnswer(obstacle ? null : seriesQuestion(view.value, range.value, metrics, grain));
  const names = shownMetrics().map((metric) => [metric.name, metric.label] as const);
  const title = metrics.map((name) => metricOf(name).label).join(" and ");
  return (
    <Frame
      title={`${title} over time`}
      subtitle={zone.value === "UTC" ? undefined : `Times in ${zone.value}`}
      isWaiting={loaded.isWaiting}
      note={
        metrics.some(isOfPeople) && view.value.compare
          ? "Reach is shown without its comparison."
          : netNote(view.value.traffic, metrics)
      }
      actions={
        <>
          <Select
            label="First metric"
            value={first}
            options={names}
            onChange={(name) => onChange([name, second ?? "none", grainChoice])}
          />
          <Select
            label="Second metric"
            value={second ?? "none"}
            options={[["none", "No second metric"], ...names.filter(([name]) => name !== first)]}
            onChange={(name) => onChange([first, name, grainChoice])}
          />
          <Select
            label="Grain"
            value={grain}
            options={grains.map((one) => [one, GRAINS[one]] as const)}
            onChange={(name) => onChange([first, second ?? "none", name])}
          />
          <TableToggle isTable={isTable} onToggle={() => setTable(!isTable)} />
        </>
      }
    >
      {obstacle ? (
        <State icon="filter" title="Reach is not available here">
          {obstacle}
        </State>
      ) : (
        <Body loaded={loaded} isEmpty={isNothing}>
          {(answer) => <Picture answer={answer} metrics={metrics} grain={grain} isTable={isTable} />}
        </Body>
      )}
    </Frame>
  );
}

function isNothing(answer: Answer): boolean {
  return answer.rows.every((row) => row.every((value, at) => at === 0 || value === null || Number(value) === 0));
}

interface Bucket {
  time: string;
  figures: (string | number | null | undefined)[];
  before: (string | number | null | undefined)[];
  isOpen: boolean;
}

/** Buckets that have begun. Later ones hold zeros that mean nothing. */
function toBuckets(answer: Answer, metrics: string[]): Bucket[] {
  const { provisional_from: open, as_of: asOf } = answer.meta;
  const times = answer.rows.map((row) => String(cell(answer, row, "time")));
  return answer.rows
    .map((row, at) => ({
      time: times[at]!,
      figures: metrics.map((name) => cell(answer, row, name)),
      before: metrics.map((name) => cell(answer, answer.compare?.rows[at], name)),
      isOpen: open != null && (times[at + 1] ?? "9999") > open,
    }))
    .filter((bucket) => !asOf || Date.parse(bucket.time) <= Date.parse(asOf));
}

interface PictureProps {
  answer: Answer;
  metrics: string[];
  grain: Grain;
  isTable: boolean;
}

function Picture({ answer, metrics, grain, isTable }: PictureProps) {
  const { chart, placeOf, onDrawn } = usePlace();
  const shown = metrics.filter((name) => answer.columns.some((column) => column.name === name)).map(metricOf);
  const buckets = useMemo(() => toBuckets(answer, shown.map((metric) => metric.name)), [answer, metrics.join()]);
  const hasBefore = answer.compare != null;
  const marks = useMarks(buckets.map((bucket) => bucket.time));
  const draw = useMemo(() => {
    const open = buckets.findIndex((bucket) => bucket.isOpen);
    const data: SeriesData = {
      labels: buckets.map((bucket) => formatBucket(bucket.time, grain)),
      metrics: shown,
      values: shown.map((_, at) => buckets.map((bucket) => toNumber(bucket.figures[at]))),
      before: shown.map((_, at) => (hasBefore ? buckets.map((bucket) => toNumber(bucket.before[at])) : null)),
      firstOpen: open < 0 ? buckets.length : open,
    };
    return (palette: ChartColours) => seriesOption(data, palette);
  }, [buckets, grain]);
  const hasOpen = buckets.some((bucket) => bucket.isOpen);
  const before = COMPARISONS.find(([name]) => name === view.value.compare)?.[1] ?? "Before";

  const rowsOf = (bucket: Bucket) =>
    shown.flatMap((metric, at) => [
      { label: metric.label, value: formatFull(metric.kind, bucket.figures[at]), mark: `line-${at}` },
      ...(hasBefore
        ? [{ label: before, value: formatFull(metric.kind, bucket.before[at]), mark: `dash-${at}` }]
        : []),
    ]);

  if (isTable) {
    const comparison = hasBefore ? before : null;
    return <SeriesTable buckets={buckets} metrics={shown} grain={grain} before={comparison} marks={marks} />;
  }
  const alarmsAt = (index: number) => (marks.get(index) ?? []).map((one) => `alarm ${markText(one)}`);
  return (
    <div class="series">
      <ul class="legend" aria-label="Legend">
        {shown.map((metric, at) => (
          <li key={metric.name}>
            <span class="mark" data-mark={`line-${at}`} />
            {metric.label}
          </li>
        ))}
        {hasBefore && (
          <li>
            <span class="mark" data-mark="dash-0" />
            {before}
          </li>
        )}
        {hasOpen && (
          <li>
            <span class="mark" data-mark="band" />
            Provisional
          </li>
        )}
      </ul>
      {marks.size > 0 && <AlarmMarks marks={marks} placeOf={placeOf} />}
      <Cursor
        label={`${shown.map((metric) => metric.label).join(" and ")} over time. Arrow keys read the figures.`}
        count={buckets.length}
        placeOf={placeOf}
        dotsOf={(index) =>
          shown.flatMap((_, at) => {
            const value = toNumber(buckets[index]?.figures[at]);
            const top = value === null ? null : chart.current?.convertToPixel({ yAxisIndex: at }, value);
            return typeof top === "number" && Number.isFinite(top) ? [{ top, mark: `line-${at}` }] : [];
          })
        }
        textOf={(index) => {
          const bucket = buckets[index]!;
          const figures = rowsOf(bucket).map((row) => `${row.label} ${row.value}`);
          const state = bucket.isOpen ? ", provisional" : "";
          return `${formatBucketFully(bucket.time, grain)}: ${[...figures, ...alarmsAt(index)].join(", ")}${state}`;
        }}
        tooltipOf={(index) => {
          const bucket = buckets[index]!;
          const foot = bucket.isOpen ? "Provisional: events still arrive" : undefined;
          return <Tip title={formatBucketFully(bucket.time, grain)} rows={rowsOf(bucket)} foot={foot} />;
        }}
      >
        <Chart draw={draw} onDrawn={onDrawn} />
      </Cursor>
    </div>
  );
}

interface TableProps {
  buckets: Bucket[];
  metrics: ReturnType<typeof metricOf>[];
  grain: Grain;
  before: string | null;
  marks: Marks;
}

function SeriesTable({ buckets, metrics, grain, before, marks }: TableProps) {
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label="Figures over time">
      <table class="table">
        <thead>
          <tr>
            <th scope="col">{GRAINS[grain] === "Hourly" ? "Hour" : "Period"}</th>
            {metrics.flatMap((metric) => [
              <th key={metric.name} scope="col" class="number">
                {metric.label}
              </th>,
              before && (
                <th key={`${metric.name} before`} scope="col" class="number">
                  {before}
                </th>
              ),
            ])}
            {marks.size > 0 && <th scope="col">Alarms</th>}
          </tr>
        </thead>
        <tbody>
          {buckets.map((bucket, index) => (
            <tr key={bucket.time}>
              <th scope="row">
                {formatBucketFully(bucket.time, grain)}
                {bucket.isOpen && <span class="tag">Provisional</span>}
              </th>
              {metrics.flatMap((metric, at) => [
                <td key={metric.name} class="number">
                  {formatFull(metric.kind, bucket.figures[at])}
                </td>,
                before && (
                  <td key={`${metric.name} before`} class="number muted">
                    {formatFull(metric.kind, bucket.before[at])}
                  </td>
                ),
              ])}
              {marks.size > 0 && (
                <td class="alarm-cell">
                  {(marks.get(index) ?? []).map((one) => (
                    <span key={one.id} class="block">
                      {markText(one)}
                    </span>
                  ))}
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
