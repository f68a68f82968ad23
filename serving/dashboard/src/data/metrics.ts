/**
 * How metrics are named, written and judged.
 *
 * The numbers, also of ratios, always come from the API: nothing is computed here.
 */
import { signal } from "@preact/signals";
import type { Traffic } from "../api/contract";
import { hasGross } from "../api/traffic";

export type Kind = "count" | "money" | "percent" | "factor";

export interface Metric {
  name: string;
  label: string;
  kind: Kind;
  /** Whether more is better. `null`: neither (money spent is no success by itself). */
  isMoreBetter: boolean | null;
  description: string;
}

function metric(
  name: string,
  label: string,
  kind: Kind,
  isMoreBetter: boolean | null,
  description: string,
): Metric {
  return { name, label, kind, isMoreBetter, description };
}

const METRICS: Metric[] = [
  metric("spend", "Spend", "money", null, "Cost of the impressions"),
  metric("revenue", "Revenue", "money", true, "Value of the conversions"),
  metric("roas", "ROAS", "factor", true, "Revenue / spend"),
  metric("conversions", "Conversions", "count", true, "Conversions of primary types"),
  metric("cpa", "CPA", "money", false, "Spend / conversions"),
  metric("cvr", "CVR", "percent", true, "Conversions / clicks"),
  metric("impressions", "Impressions", "count", true, "Ads that were shown"),
  metric("reach", "Reach", "count", true, "Different people who saw an ad"),
  metric("frequency", "Frequency", "factor", null, "Impressions / reach"),
  metric("clicks", "Clicks", "count", true, "Clicks on ads"),
  metric("ctr", "CTR", "percent", true, "Clicks / impressions"),
  metric("cpm", "CPM", "money", false, "Spend for a thousand impressions"),
  metric("cpc", "CPC", "money", false, "Spend / clicks"),
  metric("viewability", "Viewability", "percent", true, "Viewable / measurable impressions"),
  metric("win_rate", "Win rate", "percent", true, "Wins / bids"),
  metric("bids", "Bids", "count", null, "Bids that were made"),
  metric("wins", "Wins", "count", null, "Bids that were won"),
  metric("viewable_impressions", "Viewable", "count", true, "Impressions that were viewable"),
  metric("attributed_conversions", "Attributed conversions", "count", true, "Credit by the chosen model"),
  metric("attributed_revenue", "Attributed revenue", "money", true, "Revenue by the chosen model"),
];

const BY_NAME = new Map(METRICS.map((one) => [one.name, one]));

export function metricOf(name: string): Metric {
  return BY_NAME.get(name) ?? metric(name, name, "count", null, "");
}

export function isMetric(name: string | undefined): name is string {
  return name !== undefined && BY_NAME.has(name);
}

/** Metrics of people: the API answers them for whole days, and by campaign only. */
export function isOfPeople(name: string): boolean {
  return name === "reach" || name === "frequency";
}

/** The names that the server knows; `null` until it said so. One unknown name would refuse a whole question. */
export const knownNames = signal<Set<string> | null>(null);

function isKnown(name: string): boolean {
  return knownNames.value?.has(name) ?? true;
}

/** Says which of some metrics are net although gross figures were chosen. */
export function netNote(traffic: Traffic, names: string[]): string | null {
  const net = names.filter((name) => !hasGross(name)).map((name) => metricOf(name).label);
  return traffic === "gross" && net.length > 0 ? `Net, as there is no gross figure: ${net.join(", ")}.` : null;
}

/** What can be chosen on the page. */
export function shownMetrics(): Metric[] {
  return METRICS.filter((one) => isKnown(one.name));
}

/** Every metric that one question without dimensions answers for the tiles. */
export function tileMetrics(): string[] {
  return METRICS.map((one) => one.name).filter((name) => !isOfPeople(name) && isKnown(name));
}

/** Columns of the breakdown table, by the question that they answer. */
const COLUMN_SETS: Record<string, { label: string; metrics: string[] }> = {
  performance: {
    label: "Performance",
    metrics: ["spend", "revenue", "roas", "conversions", "cpa", "cvr"],
  },
  delivery: { label: "Delivery", metrics: ["spend", "impressions", "clicks", "ctr", "cpm", "cpc", "viewability"] },
  auction: { label: "Auction", metrics: ["bids", "wins", "win_rate", "impressions", "spend", "cpm"] },
  attribution: {
    label: "Attribution",
    metrics: ["spend", "conversions", "attributed_conversions", "revenue", "attributed_revenue"],
  },
};

export const COLUMN_CHOICES = Object.entries(COLUMN_SETS).map(([name, set]) => [name, set.label] as const);

/** The metrics of a set. An unknown set is the first one. */
export function columnsOf(set: string): string[] {
  return (COLUMN_SETS[set] ?? COLUMN_SETS.performance!).metrics.filter(isKnown);
}

export function isColumnSet(name: string): boolean {
  return name in COLUMN_SETS;
}
