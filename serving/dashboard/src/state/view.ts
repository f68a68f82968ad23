/**
 * What the page shows: one immutable value that the address holds and that saved views keep.
 *
 * A key, or any other secret, is never part of it.
 */
import type { Comparison, Dimension, Model, Traffic } from "../api/contract";
import type { RangeChoice } from "./range";
import type { Item } from "../grid/layout";
import { DEFAULT_LAYOUT } from "../grid/defaults";

export type Theme = "system" | "light" | "dark";

/** Chosen values by dimension. `null` stands for events whose value is unknown. */
export type Filters = Partial<Record<Dimension, (string | null)[]>>;

export interface View {
  range: RangeChoice;
  compare: Comparison | null;
  model: Model;
  traffic: Traffic;
  filters: Filters;
  theme: Theme;
  layout: Item[];
}

export const DEFAULT_VIEW: View = {
  range: "last_28_days",
  compare: "previous_period",
  model: "last_touch",
  traffic: "net",
  filters: {},
  theme: "system",
  layout: DEFAULT_LAYOUT,
};

export const COMPARISONS: [Comparison | "none", string][] = [
  ["previous_period", "Previous period"],
  ["same_weekdays", "Same weekdays"],
  ["previous_year", "Last year"],
  ["none", "No comparison"],
];

export const MODELS: [Model, string][] = [
  ["last_touch", "Last touch"],
  ["first_touch", "First touch"],
  ["linear", "Linear"],
  ["position_based", "Position based"],
  ["time_decay", "Time decay"],
];

export const TRAFFIC: [Traffic, string][] = [
  ["net", "Net traffic"],
  ["gross", "Gross traffic"],
];

/** Adds the value to the dimension's filter, or takes it away if it is there. */
export function toggleFilter(filters: Filters, dimension: Dimension, value: string | null): Filters {
  const before = filters[dimension] ?? [];
  const after = before.includes(value) ? before.filter((other) => other !== value) : [...before, value];
  return setFilter(filters, dimension, after);
}

/** Without values the dimension is not filtered. */
export function setFilter(filters: Filters, dimension: Dimension, values: (string | null)[]): Filters {
  const { [dimension]: _, ...others } = filters;
  return values.length === 0 ? others : { ...others, [dimension]: values };
}

export function isFiltered(filters: Filters): boolean {
  return Object.keys(filters).length > 0;
}
