/**
 * Draws one ECharts chart into its own element, and keeps its size.
 *
 * Charts have no tooltips of their own: the library builds them with inline styles, and they are
 * out of reach for the keyboard. `Cursor.tsx` has ours.
 */
import type { EChartsCoreOption } from "echarts/core";
import { useEffect, useRef, useState } from "preact/hooks";
import type { ECharts } from "./echarts";
import { chartFont, isMotionReduced } from "./theme";

interface Props {
  option: EChartsCoreOption;
  /** Called when the chart was drawn or resized. */
  onDrawn?: (chart: ECharts) => void;
  /** Called once, to listen to its events. */
  onReady?: (chart: ECharts) => void;
}

export function Chart({ option, onDrawn, onReady }: Props) {
  const root = useRef<HTMLDivElement>(null);
  const [chart, setChart] = useState<ECharts | null>(null);
  const drawn = useRef(onDrawn);
  drawn.current = onDrawn;

  useEffect(() => {
    let isGone = false;
    let made: ECharts | null = null;
    let observer: ResizeObserver | null = null;
    void import("./echarts").then(({ init }) => {
      if (isGone || !root.current) return;
      made = init(root.current, null, { renderer: "svg" });
      onReady?.(made);
      observer = new ResizeObserver(() => {
        // Before the first option there is nothing to size, nor a place to ask for.
        if (!made?.getOption()) return;
        made.resize();
        drawn.current?.(made);
      });
      observer.observe(root.current);
      setChart(made);
    });
    return () => {
      isGone = true;
      observer?.disconnect();
      made?.dispose();
    };
  }, []);

  useEffect(() => {
    if (!chart) return;
    chart.setOption(
      { animation: !isMotionReduced.matches, animationDuration: 250, textStyle: { fontFamily: chartFont }, ...option },
      { notMerge: true },
    );
    drawn.current?.(chart);
  }, [chart, option]);

  return <div class="chart" ref={root} aria-hidden="true" />;
}
