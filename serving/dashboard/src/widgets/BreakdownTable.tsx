/** The table of the breakdown: sortable heads, bars in cells, totals, and a filter in each row. */
import type { Answer, Dimension, Row } from "../api/contract";
import { cell } from "../data/answers";
import { dimensionLabel, valueLabel } from "../data/dimensions";
import { type Metric, metricOf } from "../data/metrics";
import { changeOf, formatExact, formatFull, toNumber } from "../format/numbers";
import { Icon } from "../shell/Icon";
import { Delta } from "./Delta";

export interface Sort {
  column: string;
  isDown: boolean;
}

interface Props {
  answer: Answer;
  dimension: Dimension;
  chosen: (string | null)[];
  sort: Sort;
  canDrill: boolean;
  onSort: (sort: Sort) => void;
  onDrill: (value: string | null) => void;
  onFilter: (value: string | null) => void;
}

export function BreakdownTable(props: Props) {
  const { answer, dimension, chosen, sort, canDrill, onSort, onDrill, onFilter } = props;
  const metrics = answer.columns.filter((column) => column.role === "metric").map((column) => metricOf(column.name));
  const barred = metrics[0]!;
  const most = Math.max(0, ...answer.rows.map((row) => toNumber(cell(answer, row, barred.name)) ?? 0));
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label={`By ${dimensionLabel(dimension)}`}>
      <table class="table breakdown">
        <thead>
          <tr>
            <Head name={dimension} label={dimensionLabel(dimension)} sort={sort} onSort={onSort} />
            {metrics.map((metric) => (
              <Head key={metric.name} name={metric.name} label={metric.label} isNumber sort={sort} onSort={onSort} />
            ))}
            {answer.compare && (
              <th scope="col" class="number">
                {barred.label} change
              </th>
            )}
          </tr>
        </thead>
        <tbody>
          {answer.rows.map((row, at) => {
            const value = cell(answer, row, dimension) as string | null;
            const label = valueLabel(dimension, value);
            const isChosen = chosen.includes(value);
            return (
              <tr key={value ?? "\u0000"} data-value={value ?? ""} data-chosen={isChosen ? "" : undefined}>
                <th scope="row">
                  <div class="row-name">
                    <button
                      type="button"
                      class="row-filter"
                      aria-pressed={isChosen}
                      aria-label={`Filter ${label}`}
                      title={isChosen ? "Remove filter" : "Filter"}
                      onClick={() => onFilter(value)}
                    >
                      <Icon name="filter" />
                    </button>
                    <button
                      type="button"
                      class="cell-link"
                      title={canDrill ? `Drill into ${label}` : `Filter ${label}`}
                      onClick={() => (canDrill ? onDrill(value) : onFilter(value))}
                    >
                      {label}
                    </button>
                  </div>
                </th>
                {metrics.map((metric) => (
                  <Figure
                    key={metric.name}
                    metric={metric}
                    value={cell(answer, row, metric.name)}
                    most={metric === barred ? most : null}
                  />
                ))}
                {answer.compare && (
                  <ChangeCell
                    answer={answer}
                    metric={barred}
                    current={answer.compare.current[at]}
                    before={answer.compare.rows[at]}
                  />
                )}
              </tr>
            );
          })}
        </tbody>
        {answer.totals && (
          <tfoot>
            <tr>
              <th scope="row">Total</th>
              {metrics.map((metric) => (
                <Figure
                  key={metric.name}
                  metric={metric}
                  value={cell(answer, answer.totals, metric.name)}
                  most={null}
                />
              ))}
              {answer.compare && (
                <ChangeCell
                  answer={answer}
                  metric={barred}
                  current={answer.compare.current_totals}
                  before={answer.compare.totals}
                />
              )}
            </tr>
          </tfoot>
        )}
      </table>
    </div>
  );
}

interface HeadProps {
  name: string;
  label: string;
  isNumber?: boolean;
  sort: Sort;
  onSort: (sort: Sort) => void;
}

function Head({ name, label, isNumber = false, sort, onSort }: HeadProps) {
  const isSorted = sort.column === name;
  return (
    <th
      scope="col"
      class={isNumber ? "number" : ""}
      aria-sort={isSorted ? (sort.isDown ? "descending" : "ascending") : "none"}
    >
      <button
        type="button"
        class="sort"
        onClick={() => onSort({ column: name, isDown: isSorted ? !sort.isDown : isNumber })}
      >
        {label}
        <span class="sort-arrow" aria-hidden="true">
          {isSorted ? (sort.isDown ? "↓" : "↑") : ""}
        </span>
      </button>
    </th>
  );
}

interface FigureProps {
  metric: Metric;
  value: string | number | null | undefined;
  /** The length of a full bar; `null` for no bar. */
  most: number | null;
}

function Figure({ metric, value, most }: FigureProps) {
  const share = most ? (toNumber(value) ?? 0) / most : 0;
  return (
    <td
      class={most === null ? "number" : "number barred"}
      data-metric={metric.name}
      title={formatExact(metric.kind, value)}
    >
      {most !== null && (
        <span class="cell-bar" aria-hidden="true">
          <span style={{ width: `${share * 100}%` }} />
        </span>
      )}
      <span class="cell-figure">{formatFull(metric.kind, value)}</span>
    </td>
  );
}

interface ChangeProps {
  answer: Answer;
  metric: Metric;
  current: Row | null | undefined;
  before: Row | null | undefined;
}

function ChangeCell({ answer, metric, current, before }: ChangeProps) {
  const change = changeOf(metric.name, cell(answer, current, metric.name), cell(answer, before, metric.name));
  return (
    <td class="number">{change ? <Delta change={change} kind={metric.kind} /> : <span class="muted">–</span>}</td>
  );
}
