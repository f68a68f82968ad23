/**
 * Numbers as people read them, in the locale of the browser.
 *
 * Decimals are given to `Intl` as text: it keeps every digit.
 */
import type { Cell } from "../api/contract";
import { metricOf, type Kind } from "../data/metrics";
import { currency } from "../state/store";

export const NOTHING = "–";

type Text = Intl.StringNumericLiteral;

const formats = new Map<string, Intl.NumberFormat>();

function formatOf(options: Intl.NumberFormatOptions): Intl.NumberFormat {
  const key = JSON.stringify(options);
  let format = formats.get(key);
  if (!format) {
    try {
      format = new Intl.NumberFormat(undefined, options);
    } catch {
      // A currency code that is no ISO 4217 code: the amount is written without a sign.
      const { currency: _, style: __, ...plain } = options;
      format = new Intl.NumberFormat(undefined, plain);
    }
    formats.set(key, format);
  }
  return format;
}

function write(options: Intl.NumberFormatOptions, value: Cell): string {
  return formatOf(options).format(value as Text);
}

function money(digits: number): Intl.NumberFormatOptions {
  return {
    style: "currency",
    currency: currency.value,
    currencyDisplay: "narrowSymbol",
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  };
}

export function toNumber(value: Cell | undefined): number | null {
  if (value === null || value === undefined) return null;
  const number = Number(value);
  return Number.isFinite(number) ? number : null;
}

/** In full, as in tables: every count, cents of money, two decimals of a percentage. */
export function formatFull(kind: Kind, value: Cell | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  switch (kind) {
    case "count":
      return write({ maximumFractionDigits: 2 }, value);
    case "money":
      return write(money(2), value);
    case "percent":
      return write({ style: "percent", minimumFractionDigits: 2, maximumFractionDigits: 2 }, value);
    case "factor":
      return `${write({ minimumFractionDigits: 2, maximumFractionDigits: 2 }, value)}×`;
  }
}

/** Every digit that the API sent, for tooltips and screen readers. */
export function formatExact(kind: Kind, value: Cell | undefined): string {
  if (value === null || value === undefined) return "not available";
  switch (kind) {
    case "count":
      return write({ maximumFractionDigits: 9 }, value);
    case "money":
      return write({ ...money(2), maximumFractionDigits: 6 }, value);
    case "percent":
      return write({ style: "percent", maximumFractionDigits: 6 }, value);
    case "factor":
      return `${write({ maximumFractionDigits: 8 }, value)}×`;
  }
}

/** Short, as on tiles and axes: 1.2M. */
export function formatCompact(kind: Kind, value: Cell | undefined): string {
  const number = toNumber(value);
  if (number === null) return NOTHING;
  const isLarge = Math.abs(number) >= 10_000;
  const compact: Intl.NumberFormatOptions = {
    notation: "compact",
    minimumFractionDigits: 1,
    maximumFractionDigits: 1,
  };
  switch (kind) {
    case "count":
      return isLarge ? write(compact, number) : write({ maximumFractionDigits: 1 }, number);
    case "money":
      if (isLarge) return write({ ...money(1), ...compact }, number);
      return write(money(Math.abs(number) >= 1000 ? 0 : 2), number);
    case "percent":
      return formatShare(number, Math.abs(number) < 0.1 ? 2 : 1);
    case "factor":
      return `${write({ minimumFractionDigits: 2, maximumFractionDigits: 2 }, number)}×`;
  }
}

/** Ticks of an axis: as few digits as distinguish them. */
export function formatTick(kind: Kind, value: number): string {
  const isLarge = Math.abs(value) >= 1000;
  const compact: Intl.NumberFormatOptions = { notation: "compact", maximumFractionDigits: 1 };
  switch (kind) {
    case "count":
      return write(isLarge ? compact : { maximumFractionDigits: 2 }, value);
    case "money": {
      const digits = Number.isInteger(value) ? 0 : 2;
      return write(isLarge ? { ...money(0), ...compact, minimumFractionDigits: 0 } : money(digits), value);
    }
    case "percent":
      return write({ style: "percent", maximumFractionDigits: 2 }, value);
    case "factor":
      return `${write({ maximumFractionDigits: 2 }, value)}×`;
  }
}

/** A share of a whole, for example `12.3%`. */
export function formatShare(share: number | null, digits = 1): string {
  if (share === null) return NOTHING;
  return write({ style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }, share);
}

export function formatCount(value: number | null): string {
  return value === null ? NOTHING : write({ maximumFractionDigits: 0 }, value);
}

export interface Change {
  /** `null`: the figure before was 0 or is not known. */
  relative: number | null;
  absolute: number;
  /** Of the change, for the metric: `null` if neither. */
  isGood: boolean | null;
  direction: "up" | "down" | "flat";
}

/** `null` if one of the figures is not known. */
export function changeOf(metric: string, current: Cell | undefined, before: Cell | undefined): Change | null {
  const now = toNumber(current);
  const then = toNumber(before);
  if (now === null || then === null) return null;
  const absolute = now - then;
  const relative = then === 0 ? null : absolute / Math.abs(then);
  const isFlat = relative === null ? absolute === 0 : Math.abs(relative) < 0.0005;
  const direction = isFlat ? "flat" : absolute > 0 ? "up" : "down";
  const { isMoreBetter } = metricOf(metric);
  const isGood = isFlat || isMoreBetter === null ? null : isMoreBetter === absolute > 0;
  return { relative, absolute, isGood, direction };
}

export function formatRelative(change: Change): string {
  if (change.relative === null) return change.absolute === 0 ? formatShare(0) : "new";
  if (change.direction === "flat") return formatShare(0);
  const digits = Math.abs(change.relative) >= 10 ? 0 : 1;
  return `${signOf(change.relative)}${formatShare(Math.abs(change.relative), digits)}`;
}

export function formatAbsolute(kind: Kind, change: Change): string {
  const size = Math.abs(change.absolute);
  // Between two percentages lie percentage points.
  const text = kind === "percent" ? `${formatFull("count", round(size * 100))} pp` : formatCompact(kind, size);
  return `${signOf(change.absolute)}${text}`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

export function signOf(value: number): string {
  return value > 0 ? "+" : value < 0 ? "−" : "";
}
