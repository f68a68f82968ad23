/** The map of the world: loaded when a map is first shown, and given to ECharts by country code. */
import type { FeatureCollection, Geometry, Position } from "geojson";
import { feature } from "topojson-client";
import type { GeometryCollection, Topology } from "topojson-specification";

/** The address of the map, which the build writes here. */
declare const WORLD_FILE: string;

type World = Topology<{ countries: GeometryCollection<{ name: string }> }>;

export interface WorldMap {
  codes: Set<string>;
}

let loading: Promise<WorldMap> | null = null;

export function loadWorld(): Promise<WorldMap> {
  loading ??= read().catch((error: unknown) => {
    loading = null;
    throw error;
  });
  return loading;
}

async function read(): Promise<WorldMap> {
  const [{ registerMap }, response] = await Promise.all([import("./echarts"), fetch(WORLD_FILE)]);
  if (!response.ok) throw new Error(`the map could not be loaded: ${response.status}`);
  const world = (await response.json()) as World;
  const shapes = feature(world, world.objects.countries) as FeatureCollection<Geometry, { name: string }>;
  for (const { geometry } of shapes.features) {
    if (geometry.type === "Polygon") geometry.coordinates.forEach(unwrap);
    if (geometry.type === "MultiPolygon") geometry.coordinates.forEach((rings) => rings.forEach(unwrap));
  }
  registerMap("world", shapes as never);
  return { codes: new Set(shapes.features.map((one) => one.properties.name)) };
}

/**
 * A ring that crosses the 180th meridian jumps from one edge of the map to the other, and would be
 * drawn as a band over all of it. Here it goes on beyond the edge instead.
 */
function unwrap(ring: Position[]): void {
  let shift = 0;
  let sum = 0;
  for (let at = 0; at < ring.length; at++) {
    const point = ring[at]!;
    const before = ring[at - 1];
    let longitude = point[0]! + shift;
    if (before && Math.abs(longitude - before[0]!) > 180) {
      const turn = longitude > before[0]! ? -360 : 360;
      shift += turn;
      longitude += turn;
    }
    ring[at] = [longitude, point[1]!];
    sum += longitude;
  }
  const turns = Math.round(sum / ring.length / 360);
  if (turns !== 0) ring.forEach((point) => (point[0]! -= turns * 360));
}

/**
 * The Miller projection (1942). It enlarges the middle latitudes, so that the small countries of
 * Europe can be seen and clicked, and it enlarges the far north less than Mercator's does.
 */
export const miller = {
  project([longitude, latitude]: number[]): [number, number] {
    const y = 1.25 * Math.log(Math.tan(Math.PI / 4 + (0.4 * latitude! * Math.PI) / 180));
    return [longitude!, (-y * 180) / Math.PI];
  },
  unproject([x, y]: number[]): [number, number] {
    const latitude = 2.5 * (Math.atan(Math.exp((-0.8 * y! * Math.PI) / 180)) - Math.PI / 4);
    return [x!, (latitude * 180) / Math.PI];
  },
};
