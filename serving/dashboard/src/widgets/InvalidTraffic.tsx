/** Events that are left out of the net figures, by the reason. */
import type { Answer, InvalidTrafficAnswer } from "../api/contract";
import { cell, useAnswer, useGetAll } from "../data/answers";
import { useCampaignPaths } from "../data/campaignPaths";
import { invalidShareQuestion } from "../data/questions";
import { formatCount, formatFull, formatShare, toNumber } from "../format/numbers";
import { range, view } from "../state/store";
import { Body, Frame, State } from "./Frame";

/** The kinds of events, and the metric that has a gross figure beside its own. Refunds have none. */
const KINDS = [
  ["impression", "Impressions", "impressions"],
  ["click", "Clicks", "clicks"],
  ["conversion", "Conversions", "conversions"],
  ["refund", "Refunds", null],
] as const;
const REASONS: Record<string, string> = {
  bot: "Robots",
  zero_size: "No size",
  data_centre: "Data centre",
  rate_user: "Too many of a user",
  rate_address: "Too many of an address",
  fast_click: "Click too fast",
  order_invalid: "Order is invalid",
};

interface Reason {
  reason: string;
  events: Record<string, number>;
  cost: number;
}

/** One row a reason, the most events first. The answers of single campaigns add up. */
function byReason(answers: InvalidTrafficAnswer[]): Reason[] {
  const reasons = new Map<string, Reason>();
  for (const one of answers.flatMap((answer) => answer.reasons)) {
    const row = reasons.get(one.reason) ?? { reason: one.reason, events: {}, cost: 0 };
    row.events[one.kind] = (row.events[one.kind] ?? 0) + one.events;
    row.cost += Number(one.cost);
    reasons.set(one.reason, row);
  }
  const total = (row: Reason) => Object.values(row.events).reduce((sum, events) => sum + events, 0);
  return [...reasons.values()].sort((a, b) => total(b) - total(a));
}

export function InvalidTraffic() {
  const { paths, obstacle, note } = useCampaignPaths("invalid_traffic");
  const loaded = useGetAll<InvalidTrafficAnswer>(paths);
  const share = useAnswer(invalidShareQuestion(view.value, range.value));
  return (
    <Frame
      title="Invalid traffic"
      subtitle="Left out of net figures, by reason"
      isWaiting={loaded.isWaiting}
      note={note}
    >
      {obstacle ? (
        <State icon="filter" title={obstacle.title}>
          {obstacle.text}
        </State>
      ) : loaded.data?.every((answer) => answer.reasons.length === 0) ? (
        <State icon="check" title="No invalid traffic on these days" />
      ) : (
        <Body loaded={loaded} isEmpty={() => false}>
          {(answers) => <ReasonTable reasons={byReason(answers)} share={share.data} />}
        </Body>
      )}
    </Frame>
  );
}

function ReasonTable({ reasons, share }: { reasons: Reason[]; share: Answer | null }) {
  const cost = reasons.reduce((sum, row) => sum + row.cost, 0);
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label="Invalid traffic">
      <table class="table">
        <thead>
          <tr>
            <th scope="col">Reason</th>
            {KINDS.map(([kind, label]) => (
              <th key={kind} scope="col" class="number">
                {label}
              </th>
            ))}
            <th scope="col" class="number">
              Cost
            </th>
          </tr>
        </thead>
        <tbody>
          {reasons.map((row) => (
            <tr key={row.reason} data-reason={row.reason}>
              <th scope="row">{REASONS[row.reason] ?? row.reason}</th>
              {KINDS.map(([kind]) => (
                <td key={kind} class="number">
                  {formatCount(row.events[kind] ?? 0)}
                </td>
              ))}
              <td class="number">{formatFull("money", row.cost)}</td>
            </tr>
          ))}
        </tbody>
        <tfoot>
          <tr>
            <th scope="row">Total</th>
            {KINDS.map(([kind, , metric]) => (
              <td key={kind} class="number">
                {formatCount(reasons.reduce((sum, row) => sum + (row.events[kind] ?? 0), 0))}
                {metric && <small class="muted block">{formatShare(shareOf(share, metric), 2)} of gross</small>}
              </td>
            ))}
            <td class="number">{formatFull("money", cost)}</td>
          </tr>
        </tfoot>
      </table>
    </div>
  );
}

function shareOf(answer: Answer | null, metric: string): number | null {
  const net = answer && toNumber(cell(answer, answer.rows[0], metric));
  const gross = answer && toNumber(cell(answer, answer.rows[0], `gross_${metric}`));
  return net === null || gross === null || gross === 0 ? null : (gross - net) / gross;
}
