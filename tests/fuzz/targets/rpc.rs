//! Lines from a resident program; see `pool_tests::fuzz::rpc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pool_tests::fuzz::rpc(bytes));
