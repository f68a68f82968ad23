/**
 * A cursor over a chart: the pointer or the arrow keys choose a place, and a tooltip tells its
 * figures. For screen readers it is a slider whose value is the text of that place.
 */
import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";

interface Props {
  label: string;
  count: number;
  /** The horizontal place of an index in pixels, once the chart is drawn. */
  placeOf: (index: number) => number | null;
  textOf: (index: number) => string;
  tooltipOf: (index: number) => ComponentChildren;
  /** Dots on the lines at an index: their height in pixels, and whose they are. */
  dotsOf?: (index: number) => { top: number; mark: string }[];
  hasLine?: boolean;
  children: ComponentChildren;
}

export function Cursor({ label, count, placeOf, textOf, tooltipOf, dotsOf, hasLine = true, children }: Props) {
  const root = useRef<HTMLDivElement>(null);
  const [index, setIndex] = useState(count - 1);
  const [isShown, setShown] = useState(false);
  const at = Math.min(Math.max(index, 0), count - 1);

  const onPointerMove = (event: PointerEvent) => {
    const left = root.current!.getBoundingClientRect().left;
    let best = -1;
    let distance = Infinity;
    for (let i = 0; i < count; i++) {
      const place = placeOf(i);
      if (place === null) return;
      const away = Math.abs(place - (event.clientX - left));
      if (away < distance) [best, distance] = [i, away];
    }
    if (best < 0) return;
    setIndex(best);
    setShown(true);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const steps: Record<string, number> = {
      ArrowLeft: at - 1,
      ArrowDown: at - 1,
      ArrowRight: at + 1,
      ArrowUp: at + 1,
      PageDown: at - 7,
      PageUp: at + 7,
      Home: 0,
      End: count - 1,
    };
    const next = steps[event.key];
    if (next !== undefined) {
      setIndex(Math.min(Math.max(next, 0), count - 1));
      setShown(true);
    } else if (event.key === "Escape" && isShown) setShown(false);
    else return;
    event.preventDefault();
  };

  const place = count > 0 ? placeOf(at) : null;
  const width = root.current?.clientWidth ?? 0;
  const isRight = place !== null && place > width / 2;
  return (
    <div
      ref={root}
      class="cursor"
      role="slider"
      tabIndex={0}
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={Math.max(count - 1, 0)}
      aria-valuenow={Math.max(at, 0)}
      aria-valuetext={count > 0 ? textOf(at) : "no figures"}
      onKeyDown={onKeyDown}
      onPointerMove={onPointerMove}
      onPointerLeave={() => setShown(false)}
      onBlur={() => setShown(false)}
      onFocus={(event) => setShown(event.currentTarget.matches(":focus-visible"))}
    >
      {children}
      {isShown && place !== null && (
        <>
          {hasLine && <div class="cursor-line" style={{ left: `${place}px` }} />}
          {dotsOf?.(at).map((dot) => (
            <div
              key={dot.mark}
              class="cursor-dot"
              data-mark={dot.mark}
              style={{ left: `${place}px`, top: `${dot.top}px` }}
            />
          ))}
          <div
            class="chart-tip"
            data-side={isRight ? "left" : "right"}
            style={isRight ? { right: `${width - place + 12}px` } : { left: `${place + 12}px` }}
          >
            {tooltipOf(at)}
          </div>
        </>
      )}
    </div>
  );
}

interface TipRow {
  label: string;
  value: string;
  mark?: string | undefined;
}

export function Tip({ title, rows, foot }: { title: string; rows: TipRow[]; foot?: string | undefined }) {
  return (
    <>
      <p class="tip-title">{title}</p>
      <dl>
        {rows.map((row) => (
          <div key={row.label}>
            <dt>
              {row.mark && <span class="mark" data-mark={row.mark} />}
              {row.label}
            </dt>
            <dd>{row.value}</dd>
          </div>
        ))}
      </dl>
      {foot && <p class="tip-foot">{foot}</p>}
    </>
  );
}
