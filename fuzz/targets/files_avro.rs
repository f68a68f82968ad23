//! Arbitrary bytes as a file. `adlake_speed_layer::trial` checks what must hold.
#![no_main]

use adlake_speed_layer::trial::{FileTrial, try_file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(what) = try_file(FileTrial::Avro, bytes) {
        panic!("{what}");
    }
});
