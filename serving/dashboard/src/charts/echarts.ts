/** The parts of ECharts that are used. This module is loaded when the first chart is drawn. */
import { BarChart, LineChart, MapChart } from "echarts/charts";
import { GeoComponent, GridComponent, MarkAreaComponent } from "echarts/components";
import { init, registerMap, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";

use([LineChart, BarChart, MapChart, GridComponent, GeoComponent, MarkAreaComponent, SVGRenderer]);

export { init, registerMap };
export type { ECharts } from "echarts/core";
