/**
 * A view as the query of an address, and back.
 *
 * What equals the default is left out, so that a plain view has a plain address. Text that means
 * nothing is ignored: an old or mistyped link still opens.
 */
import type { Comparison, Dimension, Model } from "../api/contract";
import { parseLayout, printLayout } from "../grid/layout";
import { parseRange, printRange } from "./range";
import { COMPARISONS, DEFAULT_VIEW, type Filters, MODELS, type Theme, type View } from "./view";

const DIMENSIONS: Dimension[] = [
  "campaign_id",
  "advertiser_id",
  "website",
  "ad_creative_id",
  "device_type",
  "country",
  "region",
  "conversion_type",
];

export function printView(view: View): URLSearchParams {
  const query = new URLSearchParams();
  if (printRange(view.range) !== printRange(DEFAULT_VIEW.range)) query.set("range", printRange(view.range));
  if (view.compare !== DEFAULT_VIEW.compare) query.set("compare", view.compare ?? "none");
  if (view.model !== DEFAULT_VIEW.model) query.set("model", view.model);
  if (view.traffic !== DEFAULT_VIEW.traffic) query.set("traffic", view.traffic);
  if (view.theme !== DEFAULT_VIEW.theme) query.set("theme", view.theme);
  for (const dimension of DIMENSIONS) {
    for (const value of view.filters[dimension] ?? []) query.append(dimension, printValue(value));
  }
  const layout = printLayout(view.layout);
  if (layout !== printLayout(DEFAULT_VIEW.layout)) query.set("layout", layout);
  return query;
}

/** Members that the address does not name come from `base`. */
export function parseView(query: URLSearchParams, base: View): View {
  const filters: Filters = {};
  for (const dimension of DIMENSIONS) {
    const values = query.getAll(dimension).map(parseValue);
    if (values.length > 0) filters[dimension] = values;
  }
  const compare = query.get("compare");
  const isComparison = COMPARISONS.some(([name]) => name === compare);
  const model = query.get("model");
  const traffic = query.get("traffic");
  const theme = query.get("theme");
  return {
    range: parseRange(query.get("range")) ?? base.range,
    compare: isComparison ? (compare === "none" ? null : (compare as Comparison)) : base.compare,
    model: MODELS.some(([name]) => name === model) ? (model as Model) : base.model,
    traffic: traffic === "net" || traffic === "gross" ? traffic : base.traffic,
    filters,
    theme: theme === "light" || theme === "dark" || theme === "system" ? (theme as Theme) : base.theme,
    layout: parseLayout(query.get("layout")) ?? base.layout,
  };
}

/** `~` stands for the unknown value; a text that begins with `~` gets one more. */
function printValue(value: string | null): string {
  if (value === null) return "~";
  return value.startsWith("~") ? `~${value}` : value;
}

function parseValue(text: string): string | null {
  if (text === "~") return null;
  return text.startsWith("~") ? text.slice(1) : text;
}
