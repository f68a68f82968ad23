/** The map of the world: loaded when a map is first shown, and given to ECharts by country code. */
import type { FeatureCollection, Geometry } from "geojson";
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
  registerMap("world", shapes as never);
  return { codes: new Set(shapes.features.map((one) => one.properties.name)) };
}

/**
 * The Equal Earth projection (Šavrič, Patterson, Jenny, 2018): areas keep their proportions, so
 * that no country looks more important than it is.
 */
const A = [1.340264, -0.081106, 0.000893, 0.003796] as const;
const M = Math.sqrt(3) / 2;

export const equalEarth = {
  project([longitude, latitude]: number[]): [number, number] {
    const l = Math.asin(M * Math.sin((latitude! * Math.PI) / 180));
    const l2 = l * l;
    const l6 = l2 * l2 * l2;
    const slope = A[0] + 3 * A[1] * l2 + l6 * (7 * A[2] + 9 * A[3] * l2);
    const x = ((longitude! * Math.PI) / 180) * (Math.cos(l) / (M * slope));
    const y = l * (A[0] + A[1] * l2 + l6 * (A[2] + A[3] * l2));
    return [x * 100, -y * 100];
  },
  unproject([x, y]: number[]): [number, number] {
    const wanted = -y! / 100;
    let l = wanted;
    for (let i = 0; i < 12; i++) {
      const l2 = l * l;
      const l6 = l2 * l2 * l2;
      const error = l * (A[0] + A[1] * l2 + l6 * (A[2] + A[3] * l2)) - wanted;
      const slope = A[0] + 3 * A[1] * l2 + l6 * (7 * A[2] + 9 * A[3] * l2);
      l -= error / slope;
    }
    const l2 = l * l;
    const slope = A[0] + 3 * A[1] * l2 + l2 * l2 * l2 * (7 * A[2] + 9 * A[3] * l2);
    const longitude = (M * (x! / 100) * slope) / Math.cos(l);
    const latitude = Math.asin(Math.sin(l) / M);
    return [(longitude * 180) / Math.PI, (latitude * 180) / Math.PI];
  },
};
