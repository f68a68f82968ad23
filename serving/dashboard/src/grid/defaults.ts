/** The arrangement that a new user sees: results first, then where the money goes, then its plumbing. */
import { type Item, parseLayout } from "./layout";

const TILES = [
  "spend",
  "revenue",
  "roas",
  "conversions",
  "cpa",
  "cvr",
  "impressions",
  "reach",
  "clicks",
  "ctr",
  "cpm",
  "cpc",
];

export const DEFAULT_LAYOUT: Item[] = parseLayout(
  [
    ...TILES.map((metric) => `tile.${metric}:2x2`),
    "series.spend.conversions.auto:8x6",
    "pacing:4x6",
    "breakdown.campaign_id.performance:12x8",
    "map.spend:8x6",
    "funnel:4x6",
    "attribution:6x5",
    "time_to_conversion:6x5",
    "alarms:8x7",
    "quality:4x4",
    "dead_letters:4x3",
    "invalid_traffic:7x4",
    "freshness:5x4",
  ].join("~"),
)!;
