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

/** Says what the picture's own size is, so that the style sheet for print can scale it. */
function frame(chart: ECharts): void {
  const picture = chart.getDom().querySelector("svg");
  picture?.setAttribute("viewBox", `0 0 ${chart.getWidth()} ${chart.getHeight()}`);
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
      const element = root.current;
      observer = new ResizeObserver(() => {
        // A map without a size has no inverse transform: it is made, and sized, once there is room.
        if (element.clientWidth === 0 || element.clientHeight === 0) return;
        if (!made) {
          made = init(element, null, { renderer: "svg" });
          onReady?.(made);
          setChart(made);
        } else if (made.getOption()) {
          made.resize();
          frame(made);
          drawn.current?.(made);
        }
      });
      observer.observe(element);
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
    frame(chart);
    drawn.current?.(chart);
  }, [chart, option]);

  return <div class="chart" ref={root} aria-hidden="true" />;
}
