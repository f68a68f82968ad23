//! Has no code. Every crate of the workspace depends on it, and it asks for the features that the
//! workspace uses as a whole.
//!
//! Without it `cargo test -p X`, `cargo build` and `cargo test --workspace` would each build
//! DataFusion again, with other features of its dependencies. `cargo-hakari` does the same.
