/** Where the places of a chart's horizontal axis are, so that a `Cursor` or a mark can stand there. */
import { useRef, useState } from "preact/hooks";
import type { ECharts } from "./echarts";

/** `chart` is `null` until it is drawn. Whoever uses it is drawn again whenever the chart is. */
export function usePlace() {
  const chart = useRef<ECharts | null>(null);
  const [, redraw] = useState(0);
  const placeOf = (index: number): number | null => {
    const place = chart.current?.convertToPixel({ xAxisIndex: 0 }, index);
    return typeof place === "number" && Number.isFinite(place) ? place : null;
  };
  const onDrawn = (drawn: ECharts) => {
    chart.current = drawn;
    redraw((count) => count + 1);
  };
  return { chart, placeOf, onDrawn };
}
