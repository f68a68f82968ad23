/**
 * The arrangement of widgets: a list in reading order, each with a width and a height.
 *
 * The browser flows the list into the grid. So what is read first, focused first and seen first
 * is the same, and a narrow screen shows the same order in fewer columns.
 */

export const COLUMNS = 12;
export const ROW_PIXELS = 64;
export const GAP_PIXELS = 16;

export type WidgetType =
  | "tile"
  | "series"
  | "pacing"
  | "funnel"
  | "map"
  | "breakdown"
  | "attribution"
  | "time_to_conversion"
  | "freshness"
  | "dead_letters"
  | "alarms"
  | "quality"
  | "invalid_traffic";

export interface Item {
  /** Unique in the layout; it is not kept. */
  id: number;
  type: WidgetType;
  /** What the widget shows, for example the metric of a tile. Its meaning is the widget's. */
  options: string[];
  width: number;
  height: number;
}

/** Least and usual size of each type: `[width_min, height_min, width, height]`. */
export const SIZES: Record<WidgetType, [number, number, number, number]> = {
  tile: [2, 2, 2, 2],
  series: [4, 4, 8, 6],
  pacing: [3, 4, 4, 6],
  funnel: [3, 4, 4, 6],
  map: [4, 5, 8, 6],
  breakdown: [5, 5, 12, 8],
  attribution: [4, 4, 6, 5],
  time_to_conversion: [3, 4, 6, 5],
  freshness: [3, 3, 6, 4],
  dead_letters: [3, 3, 6, 4],
  alarms: [4, 4, 8, 7],
  quality: [3, 3, 4, 7],
  invalid_traffic: [3, 3, 6, 4],
};

const HEIGHT_MAX = 16;

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, value));
}

export function resize(layout: Item[], id: number, width: number, height: number): Item[] {
  return layout.map((item) => {
    if (item.id !== id) return item;
    const [widthMin, heightMin] = SIZES[item.type];
    return { ...item, width: clamp(width, widthMin, COLUMNS), height: clamp(height, heightMin, HEIGHT_MAX) };
  });
}

/** Moves an item to a place in the list. A place beyond either end is that end. */
export function move(layout: Item[], id: number, place: number): Item[] {
  const item = layout.find((other) => other.id === id);
  if (!item) return layout;
  const others = layout.filter((other) => other.id !== id);
  const at = clamp(place, 0, others.length);
  return [...others.slice(0, at), item, ...others.slice(at)];
}

export function remove(layout: Item[], id: number): Item[] {
  return layout.filter((item) => item.id !== id);
}

/** Puts a new widget first, where the user sees it. */
export function add(layout: Item[], type: WidgetType, options: string[]): [Item[], number] {
  const id = layout.reduce((highest, item) => Math.max(highest, item.id), -1) + 1;
  const [, , width, height] = SIZES[type];
  return [[{ id, type, options, width, height }, ...layout], id];
}

export function setOptions(layout: Item[], id: number, options: string[]): Item[] {
  return layout.map((item) => (item.id === id ? { ...item, options } : item));
}

/** For example `tile.spend:2x2~pacing:4x6`. */
export function printLayout(layout: Item[]): string {
  if (layout.length === 0) return "none";
  return layout
    .map(({ type, options, width, height }) => `${[type, ...options].join(".")}:${width}x${height}`)
    .join("~");
}

/** `null` if the text is no layout. Widgets that are not known are left out. */
export function parseLayout(text: string | null): Item[] | null {
  if (text === null || text === "") return null;
  if (text === "none") return [];
  const items: Item[] = [];
  for (const part of text.split("~")) {
    const match = /^([a-z_]+)((?:\.[a-z0-9_-]*)*):(\d+)x(\d+)$/.exec(part);
    const type = match?.[1] as WidgetType | undefined;
    if (!match || !type || !(type in SIZES)) continue;
    const options = (match[2] ?? "").split(".").slice(1);
    items.push({ id: items.length, type, options, width: 0, height: 0 });
    const sized = resize(items.slice(-1), items.length - 1, Number(match[3]), Number(match[4]));
    items[items.length - 1] = sized[0]!;
  }
  return items.length === 0 ? null : items;
}
