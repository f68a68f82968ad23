/** A change against the comparison: an arrow, a sign, words for screen readers, and a colour. */
import { type Change, formatAbsolute, formatRelative } from "../format/numbers";
import type { Kind } from "../data/metrics";

const ARROWS = { up: "▲", down: "▼", flat: "●" };

interface Props {
  change: Change;
  kind: Kind;
  hasAbsolute?: boolean;
}

export function Delta({ change, kind, hasAbsolute = false }: Props) {
  const tone = change.isGood === null ? "neutral" : change.isGood ? "good" : "bad";
  const words = { good: "better", bad: "worse", neutral: "" }[tone];
  return (
    <span class="delta" data-tone={tone}>
      <span class="delta-arrow" aria-hidden="true">
        {ARROWS[change.direction]}
      </span>
      <span class="delta-relative">{formatRelative(change)}</span>
      {words && <span class="visually-hidden"> ({words})</span>}
      {hasAbsolute && <span class="delta-absolute">{formatAbsolute(kind, change)}</span>}
    </span>
  );
}
