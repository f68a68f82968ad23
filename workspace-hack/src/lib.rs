//! Nothing: a dependency of every crate of the workspace, which asks for the features that the workspace as a whole uses.
//!
//! Without it `cargo test -p X`, `cargo build` and `cargo test --workspace` would each build DataFusion anew, with other features of its
//! dependencies. The practice is that of `cargo-hakari`.
