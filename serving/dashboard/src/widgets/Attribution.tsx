/** The five attribution models side by side, and how far each is from the chosen one. */
import type { Answer, Model } from "../api/contract";
import { cell, useAnswer } from "../data/answers";
import { attributionQuestion } from "../data/questions";
import { formatFull, formatShare, signOf, toNumber } from "../format/numbers";
import { changeView, range, view } from "../state/store";
import { MODELS } from "../state/view";
import { Body, Frame } from "./Frame";

const NAMES = MODELS.map(([name]) => name);

export function Attribution() {
  const loaded = useAnswer(attributionQuestion(view.value, range.value, NAMES));
  const chosen = MODELS.find(([name]) => name === view.value.model)![1];
  return (
    <Frame
      title="Attribution models"
      subtitle={`Shift from ${chosen.toLowerCase()}`}
      isWaiting={loaded.isWaiting}
    >
      <Body
        loaded={loaded}
        isEmpty={(answer) => NAMES.every((name) => !Number(valueOf(answer, "conversions", name)))}
      >
        {(answer) => <Models answer={answer} />}
      </Body>
    </Frame>
  );
}

function valueOf(answer: Answer, what: "conversions" | "revenue", model: Model) {
  return cell(answer, answer.rows[0], `attributed_${what}_${model}`);
}

function shift(value: number | null, base: number | null): number | null {
  return value === null || !base ? null : value / base - 1;
}

function Models({ answer }: { answer: Answer }) {
  const chosen = view.value.model;
  const base = toNumber(valueOf(answer, "conversions", chosen));
  const baseRevenue = toNumber(valueOf(answer, "revenue", chosen));
  const shifts = NAMES.map((name) => Math.abs(shift(toNumber(valueOf(answer, "revenue", name)), baseRevenue) ?? 0));
  const most = Math.max(...shifts, 0.0001);
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label="Attribution models">
      <table class="table attribution">
        <thead>
          <tr>
            <th scope="col">Model</th>
            <th scope="col" class="number">
              Conversions
            </th>
            <th scope="col" class="number">
              Revenue
            </th>
            <th scope="col" class="number shift-head">
              Shift of revenue
            </th>
          </tr>
        </thead>
        <tbody>
          {MODELS.map(([name, label]) => {
            const conversions = valueOf(answer, "conversions", name);
            const revenue = valueOf(answer, "revenue", name);
            const moved = shift(toNumber(revenue), baseRevenue);
            const movedConversions = shift(toNumber(conversions), base);
            return (
              <tr key={name} data-model={name} aria-current={name === chosen ? "true" : undefined}>
                <th scope="row">
                  <button type="button" class="cell-link" onClick={() => changeView({ model: name })}>
                    {label}
                  </button>
                  {name === chosen && <span class="tag">Chosen</span>}
                </th>
                <td class="number">
                  {formatFull("count", conversions)}
                  {name !== chosen && <small class="muted block">{signed(movedConversions)}</small>}
                </td>
                <td class="number">{formatFull("money", revenue)}</td>
                <td class="number">
                  {name === chosen ? (
                    <span class="muted">base</span>
                  ) : (
                    <span class="shift">
                      <Shift share={moved} most={most} />
                      <span>{signed(moved)}</span>
                    </span>
                  )}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

function signed(share: number | null): string {
  if (share === null) return formatShare(null);
  return `${signOf(share)}${formatShare(Math.abs(share))}`;
}

/** A bar from the middle: to the right if the model gives more, to the left if it gives less. */
function Shift({ share, most }: { share: number | null; most: number }) {
  const width = share === null ? 0 : (Math.abs(share) / most) * 50;
  const side = share !== null && share < 0 ? { right: "50%" } : { left: "50%" };
  return (
    <span class="shift-track" aria-hidden="true">
      <span class="shift-bar" style={{ width: `${width}%`, ...side }} />
    </span>
  );
}
