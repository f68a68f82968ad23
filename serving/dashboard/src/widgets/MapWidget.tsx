/** The map of the world with its table. A country filters the page, by click or by Enter. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Answer } from "../api/contract";
import { Chart } from "../charts/Chart";
import { Tip } from "../charts/Cursor";
import type { ECharts } from "../charts/echarts";
import type { ChartColours } from "../charts/theme";
import { loadWorld, miller, type WorldMap } from "../charts/world";
import { cell, useAnswer } from "../data/answers";
import { valueLabel } from "../data/dimensions";
import { isOfPeople, type Metric, metricOf, netNote, shownMetrics } from "../data/metrics";
import { mapQuestion } from "../data/questions";
import { formatCompact, formatFull, formatShare, toNumber } from "../format/numbers";
import { announce, changeView, range, view } from "../state/store";
import { toggleFilter } from "../state/view";
import { Body, Frame, Select, Skeleton, State } from "./Frame";

interface Country {
  code: string | null;
  value: string | number | null | undefined;
}

function filterCountry(code: string | null): void {
  changeView({ filters: toggleFilter(view.peek().filters, "country", code) });
  announce(`Filter ${valueLabel("country", code)} changed`);
}

export function MapWidget({ metric: chosen, onChange }: { metric: string; onChange: (options: string[]) => void }) {
  const name = isOfPeople(chosen) ? "spend" : chosen;
  const choices = shownMetrics()
    .filter((metric) => !isOfPeople(metric.name))
    .map((metric) => [metric.name, metric.label] as const);
  const loaded = useAnswer(mapQuestion(view.value, range.value, name));
  return (
    <Frame
      title={`${metricOf(name).label} by country`}
      isWaiting={loaded.isWaiting}
      note={netNote(view.value.traffic, [name])}
      actions={<Select label="Metric" value={name} options={choices} onChange={(metric) => onChange([metric])} />}
    >
      <Body loaded={loaded} isEmpty={(answer) => answer.rows.length === 0}>
        {(answer) => <MapAndTable answer={answer} />}
      </Body>
    </Frame>
  );
}

function MapAndTable({ answer }: { answer: Answer }) {
  const metric = metricOf(answer.columns.find((column) => column.role === "metric")!.name);
  const countries = useMemo(
    () =>
      answer.rows.map((row): Country => {
        return { code: cell(answer, row, "country") as string | null, value: cell(answer, row, metric.name) };
      }),
    [answer],
  );
  const isAdditive = metric.kind === "count" || metric.name === "spend" || metric.name.includes("revenue");
  const total = isAdditive ? toNumber(cell(answer, answer.totals, metric.name)) : null;
  return (
    <div class="map-and-table">
      <WorldView countries={countries} metric={metric} />
      <div class="table-scroll" tabIndex={0} role="region" aria-label="Countries">
        <table class="table">
          <thead>
            <tr>
              <th scope="col">Country</th>
              <th scope="col" class="number">
                {metric.label}
              </th>
              {total !== null && (
                <th scope="col" class="number">
                  Share
                </th>
              )}
            </tr>
          </thead>
          <tbody>
            {countries.map(({ code, value }) => {
              const isChosen = view.value.filters.country?.includes(code) ?? false;
              return (
                <tr key={code ?? "\u0000"} data-value={code ?? ""} data-chosen={isChosen ? "" : undefined}>
                  <th scope="row">
                    <button
                      type="button"
                      class="cell-link"
                      aria-pressed={isChosen}
                      onClick={() => filterCountry(code)}
                    >
                      {valueLabel("country", code)}
                    </button>
                  </th>
                  <td class="number">{formatFull(metric.kind, value)}</td>
                  {total !== null && <td class="number muted">{formatShare((toNumber(value) ?? 0) / total)}</td>}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </div>
  );
}

/** Five steps by rank, so that one large country does not make all others pale. */
function stepsOf(countries: Country[]): Map<string, number> {
  const ranked = countries
    .filter((country): country is { code: string; value: string | number } => {
      return country.code !== null && toNumber(country.value) !== null;
    })
    .sort((a, b) => Number(a.value) - Number(b.value));
  return new Map(ranked.map(({ code }, at) => [code, Math.floor((at / ranked.length) * 5)]));
}

function mapOption(countries: Country[], palette: ChartColours, chosen: (string | null)[], focused: string | null) {
  const steps = stepsOf(countries);
  const scale = [0, 1, 2, 3, 4].map((step) => palette[`scale-${step}` as keyof ChartColours]);
  return {
    animation: false,
    geo: {
      map: "world",
      projection: miller,
      left: 0,
      right: 0,
      top: 0,
      bottom: 0,
      preserveAspect: "contain",
      itemStyle: { areaColor: palette.land, borderColor: palette.surface, borderWidth: 0.5 },
      emphasis: { disabled: true },
      label: { show: false },
      selectedMode: false,
      regions: countries
        .filter((country) => country.code !== null)
        .map(({ code }) => {
          const isMarked = chosen.includes(code) || code === focused;
          return {
            name: code,
            itemStyle: {
              areaColor: code === focused ? palette.second : scale[steps.get(code!) ?? 0],
              ...(isMarked ? { borderColor: palette.text, borderWidth: 1 } : {}),
            },
          };
        }),
    },
  };
}

interface Hover {
  code: string;
  x: number;
  y: number;
}

function WorldView({ countries, metric }: { countries: Country[]; metric: Metric }) {
  const [world, setWorld] = useState<WorldMap | null>(null);
  const [hasFailed, setFailed] = useState(false);
  const [hover, setHover] = useState<Hover | null>(null);
  const [cursor, setCursor] = useState<number | null>(null);
  const root = useRef<HTMLDivElement>(null);
  const values = useRef(countries);
  values.current = countries;

  useEffect(() => {
    loadWorld().then(setWorld, () => setFailed(true));
  }, []);

  const onMap = countries.filter((country) => country.code !== null && (!world || world.codes.has(country.code)));
  const at = cursor === null ? null : Math.min(cursor, onMap.length - 1);
  const focused = at === null ? null : (onMap[at]?.code ?? null);
  const chosen = view.value.filters.country ?? [];
  const draw = useMemo(
    () => (palette: ChartColours) => mapOption(countries, palette, chosen, focused),
    [countries, chosen.join(), focused],
  );
  const valueOf = (code: string) => countries.find((country) => country.code === code)?.value;
  const textOf = (code: string) => `${valueLabel("country", code)}: ${formatFull(metric.kind, valueOf(code))}`;

  const listen = (chart: ECharts) => {
    chart.on("mousemove", (event) => {
      const box = root.current?.getBoundingClientRect();
      const pointer = event.event?.event as MouseEvent | undefined;
      if (!box || !pointer || !event.name) return;
      setHover({ code: event.name, x: pointer.clientX - box.left, y: pointer.clientY - box.top });
    });
    chart.on("mouseout", () => setHover(null));
    chart.on("click", (event) => {
      if (event.name) filterCountry(event.name);
    });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const now = at ?? -1;
    const steps: Record<string, number> = {
      ArrowRight: now + 1,
      ArrowDown: now + 1,
      ArrowLeft: now - 1,
      ArrowUp: now - 1,
      Home: 0,
      End: onMap.length - 1,
    };
    const next = steps[event.key];
    if (next !== undefined) setCursor(Math.min(Math.max(next, 0), onMap.length - 1));
    else if ((event.key === "Enter" || event.key === " ") && focused !== null) filterCountry(focused);
    else if (event.key === "Escape") setCursor(null);
    else return;
    event.preventDefault();
  };

  if (hasFailed) {
    return (
      <State icon="warning" title="The map could not be loaded">
        The table has the same figures.
      </State>
    );
  }
  if (!world) return <Skeleton />;
  const isRight = hover !== null && root.current !== null && hover.x > root.current.clientWidth / 2;
  return (
    <div
      class="map"
      ref={root}
      role="slider"
      tabIndex={0}
      aria-label="Map of the world. Arrow keys go through the countries, Enter filters."
      aria-valuemin={0}
      aria-valuemax={Math.max(0, onMap.length - 1)}
      aria-valuenow={at ?? 0}
      aria-valuetext={focused === null ? "no country" : textOf(focused)}
      onKeyDown={onKeyDown}
      onBlur={() => setCursor(null)}
      onPointerLeave={() => setHover(null)}
    >
      <Chart draw={draw} onReady={listen} />
      {focused !== null && !hover && (
        <div class="chart-tip map-tip">
          <MapTip code={focused} metric={metric} value={valueOf(focused)} />
        </div>
      )}
      {hover && (
        <div
          class="chart-tip"
          style={{
            top: `${hover.y + 12}px`,
            ...(isRight
              ? { right: `${root.current!.clientWidth - hover.x + 12}px` }
              : { left: `${hover.x + 12}px` }),
          }}
        >
          <MapTip code={hover.code} metric={metric} value={valueOf(hover.code)} />
        </div>
      )}
      <MapLegend countries={countries} metric={metric} />
    </div>
  );
}

function MapTip({ code, metric, value }: { code: string; metric: Metric; value: Country["value"] }) {
  const text = value === undefined ? "No events" : formatFull(metric.kind, value);
  return <Tip title={valueLabel("country", code)} rows={[{ label: metric.label, value: text }]} />;
}

function MapLegend({ countries, metric }: { countries: Country[]; metric: Metric }) {
  const known = countries.map((country) => toNumber(country.value)).filter((value) => value !== null);
  if (known.length < 2) return null;
  return (
    <div class="map-legend" aria-hidden="true">
      <span>{formatCompact(metric.kind, Math.min(...known))}</span>
      {[0, 1, 2, 3, 4].map((step) => (
        <span key={step} class="swatch" data-step={step} />
      ))}
      <span>{formatCompact(metric.kind, Math.max(...known))}</span>
    </div>
  );
}
