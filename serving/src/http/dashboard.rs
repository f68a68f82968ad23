//! The built files of the dashboard. `serving/dashboard/embed.mjs` writes this list.

/// A file.
pub type File = (&'static str, &'static str, &'static [u8]);

/// All of them.
#[rustfmt::skip]
pub const FILES: &[File] = &[
    ("app-ZTE5J6EO.css", "text/css; charset=utf-8", include_bytes!("../../dashboard/dist/app-ZTE5J6EO.css")),
    ("app-ZVQ74TU6.js", "text/javascript; charset=utf-8", include_bytes!("../../dashboard/dist/app-ZVQ74TU6.js")),
    ("charts-6UUGGLMG.js", "text/javascript; charset=utf-8", include_bytes!("../../dashboard/dist/charts-6UUGGLMG.js")),
    ("charts-WDQJAHWT.js", "text/javascript; charset=utf-8", include_bytes!("../../dashboard/dist/charts-WDQJAHWT.js")),
    ("favicon-cdcdc253b0.svg", "image/svg+xml", include_bytes!("../../dashboard/dist/favicon-cdcdc253b0.svg")),
    ("index.html", "text/html; charset=utf-8", include_bytes!("../../dashboard/dist/index.html")),
    ("licenses.txt", "text/plain; charset=utf-8", include_bytes!("../../dashboard/dist/licenses.txt")),
    ("world-6fb8d62ea5.json", "application/json", include_bytes!("../../dashboard/dist/world-6fb8d62ea5.json")),
];
