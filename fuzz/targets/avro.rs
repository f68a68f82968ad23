//! Arbitrary bytes between good records. `adlake_decode::trial` checks what must hold.
#![no_main]

use std::cell::RefCell;

use adlake_decode::trial::{Trial, Trier};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static TRIER: RefCell<Trier> = RefCell::new(Trier::new(Trial::Avro).expect("a decoder"));
}

fuzz_target!(|bytes: &[u8]| {
    TRIER.with_borrow_mut(|trier| {
        if let Err(what) = trier.try_bytes(bytes) {
            panic!("{what}");
        }
    });
});
