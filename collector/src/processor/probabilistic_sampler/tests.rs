//! Decisions as the reference makes them, and what becomes of batches.

use super::config::Mode;
use super::{Config, Decision, How, Policy, Seen, with_trace_state};

const ID: u128 = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;

fn config(mode: Mode, sampling_percentage: f32) -> Config {
    Config { mode, sampling_percentage, ..Config::default() }
}

fn decide(config: &Config, id: u128, state: &str, wanted: Option<bool>) -> (bool, String) {
    let trace_id = id.to_be_bytes();
    let seen = Seen { trace_id: &trace_id, trace_state: state.as_bytes(), wanted };
    let Decision { is_sampled, trace_state, .. } =
        How::new(config).decide(&seen, config.fail_closed);
    let text =
        trace_state.map_or_else(|| state.to_owned(), |text| String::from_utf8(text).unwrap());
    (is_sampled, text)
}

fn kept(config: &Config) -> usize {
    (1..=100_000u128)
        .filter(|id| decide(config, id * 0x9e37_79b9_7f4a_7c15_f39c, "", None).0)
        .count()
}

#[test]
fn about_as_many_are_kept_as_are_asked_for() {
    for mode in [Mode::HashSeed, Mode::Equalizing, Mode::Proportional] {
        assert_eq!(kept(&config(mode, 0.0)), 0);
        assert_eq!(kept(&config(mode, 100.0)), 100_000);
        assert_eq!(kept(&config(mode, 250.0)), 100_000);
        for percentage in [5.0, 25.0, 50.0, 90.0] {
            let kept = kept(&config(mode, percentage)) as f32 / 1000.0;
            assert!((kept - percentage).abs() < 1.0, "{mode:?}: {kept} % of {percentage} %");
        }
    }
}

#[test]
fn consistent_modes_go_by_the_randomness_and_note_their_threshold() {
    let half = config(Mode::Equalizing, 50.0);
    let low = |bits: u128| ID & !((1 << 56) - 1) | bits;
    assert_eq!(decide(&half, low(0x80 << 48), "", None), (true, "ot=th:8".into()));
    assert_eq!(decide(&half, low(0x7f << 48), "a=b", None), (false, "a=b".into()));
    // By the explicit randomness, if there is one.
    assert_eq!(
        decide(&half, low(0), "ot=rv:ffffffffffffff,a=b", None),
        (true, "ot=rv:ffffffffffffff;th:8,a=b".into())
    );
    // What arrives with less probability passes; what arrives with more is sampled again.
    assert_eq!(decide(&half, low(0xf0 << 48), "ot=th:c", None), (true, "ot=th:c".into()));
    assert_eq!(decide(&half, low(0x90 << 48), "ot=th:4", None), (true, "ot=th:8".into()));
    let proportional = config(Mode::Proportional, 50.0);
    assert_eq!(decide(&proportional, low(0xf0 << 48), "ot=th:8", None), (true, "ot=th:c".into()));
    assert_eq!(decide(&proportional, low(0x90 << 48), "ot=th:8", None), (false, "ot=th:8".into()));
}

#[test]
fn what_cannot_be_determined_goes_or_stays_as_the_config_says() {
    for mode in [Mode::HashSeed, Mode::Equalizing, Mode::Proportional] {
        let closed = config(mode, 50.0);
        let open = Config { fail_closed: false, ..closed.clone() };
        assert!(!decide(&closed, ID, "A=b", None).0 && !decide(&closed, 0, "", None).0);
        assert_eq!(decide(&open, ID, "A=b", None), (true, "A=b".into()));
        assert!(decide(&open, 0, "", None).0);
    }
    let open = Config { fail_closed: false, ..config(Mode::Equalizing, 50.0) };
    // This trace id cannot have passed that threshold.
    assert_eq!(decide(&open, 1, "ot=th:c", None), (true, "ot=th:0".into()));
    let hash = Config { fail_closed: false, ..config(Mode::HashSeed, 1.0) };
    assert_eq!(
        decide(&hash, ID, "ot=th:8", None),
        (true, "ot=th:8".into()),
        "it was sampled before"
    );
}

#[test]
fn the_application_has_the_last_word() {
    for mode in [Mode::HashSeed, Mode::Equalizing, Mode::Proportional] {
        for percentage in [0.0, 100.0] {
            assert!(decide(&config(mode, percentage), ID, "", Some(true)).0);
            assert!(!decide(&config(mode, percentage), ID, "", Some(false)).0);
        }
    }
}

#[test]
fn the_policy_is_what_decided() {
    let policy = |mode, id: u128, state: &str, wanted| {
        let trace_id = id.to_be_bytes();
        let seen = Seen { trace_id: &trace_id, trace_state: state.as_bytes(), wanted };
        How::new(&config(mode, 50.0)).decide(&seen, true).policy
    };
    assert_eq!(policy(Mode::HashSeed, ID, "", None), Policy::TraceIdHash);
    assert_eq!(policy(Mode::HashSeed, 0, "", None), Policy::MissingRandomness);
    assert_eq!(policy(Mode::Equalizing, ID, "", None), Policy::TraceIdW3c);
    assert_eq!(
        policy(Mode::Equalizing, ID, "ot=rv:00000000000001", None),
        Policy::SamplingRandomness
    );
    assert_eq!(policy(Mode::Proportional, ID, "", Some(true)), Policy::SamplingPriority);
}

#[test]
fn a_span_with_another_trace_state_has_all_else_as_it_was() {
    let span = |state: &str| {
        let mut span = b"\x0a\x01i\x12\x01s".to_vec();
        if !state.is_empty() {
            crate::trace_batch::wire::put_bytes(&mut span, 3, state.as_bytes());
        }
        span.extend_from_slice(b"\x2a\x01n");
        span
    };
    assert_eq!(with_trace_state(&span(""), b"ot=th:8"), span("ot=th:8"));
    assert_eq!(with_trace_state(&span("a=b"), b"ot=th:8,a=b"), span("ot=th:8,a=b"));
    assert_eq!(with_trace_state(b"\x0a\x01i", b"x=y"), b"\x0a\x01i\x1a\x03x=y");
}
