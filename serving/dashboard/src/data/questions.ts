/**
 * Builds the questions that widgets ask, from the view.
 *
 * All widgets take their filters from here. So the same view means the same events everywhere,
 * and totals agree.
 */
import type { Dimension, Filter, Grain, Question } from "../api/contract";
import { addDays } from "../state/days";
import type { DayRange } from "../state/range";
import { rangeDays } from "../state/range";
import type { Filters, View } from "../state/view";
import { isOfPeople, tileMetrics } from "./metrics";

export function toFilter(filters: Filters, only?: Dimension[]): Filter | undefined {
  const parts: Filter[] = [];
  for (const [dimension, values] of Object.entries(filters)) {
    if (only && !only.includes(dimension as Dimension)) continue;
    parts.push(["in", dimension, [...values].sort()]);
  }
  if (parts.length < 2) return parts[0];
  return ["and", ...parts];
}

/** Leaves out members that have no value, since the server refuses members that it does not know. */
function question(parts: { [name in keyof Question]: Question[name] | undefined }): Question {
  return Object.fromEntries(Object.entries(parts).filter(([, value]) => value !== undefined)) as unknown as Question;
}

function trafficOf(view: View): "gross" | undefined {
  return view.traffic === "gross" ? "gross" : undefined;
}

/** The figures of all tiles. The live stream answers the same question. */
export function tilesQuestion(view: View, range: DayRange): Question {
  return question({
    metrics: tileMetrics(),
    filters: toFilter(view.filters),
    time: { range },
    compare: view.compare ?? undefined,
    model: view.model,
    traffic: trafficOf(view),
  });
}

/** The small lines in the tiles: a figure per day, or per hour if the range is a day or two. */
export function sparklinesQuestion(view: View, range: DayRange): Question {
  return question({
    metrics: tileMetrics(),
    filters: toFilter(view.filters),
    time: { range, grain: usualGrain(range), fill: true },
    model: view.model,
    traffic: trafficOf(view),
    limit: 1000,
  });
}

/** Why the API cannot answer reach for this view, or `null` if it can. */
export function reachObstacle(filters: Filters): string | null {
  const others = Object.keys(filters).filter((name) => name !== "campaign_id" && name !== "advertiser_id");
  return others.length === 0 ? null : "Reach is counted by campaign only. Remove the other filters to see it.";
}

export function peopleQuestion(view: View, range: DayRange): Question {
  return question({
    metrics: ["reach", "frequency"],
    filters: toFilter(view.filters),
    time: { range },
  });
}

/**
 * Reach needs whole days, but a comparison of a running day is cut to hours. So the comparison of
 * reach ends with the last whole day.
 */
export function peopleCompareQuestion(view: View, range: DayRange, today: string): Question | null {
  if (view.compare === null) return null;
  const to = range[1] > today ? today : range[1];
  if (to <= range[0]) return null;
  return { ...peopleQuestion(view, [range[0], to]), compare: view.compare };
}

export function peopleSparklineQuestion(view: View, range: DayRange): Question | null {
  if (rangeDays(range) < 2) return null;
  return question({
    metrics: ["reach", "frequency"],
    filters: toFilter(view.filters),
    time: { range, grain: "day", fill: true },
  });
}

export function usualGrain(range: DayRange): Grain {
  const days = rangeDays(range);
  if (days <= 2) return "hour";
  return days <= 120 ? "day" : "week";
}

/** The grains that are readable in a range. */
export function possibleGrains(range: DayRange, metrics: string[]): Grain[] {
  const days = rangeDays(range);
  const grains: Grain[] = [];
  if (days <= 14 && !metrics.some(isOfPeople)) grains.push("hour");
  if (days >= 2 || metrics.some(isOfPeople)) grains.push("day");
  if (days >= 14) grains.push("week");
  if (days >= 56) grains.push("month");
  return grains.length === 0 ? ["day"] : grains;
}

export function seriesQuestion(view: View, range: DayRange, metrics: string[], grain: Grain): Question {
  const isPeople = metrics.some(isOfPeople);
  return question({
    metrics,
    filters: toFilter(view.filters),
    time: { range, grain, fill: true },
    compare: isPeople ? undefined : (view.compare ?? undefined),
    model: view.model,
    traffic: trafficOf(view),
    limit: 1000,
  });
}

export function breakdownQuestion(
  view: View,
  range: DayRange,
  dimension: Dimension,
  metrics: string[],
  order: string,
): Question {
  return question({
    metrics,
    dimensions: [dimension],
    filters: toFilter(view.filters),
    time: { range },
    compare: view.compare ?? undefined,
    model: view.model,
    traffic: trafficOf(view),
    order: [order],
    limit: 50,
    totals: true,
  });
}

export const FUNNEL = ["bids", "wins", "impressions", "viewable_impressions", "clicks", "conversions"];

export function mapQuestion(view: View, range: DayRange, metric: string): Question {
  return question({
    metrics: [metric],
    dimensions: ["country"],
    filters: toFilter(view.filters),
    time: { range },
    model: view.model,
    traffic: trafficOf(view),
    order: [`-${metric}`],
    limit: 300,
    totals: true,
  });
}

export function attributionQuestion(view: View, range: DayRange, models: string[]): Question {
  return question({
    metrics: models.flatMap((model) => [`attributed_conversions_${model}`, `attributed_revenue_${model}`]),
    filters: toFilter(view.filters),
    time: { range },
  });
}

/** Spend of the whole flight of each campaign, up to now. */
export function pacingQuestion(view: View): Question {
  return question({
    metrics: ["spend"],
    dimensions: ["campaign_id"],
    filters: toFilter(view.filters, ["campaign_id", "advertiser_id"]),
    order: ["-spend"],
    limit: 1000,
  });
}

/** What each campaign reached, to count those that meet their target. */
export function targetsQuestion(view: View, range: DayRange): Question {
  return question({
    metrics: ["cpa", "roas"],
    dimensions: ["campaign_id"],
    filters: toFilter(view.filters),
    time: { range },
    traffic: trafficOf(view),
    limit: 1000,
  });
}

/** The campaigns of the filter, without the unknown one. */
export function knownCampaigns(filters: Filters): string[] {
  return (filters.campaign_id ?? []).filter((id) => id !== null);
}

/** Events with and without the invalid ones, for their share. They are those of the known campaigns that are chosen. */
export function invalidShareQuestion(view: View, range: DayRange): Question {
  const ids = knownCampaigns(view.filters);
  return question({
    metrics: ["impressions", "clicks", "conversions", "gross_impressions", "gross_clicks", "gross_conversions"],
    filters: ids.length > 0 ? toFilter({ campaign_id: ids }) : undefined,
    time: { range },
  });
}

/** `?from=&to=` for the addresses that take no body. */
export function rangeQuery([from, to]: DayRange): string {
  return `from=${from}&to=${to}`;
}

export function lastDay(range: DayRange): string {
  return addDays(range[1], -1);
}
