//! Empty: a build script makes cargo unify the features of build dependencies too.
fn main() {}
