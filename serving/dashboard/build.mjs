/**
 * Builds the dashboard into a folder: `node build.mjs [folder]`, by default `dist`.
 *
 * Names hold a hash of the content, and the same sources give the same bytes. `manifest.json`
 * lists every file with its content type and SHA-256, for the server that embeds them.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL(".", import.meta.url));
const target = resolve(process.argv[2] ?? join(root, "dist"));

const CONTENT_TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8",
};

const files = new Map();

function hashed(name, bytes) {
  const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 10);
  const extension = extname(name);
  return `${basename(name, extension)}-${hash}${extension}`;
}

function read(path) {
  return readFileSync(join(root, path));
}

/** The map with ISO 3166-1 alpha-2 codes as names, and without Antarctica. */
function worldMap() {
  const world = JSON.parse(read("node_modules/world-atlas/countries-50m.json"));
  const codes = JSON.parse(read("node_modules/i18n-iso-countries/codes.json"));
  const alpha2 = new Map(codes.map(([two, , numeric]) => [numeric, two]));
  const { countries } = world.objects;
  countries.geometries = countries.geometries
    .filter((shape) => shape.properties.name !== "Antarctica")
    .map(({ type, arcs, id, properties }) => {
      const code = properties.name === "Kosovo" ? "XK" : (alpha2.get(id) ?? "");
      return { type, arcs, properties: { name: code } };
    });
  return JSON.stringify({ type: world.type, transform: world.transform, objects: { countries }, arcs: world.arcs });
}

const world = worldMap();
const worldName = hashed("world.json", world);
files.set(worldName, Buffer.from(world));

const favicon = read("favicon.svg");
const faviconName = hashed("favicon.svg", favicon);
files.set(faviconName, favicon);

const result = await build({
  absWorkingDir: root,
  entryPoints: { app: "src/main.tsx" },
  outdir: target,
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["es2022", "chrome111", "firefox115", "safari16.4"],
  minify: true,
  entryNames: "[name]-[hash]",
  chunkNames: "charts-[hash]",
  legalComments: "none",
  define: { WORLD_FILE: JSON.stringify(worldName), "process.env.NODE_ENV": '"production"' },
  loader: { ".svg": "dataurl" },
  jsx: "automatic",
  jsxImportSource: "preact",
  metafile: true,
  write: false,
});
for (const output of result.outputFiles) files.set(basename(output.path), Buffer.from(output.contents));

const entry = Object.entries(result.metafile.outputs).find(([, output]) => output.entryPoint === "src/main.tsx");
const page = read("index.html")
  .toString()
  .replace("FAVICON", faviconName)
  .replace("STYLE", basename(entry[1].cssBundle))
  .replace("SCRIPT", basename(entry[0]));
files.set("index.html", Buffer.from(page));
files.set("licenses.txt", Buffer.from(licenses()));

/** What the licenses of the bundled packages ask for: their texts go with the files. */
function licenses() {
  const packages = ["preact", "@preact/signals", "@preact/signals-core", "echarts", "zrender", "tslib"];
  packages.push("topojson-client", "world-atlas", "i18n-iso-countries");
  const texts = packages.map((name) => {
    const { version } = JSON.parse(read(`node_modules/${name}/package.json`));
    const text = ["LICENSE", "LICENSE.txt", "LICENSE.md"].map((file) => tryRead(`node_modules/${name}/${file}`));
    const notice = tryRead(`node_modules/${name}/NOTICE`);
    return [`${name} ${version}`, text.find((one) => one !== null) ?? "", notice ?? ""].join("\n\n").trim();
  });
  return `${texts.join("\n\n---\n\n")}\n`;
}

function tryRead(path) {
  try {
    return read(path).toString().replace(/\r\n/g, "\n").trim();
  } catch {
    return null;
  }
}

rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
const names = [...files.keys()].sort();
for (const name of names) writeFileSync(join(target, name), files.get(name));
const manifest = names.map((file) => ({
  file,
  content_type: CONTENT_TYPES[extname(file)],
  sha256: createHash("sha256").update(files.get(file)).digest("hex"),
}));
writeFileSync(join(target, "manifest.json"), `${JSON.stringify({ files: manifest }, null, 2)}\n`);
