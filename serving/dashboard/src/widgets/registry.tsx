/** Every kind of widget: how it is called, what its options mean, and what draws it. */
import type { Dimension } from "../api/contract";
import { dimensionLabel, isDimension } from "../data/dimensions";
import { isColumnSet, isMetric, metricOf } from "../data/metrics";
import type { Item } from "../grid/layout";
import { setOptions } from "../grid/layout";
import { changeView, view } from "../state/store";
import { Alarms } from "./Alarms";
import { Attribution } from "./Attribution";
import { Breakdown } from "./Breakdown";
import { Funnel } from "./Funnel";
import { InvalidTraffic } from "./InvalidTraffic";
import { MapWidget } from "./MapWidget";
import { Pacing } from "./Pacing";
import { DeadLetters, Freshness } from "./Plumbing";
import { Quality } from "./Quality";
import { Series } from "./Series";
import { Tile } from "./Tile";
import { TimeToConversion } from "./TimeToConversion";

/** Widgets that can be added besides tiles, as the text of a layout. */
export const CATALOGUE: [string, string][] = [
  ["series.spend.conversions.auto", "Over time"],
  ["pacing", "Pacing"],
  ["breakdown.campaign_id.performance", "Breakdown"],
  ["map.spend", "Map"],
  ["funnel", "Funnel"],
  ["attribution", "Attribution models"],
  ["time_to_conversion", "Time to conversion"],
  ["freshness", "Freshness"],
  ["dead_letters", "Dead letters"],
  ["alarms", "Alarms"],
  ["quality", "Data quality"],
  ["invalid_traffic", "Invalid traffic"],
];

export function widgetTitle(item: Item): string {
  switch (item.type) {
    case "tile":
      return metricOf(item.options[0] ?? "spend").label;
    case "series":
      return `${metricOf(item.options[0] ?? "spend").label} over time`;
    case "breakdown":
      return `Breakdown by ${dimensionLabel(dimensionOf(item)).toLowerCase()}`;
    case "map":
      return `${metricOf(item.options[0] ?? "spend").label} by country`;
    default:
      return CATALOGUE.find(([name]) => name === item.type)![1];
  }
}

function dimensionOf(item: Item): Dimension {
  const [first] = item.options;
  return isDimension(first) ? first : "campaign_id";
}

function metricAt(item: Item, at: number): string {
  const name = item.options[at];
  return isMetric(name) ? name : "spend";
}

export function Widget({ item }: { item: Item }) {
  const change = (options: string[]) => changeView({ layout: setOptions(view.peek().layout, item.id, options) });
  switch (item.type) {
    case "tile":
      return <Tile metric={metricAt(item, 0)} />;
    case "series": {
      const second = item.options[1];
      return (
        <Series
          first={metricAt(item, 0)}
          second={isMetric(second) ? second : null}
          grainChoice={item.options[2] ?? "auto"}
          onChange={change}
        />
      );
    }
    case "pacing":
      return <Pacing />;
    case "funnel":
      return <Funnel />;
    case "map":
      return <MapWidget metric={metricAt(item, 0)} onChange={change} />;
    case "breakdown": {
      const columns = item.options[1] ?? "performance";
      return (
        <Breakdown
          dimension={dimensionOf(item)}
          columns={isColumnSet(columns) ? columns : "performance"}
          onChange={change}
        />
      );
    }
    case "attribution":
      return <Attribution />;
    case "time_to_conversion":
      return <TimeToConversion />;
    case "freshness":
      return <Freshness />;
    case "dead_letters":
      return <DeadLetters />;
    case "alarms":
      return <Alarms />;
    case "quality":
      return <Quality />;
    case "invalid_traffic":
      return <InvalidTraffic />;
  }
}
