/**
 * Writes the list of the built files for the server: `node embed.mjs [file]`, by default the
 * module that the server is compiled with. The compiler then sees when a file changes.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const { files } = JSON.parse(readFileSync(at("dist/manifest.json")));
const lines = files.map(({ file, content_type: type }) => {
  return `    ("${file}", "${type}", include_bytes!("../../dashboard/dist/${file}")),\n`;
});

const text = `//! The built files of the dashboard. \`serving/dashboard/embed.mjs\` writes this list.

/// A file.
pub type File = (&'static str, &'static str, &'static [u8]);

/// All of them.
#[rustfmt::skip]
pub const FILES: &[File] = &[
${lines.join("")}];
`;
writeFileSync(process.argv[2] ?? at("../src/http/dashboard.rs"), text);
