/** Date ranges: the presets, and what they mean on a given day. */
import { addDays, daysBetween, firstOfMonth, isDay } from "./days";

export const PRESETS = [
  ["today", "Today"],
  ["yesterday", "Yesterday"],
  ["last_7_days", "Last 7 days"],
  ["last_28_days", "Last 28 days"],
  ["last_90_days", "Last 90 days"],
  ["this_month", "This month"],
  ["last_month", "Last month"],
] as const;

export type Preset = (typeof PRESETS)[number][0];

/** A preset, or days from `from` up to and with `to`. */
export type RangeChoice = Preset | { from: string; to: string };

/** `[from, to)` in days. */
export type DayRange = [string, string];

export function isPreset(text: string): text is Preset {
  return PRESETS.some(([name]) => name === text);
}

export function parseRange(text: string | null): RangeChoice | null {
  if (text === null) return null;
  if (isPreset(text)) return text;
  const [from = "", to = ""] = text.split("..");
  return isDay(from) && isDay(to) && from <= to ? { from, to } : null;
}

export function printRange(choice: RangeChoice): string {
  return typeof choice === "string" ? choice : `${choice.from}..${choice.to}`;
}

export function resolveRange(choice: RangeChoice, today: string): DayRange {
  const tomorrow = addDays(today, 1);
  if (typeof choice !== "string") return [choice.from, addDays(choice.to, 1)];
  switch (choice) {
    case "today":
      return [today, tomorrow];
    case "yesterday":
      return [addDays(today, -1), today];
    case "last_7_days":
      return [addDays(tomorrow, -7), tomorrow];
    case "last_28_days":
      return [addDays(tomorrow, -28), tomorrow];
    case "last_90_days":
      return [addDays(tomorrow, -90), tomorrow];
    case "this_month":
      return [firstOfMonth(today), tomorrow];
    case "last_month":
      return [firstOfMonth(addDays(firstOfMonth(today), -1)), firstOfMonth(today)];
  }
}

export function presetLabel(preset: Preset): string {
  return PRESETS.find(([name]) => name === preset)![1];
}

export function rangeDays([from, to]: DayRange): number {
  return daysBetween(from, to);
}
