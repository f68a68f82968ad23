/** From bids to conversions: how many remain at each stage, and how many are lost before it. */
import type { Answer } from "../api/contract";
import { cell, useAnswer } from "../data/answers";
import { FUNNEL } from "../data/questions";
import { metricOf, netNote } from "../data/metrics";
import { formatCompact, formatExact, formatShare, toNumber } from "../format/numbers";
import type { Question } from "../api/contract";
import { tilesQuestion } from "../data/questions";
import { range, view } from "../state/store";
import { Body, Frame } from "./Frame";

export function Funnel() {
  // The tiles' question answers all stages: the funnel follows the stream with them.
  const question: Question = tilesQuestion(view.value, range.value);
  const loaded = useAnswer(question);
  return (
    <Frame
      title="Funnel"
      subtitle="What remains of each stage, and the rate from the stage before"
      note={netNote(view.value.traffic, FUNNEL)}
    >
      <Body loaded={loaded} isEmpty={(answer) => FUNNEL.every((name) => !Number(cell(answer, answer.rows[0], name)))}>
        {(answer) => <Stages answer={answer} />}
      </Body>
    </Frame>
  );
}

function Stages({ answer }: { answer: Answer }) {
  const counts = FUNNEL.map((name) => toNumber(cell(answer, answer.rows[0], name)) ?? 0);
  const most = Math.max(...counts, 1);
  return (
    <ol class="funnel">
      {FUNNEL.map((name, at) => {
        const count = counts[at]!;
        const before = at === 0 ? null : counts[at - 1]!;
        const rate = before ? count / before : null;
        // The stages differ by orders of magnitude: a root keeps the small ones visible.
        const width = Math.max(1, Math.sqrt(count / most) * 100);
        return (
          <li key={name} data-stage={name}>
            <div class="funnel-head">
              <span class="funnel-name">{metricOf(name).label}</span>
              <span class="funnel-count" title={formatExact("count", count)}>
                {formatCompact("count", count)}
              </span>
              <span class="funnel-rate">
                {before === null ? (
                  <span class="muted">start</span>
                ) : (
                  <>
                    {formatShare(rate, rate !== null && rate < 0.1 ? 2 : 1)}
                    <span class="visually-hidden">
                      {" "}
                      of {metricOf(FUNNEL[at - 1]!).label}, {formatShare(rate === null ? null : 1 - rate)} lost
                    </span>
                  </>
                )}
              </span>
            </div>
            <div class="bar-track" aria-hidden="true">
              <div class="bar-fill" style={{ width: `${width}%` }} />
            </div>
          </li>
        );
      })}
    </ol>
  );
}
