/**
 * Pacing: what was spent against what should be spent by now.
 *
 * The pace is spend / (elapsed share x budget). Between 90% and 110% it is good. The first and the
 * last day of a campaign both count.
 */
import type { Campaign } from "../api/contract";
import { addDays, startOfDay } from "../state/days";

export type PaceState = "on" | "behind" | "ahead";

export interface Pace {
  campaign: Campaign;
  spent: number;
  budget: number;
  /** Share of the flight that is over, 0 to 1. */
  elapsed: number;
  pace: number;
  state: PaceState;
  /** What the spend will be at the end, if it goes on like this. */
  projected: number;
  /** When the budget will be used up, if that is before the end. */
  runsOut: Date | null;
}

/** `null` for a campaign without a budget or dates, or that does not run now. */
export function paceOf(campaign: Campaign, spend: string | number | null, now: Date, zone: string): Pace | null {
  const budget = Number(campaign.budget ?? 0);
  if (!budget || !campaign.start_date || !campaign.end_date) return null;
  const start = startOfDay(campaign.start_date, zone).getTime();
  const end = startOfDay(addDays(campaign.end_date, 1), zone).getTime();
  const elapsed = (now.getTime() - start) / (end - start);
  if (!(elapsed > 0) || elapsed >= 1) return null;
  const spent = Number(spend ?? 0);
  const pace = spent / (elapsed * budget);
  const projected = spent / elapsed;
  const isShort = projected > budget * 1.005;
  return {
    campaign,
    spent,
    budget,
    elapsed,
    pace,
    state: pace < 0.9 ? "behind" : pace > 1.1 ? "ahead" : "on",
    projected,
    runsOut: isShort ? new Date(start + ((end - start) * elapsed * budget) / spent) : null,
  };
}
