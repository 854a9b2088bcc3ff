#![no_main]

use pipeline::route::condition::Condition;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(condition) = Condition::compile(text)
    {
        assert_eq!(condition.text(), text);
    }
});
