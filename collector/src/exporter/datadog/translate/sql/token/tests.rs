//! Both ways of reading tokens.

use proptest::prelude::{ProptestConfig, any, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};

use super::{Kind, Tokenizer};

fn query() -> impl Strategy<Value = String> {
    const PARTS: [&str; 40] = [
        "SELECT", "from", "As", "x", "_a", "@v", "#", "t1.b", "a*", "$1", "ſelect", "größe", "1",
        "10", "0", "017", "0x1F", "1.5", "2e-3", "3E", "'s'", "'it''s'", "'\\'", "\"q\"", "`b`",
        "=", ",", "(", ")", "*", " ", "\n", "\0", "--c\n", "/*d*/", "{", "}", ":=", "-.x", "[",
    ];
    let part = prop_oneof![
        9 => (0..PARTS.len()).prop_map(|part| PARTS[part].to_owned()),
        2 => Just(" ".to_owned()),
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn simple_tokens_are_read_as_any_others(query in query(), escapes: bool) {
        let (mut one, mut other) = (Tokenizer::new(&query, escapes), Tokenizer::new(&query, escapes));
        loop {
            let (token, expected) = (one.next(), other.any());
            assert_eq!(token, expected, "{query:?}");
            assert_eq!((one.offset, one.last, one.position), (other.offset, other.last, other.position), "{query:?}");
            if matches!(token, None | Some((Kind::End, _))) {
                break;
            }
        }
    }
}
