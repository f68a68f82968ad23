/** The colours of charts: those of the style sheet, read again when the theme changes. */
import { computed } from "@preact/signals";
import { isDark } from "../state/store";

const NAMES = [
  "text",
  "muted",
  "faint",
  "line",
  "surface",
  "accent",
  "accent-soft",
  "second",
  "bad",
  "compare",
  "land",
  "scale-0",
  "scale-1",
  "scale-2",
  "scale-3",
  "scale-4",
] as const;

export type ChartColours = Record<(typeof NAMES)[number], string>;

export const colours = computed<ChartColours>(() => {
  // The attribute is set here too: this may run before the effect that sets it.
  document.documentElement.dataset.theme = isDark.value ? "dark" : "light";
  return readColours();
});

/** Paper is light, whatever the theme. */
export function printColours(): ChartColours {
  const { dataset } = document.documentElement;
  const theme = dataset.theme;
  dataset.theme = "light";
  const found = readColours();
  if (theme) dataset.theme = theme;
  return found;
}

function readColours(): ChartColours {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()])) as ChartColours;
}

export const chartFont =
  'Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif';

export const isMotionReduced = matchMedia("(prefers-reduced-motion: reduce)");
