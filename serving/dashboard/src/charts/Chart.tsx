/**
 * Draws one ECharts chart into its own element, and keeps its size.
 *
 * Charts have no tooltips of their own: the library builds them with inline styles, and they are
 * out of reach for the keyboard. `Cursor.tsx` has ours.
 */
import type { EChartsCoreOption } from "echarts/core";
import { useEffect, useRef, useState } from "preact/hooks";
import type { ECharts } from "./echarts";
import { type ChartColours, chartFont, colours, isMotionReduced, printColours } from "./theme";

interface Props {
  /** The chart in given colours. It must be the same function as long as nothing changes. */
  draw: (colours: ChartColours) => EChartsCoreOption;
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

export function Chart({ draw, onDrawn, onReady }: Props) {
  const root = useRef<HTMLDivElement>(null);
  const [chart, setChart] = useState<ECharts | null>(null);
  const palette = colours.value;
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
    if (!chart) return undefined;
    const show = (shown: ChartColours, isAnimated: boolean) => {
      const base = { animation: isAnimated, animationDuration: 250, textStyle: { fontFamily: chartFont } };
      chart.setOption({ ...base, ...draw(shown) }, { notMerge: true });
      frame(chart);
    };
    show(palette, !isMotionReduced.matches);
    drawn.current?.(chart);
    // The browser prints at once: the chart must be drawn when this returns.
    const toPaper = () => {
      show(printColours(), false);
      chart.getZr().flush();
    };
    const toScreen = () => show(palette, false);
    addEventListener("beforeprint", toPaper);
    addEventListener("afterprint", toScreen);
    return () => {
      removeEventListener("beforeprint", toPaper);
      removeEventListener("afterprint", toScreen);
    };
  }, [chart, draw, palette]);

  return <div class="chart" ref={root} aria-hidden="true" />;
}
