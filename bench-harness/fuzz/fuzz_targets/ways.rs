//! The target `ways` for cargo-fuzz. The body is in `bench-harness/src/fuzz`.

#![no_main]

use corefold_bench::fuzz::Target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some(target) = Target::named("ways") {
        (target.body)(input);
    }
});
