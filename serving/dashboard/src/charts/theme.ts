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
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()])) as ChartColours;
});

export const chartFont =
  'Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif';

export const isMotionReduced = matchMedia("(prefers-reduced-motion: reduce)");
