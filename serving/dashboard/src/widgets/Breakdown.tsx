/**
 * The figures by one dimension, with a row of totals that equals the tiles.
 *
 * A name drills down: its value becomes a filter, and the table goes on to the next dimension.
 */
import { useEffect, useState } from "preact/hooks";
import type { Answer, Dimension, Row } from "../api/contract";
import { ask } from "../api/client";
import { cell, noteMeta, useAnswer } from "../data/answers";
import { DRILL, dimensionLabel, dimensionPlural, isDimension, valueLabel } from "../data/dimensions";
import { COLUMN_CHOICES, columnsOf, metricOf, netNote } from "../data/metrics";
import { breakdownQuestion } from "../data/questions";
import { changeOf, formatCount, formatFull, formatRelative } from "../format/numbers";
import { download, toCsv } from "../format/csv";
import { announce, changeView, range, view } from "../state/store";
import { setFilter, toggleFilter } from "../state/view";
import { Icon } from "../shell/Icon";
import { BreakdownTable, type Sort } from "./BreakdownTable";
import { Body, Frame, Select } from "./Frame";

interface Props {
  dimension: Dimension;
  columns: string;
  onChange: (options: string[]) => void;
}

export const CHOICES: Dimension[] = [
  "campaign_id",
  "advertiser_id",
  "website",
  "ad_creative_id",
  "device_type",
  "country",
  "region",
  "conversion_type",
];

export function Breakdown({ dimension, columns, onChange }: Props) {
  const metrics = columnsOf(columns);
  const [sort, setSort] = useState<Sort>({ column: "spend", isDown: true });
  const column = sort.column === dimension || metrics.includes(sort.column) ? sort.column : metrics[0]!;
  const order = `${sort.isDown ? "-" : ""}${column}`;
  const question = breakdownQuestion(view.value, range.value, dimension, metrics, order);
  const loaded = useAnswer(question);
  const more = useMorePages(JSON.stringify(question), loaded.data);
  const shown = dimensionOf(loaded.data) ?? dimension;

  const drill = (value: string | null) => {
    const next = DRILL[DRILL.indexOf(shown) + 1];
    changeView({ filters: setFilter(view.peek().filters, shown, [value]) });
    if (next && DRILL.includes(shown)) onChange([next, columns]);
    announce(`${dimensionLabel(shown)} ${valueLabel(shown, value)}${next ? `, by ${dimensionLabel(next)}` : ""}`);
  };
  const filter = (value: string | null) => {
    changeView({ filters: toggleFilter(view.peek().filters, shown, value) });
    announce(`Filter ${valueLabel(shown, value)} changed`);
  };

  return (
    <Frame
      title="Breakdown"
      subtitle={<Crumbs dimension={dimension} onGo={(next) => onChange([next, columns])} />}
      isWaiting={loaded.isWaiting}
      note={netNote(view.value.traffic, metrics)}
      actions={
        <>
          <Select
            label="Dimension"
            value={dimension}
            options={CHOICES.map((name) => [name, `By ${dimensionLabel(name).toLowerCase()}`] as const)}
            onChange={(name) => onChange([name, columns])}
          />
          <Select
            label="Columns"
            value={columns}
            options={COLUMN_CHOICES}
            onChange={(name) => onChange([dimension, name])}
          />
          <button
            type="button"
            class="button quiet"
            disabled={!loaded.data}
            onClick={() => loaded.data && exportCsv(withRows(loaded.data, more.pages), shown)}
          >
            <Icon name="download" />
            <span>CSV</span>
          </button>
        </>
      }
    >
      <Body loaded={loaded} isEmpty={(answer) => answer.rows.length === 0}>
        {(answer) => (
          <>
            <BreakdownTable
              answer={withRows(answer, more.pages)}
              dimension={shown}
              chosen={view.value.filters[shown] ?? []}
              sort={{ column, isDown: sort.isDown }}
              canDrill={DRILL.includes(shown)}
              onSort={setSort}
              onDrill={drill}
              onFilter={filter}
            />
            {more.next !== null && (
              <div class="more">
                <span class="muted">
                  The first {formatCount(withRows(answer, more.pages).rows.length)} {dimensionPlural(shown)}; the totals
                  are of all.
                </span>
                <button type="button" class="button" disabled={more.isLoading} onClick={() => more.load(question)}>
                  Show more
                </button>
              </div>
            )}
          </>
        )}
      </Body>
    </Frame>
  );
}

function dimensionOf(answer: Answer | null): Dimension | null {
  const name = answer?.columns.find((column) => column.role === "dimension" && column.name !== "time")?.name;
  return isDimension(name) ? name : null;
}

/** Further pages, until the question or its first page changes. */
function useMorePages(key: string, first: Answer | null) {
  const [state, setState] = useState<{ pages: Answer[]; isLoading: boolean }>({ pages: [], isLoading: false });
  useEffect(() => setState({ pages: [], isLoading: false }), [key, first]);
  const last = state.pages.at(-1) ?? first;
  const next = last?.meta.next_cursor ?? null;
  const load = async (question: object) => {
    if (next === null) return;
    setState((before) => ({ ...before, isLoading: true }));
    try {
      const page = (await ask({ ...question, cursor: next } as never)) as Answer;
      noteMeta(page.meta);
      setState((before) => ({ pages: [...before.pages, page], isLoading: false }));
    } catch {
      announce("The next rows could not be loaded");
      setState((before) => ({ ...before, isLoading: false }));
    }
  };
  return { pages: state.pages, isLoading: state.isLoading, next, load };
}

function withRows(answer: Answer, pages: Answer[]): Answer {
  if (pages.length === 0) return answer;
  const all = [answer, ...pages];
  const compare = answer.compare && {
    ...answer.compare,
    rows: all.flatMap((page) => page.compare?.rows ?? []),
    current: all.flatMap((page) => page.compare?.current ?? []),
  };
  return { ...answer, rows: all.flatMap((page) => page.rows), ...(compare ? { compare } : {}) };
}

/** The way down that led here. It is read from the filters, so that a link shows it too. */
function Crumbs({ dimension, onGo }: { dimension: Dimension; onGo: (dimension: Dimension) => void }) {
  const { filters } = view.value;
  const level = DRILL.indexOf(dimension);
  const steps = DRILL.slice(0, Math.max(0, level)).filter((name) => filters[name]?.length === 1);
  if (steps.length === 0) return <>By {dimensionLabel(dimension).toLowerCase()}</>;
  /** Goes back to a step: the filters of the steps after it are taken away. */
  const goTo = (at: number) => {
    let kept = filters;
    for (const name of steps.slice(at)) kept = setFilter(kept, name, []);
    changeView({ filters: kept });
    onGo(steps[at] ?? DRILL[0]!);
  };
  return (
    <nav class="crumbs" aria-label="Way down">
      <ol>
        <li>
          <button type="button" class="link" onClick={() => goTo(0)}>
            All {dimensionPlural(steps[0]!)}
          </button>
        </li>
        {steps.map((name, at) => {
          const label = valueLabel(name, filters[name]![0] ?? null);
          const isLast = at === steps.length - 1;
          return (
            <li key={name}>
              {isLast ? (
                <span aria-current="true">{label}</span>
              ) : (
                <button type="button" class="link" onClick={() => goTo(at + 1)}>
                  {label}
                </button>
              )}
            </li>
          );
        })}
      </ol>
    </nav>
  );
}

/** Exactly what the table shows, in its order. */
function exportCsv(answer: Answer, dimension: Dimension): void {
  const metrics = answer.columns.filter((column) => column.role === "metric").map((column) => metricOf(column.name));
  const figures = (row: Row | null | undefined) =>
    metrics.map((metric) => formatFull(metric.kind, cell(answer, row, metric.name)));
  const first = metrics[0]!;
  const changes = (current: Row | null | undefined, before: Row | null | undefined) => {
    if (!answer.compare) return [];
    const change = changeOf(first.name, cell(answer, current, first.name), cell(answer, before, first.name));
    return [change ? formatRelative(change) : ""];
  };
  const header = [
    dimensionLabel(dimension),
    ...metrics.map((metric) => metric.label),
    ...(answer.compare ? [`${first.label} change`] : []),
  ];
  const rows = answer.rows.map((row, at) => [
    valueLabel(dimension, cell(answer, row, dimension) as string | null),
    ...figures(row),
    ...changes(answer.compare?.current[at], answer.compare?.rows[at]),
  ]);
  const { compare } = answer;
  const totals = ["Total", ...figures(answer.totals), ...changes(compare?.current_totals, compare?.totals)];
  const [from, to] = range.peek();
  download(`adlake-${dimension}-${from}-${to}.csv`, toCsv([header, ...rows, totals]));
}
