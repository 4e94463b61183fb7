//! Any text as the collector's config, and as the value of a variable behind a NUL: a config or a message, and a message that says
//! something.

#![no_main]

use collector::internals::check_config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|yaml: &str| {
    let (yaml, value) = yaml.split_once('\0').unwrap_or((yaml, "${VALUE}"));
    let environment = |name: &str| match name {
        // One that holds a reference itself, one that holds a map, and one that is empty.
        "SELF" => Some("${env:SELF}".to_owned()),
        "MAP" => Some("{a: [1, 2.5, null]}".to_owned()),
        "VALUE" => Some(value.to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    if let Err(message) = check_config(yaml, &environment) {
        assert!(!message.trim().is_empty());
    }
});
