#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(wrong) = holdfast_fuzz::targets::answer(data) {
        panic!("{wrong}");
    }
});
