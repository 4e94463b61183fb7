//! Hostile texts in every place of the page, and the forms that its scripts rely on.

use std::{collections::BTreeMap, io::Read};

use base64::{Engine, engine::general_purpose::STANDARD};
use harness_core::trace::{PayloadForm, Span, SpanId, Trace, TraceId};
use serde_json::json;

use super::*;

/// Characters that would end a script, begin a comment, break a line of JavaScript, turn texts around, or ring a bell.
const HOSTILE: &str =
    "</script><!--<script>alert(1)</script>\u{2028}\u{2029}\u{202e}\u{0}\u{7}\u{1b}[31m\"'&";

fn span(id: u64, resource: &str) -> Span {
    Span {
        trace_id: TraceId(7),
        datadog_trace_id: 7,
        id: SpanId(id),
        parent_id: None,
        service: "shop".to_owned(),
        name: "http.server.request".to_owned(),
        resource: resource.to_owned(),
        span_type: String::new(),
        error: false,
        start: 1_750_000_000_000_000_000,
        duration: 5,
        meta: BTreeMap::from([(resource.to_owned(), resource.to_owned())]),
        metrics: BTreeMap::new(),
        hostname: String::new(),
        env: String::new(),
        container_id: String::new(),
        language: String::new(),
        priority: 1,
        dropped: false,
        form: PayloadForm::Datadog,
        attempt: 1,
    }
}

fn view(span: Span) -> TraceView {
    TraceView::new(&Trace::new(TraceId(7), vec![span]), 0, &Sent::default())
}

/// Returns what is between an element's tags.
fn element<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("id=\"{id}\">")).unwrap();
    rest.split_once("</").unwrap().0
}

fn opened(page: &str, id: &str) -> String {
    let bytes = STANDARD.decode(element(page, id)).unwrap();
    let mut text = String::new();
    flate2::read::DeflateDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_hostile_text_is_nowhere_in_a_file_but_in_base64_and_comes_out_as_it_was() {
    let mut blocks = Blocks::new(usize::MAX);
    let trace = json!({ "trace": view(span(1, HOSTILE)) });
    assert_eq!(blocks.add(&trace).unwrap(), Some((0, 0)));
    blocks.close().unwrap();
    let index = json!({ "run": HOSTILE });
    let mut page = Vec::new();
    write_file(&mut page, HOSTILE, HOSTILE, &index, &blocks).unwrap();
    let page = String::from_utf8(page).unwrap();
    // The index, one block, and the program.
    assert_eq!(page.matches("<script").count(), 3);
    assert_eq!(page.matches("</script>").count(), 3);
    assert!(!page.contains("<!--") && !page.contains("alert(1)</"), "it is in the page as markup");
    let (head, program) = page.split_once("<script type=\"module\">").unwrap();
    let is_hidden = |letter: char| {
        (letter.is_control() && letter != '\n') || ('\u{2028}'..='\u{202e}').contains(&letter)
    };
    // Line separators mean nothing in HTML; all else that cannot be seen is replaced.
    let strange: Vec<char> = head
        .chars()
        .filter(|letter| is_hidden(*letter) && !matches!(letter, '\u{2028}' | '\u{2029}'))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert!(!program.contains(is_hidden), "the program itself has hidden characters");
    let read: serde_json::Value = serde_json::from_str(&opened(&page, "index")).unwrap();
    assert_eq!(read, index);
    let read: serde_json::Value = serde_json::from_str(&opened(&page, "block-0")).unwrap();
    assert_eq!(read, serde_json::to_value(&trace).unwrap());
    assert_eq!(read["trace"]["spans"][0]["meta"][HOSTILE], HOSTILE);
}

#[test]
fn the_program_sets_texts_as_texts_and_fetches_from_the_intake_alone() {
    let program = SCRIPTS.concat();
    for never in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "</script",
        "<!--",
        "import(",
        "XMLHttpRequest",
    ] {
        assert!(!program.contains(never), "{never}");
    }
    let addresses: Vec<&str> =
        program.match_indices("http").map(|(at, _)| &program[at..at + 26]).collect();
    let fetched =
        addresses.iter().filter(|text| text.starts_with("http://") || text.starts_with("https://"));
    assert!(
        fetched.clone().all(|text| text.starts_with("http://www.w3.org/2000/svg")),
        "{addresses:?}"
    );
    assert_eq!(program.matches("fetch(").count(), 1);
    assert!(
        !STYLE.contains("url(") && !STYLE.contains("@import"),
        "the style sheet fetches something"
    );
    assert!(live().contains("connect-src 'self'") && !POLICY_OF_FILE.contains("connect-src"));
}

#[test]
fn a_text_is_cut_at_datadogs_limit_and_what_is_left_out_is_counted() {
    let whole = serde_json::to_value(view(span(1, &"é".repeat(25_000)))).unwrap();
    assert_eq!(whole["spans"][0]["resource"].as_str().unwrap().chars().count(), 25_000);
    let cut = serde_json::to_value(view(span(1, &"é".repeat(25_003)))).unwrap();
    let text = cut["spans"][0]["resource"].as_str().unwrap();
    assert!(text.ends_with("é… (3 more characters are left out)"), "{}", &text[49_990..]);
}

#[test]
fn blocks_are_small_and_what_has_no_room_is_counted() {
    let long = json!({ "text": "x".repeat(400 << 10) });
    let mut blocks = Blocks::new(1 << 20);
    let places: Vec<_> = (0..5).map(|_| blocks.add(&long).unwrap()).collect();
    assert_eq!(places, [Some((0, 0)), Some((0, 1)), Some((1, 0)), None, None]);
    assert_eq!(blocks.left_out(), 2);
    blocks.close().unwrap();
    assert_eq!(blocks.compressed().len(), 2);
}

#[test]
fn a_trace_says_of_each_span_what_it_was_sent_with() {
    let mut span = span(1, "GET /cart");
    span.trace_id = crate::testing::TRACE_ID.parse().unwrap();
    span.datadog_trace_id = crate::testing::TRACE_ID_LOW;
    let body = crate::testing::traces_body(crate::testing::TRACE_ID, 1);
    let mut sent = Sent::default();
    let mut attempt = crate::testing::encoded("/api/v0.2/traces", "gzip", body);
    attempt.seq = 1;
    sent.add(&attempt);
    let trace = Trace::new(span.trace_id, vec![span.clone(), Span { attempt: 9, ..span }]);
    let view =
        serde_json::to_value(TraceView::new(&trace, 1_750_000_000_000_000_000, &sent)).unwrap();
    let payloads = &view["payloads"];
    assert_eq!(payloads[0]["path"], "/api/v0.2/traces");
    assert_eq!(payloads[0]["shared"]["agentPayload"]["hostName"], "cfg-host");
    assert_eq!(payloads[0]["shared"]["tracerPayload"]["languageName"], "nodejs");
    assert_eq!(payloads[0]["reply"]["status"], 202);
    // An attempt that is not kept.
    assert_eq!((&payloads[1]["attempt"], &payloads[1]["shared"]), (&json!(9), &json!(null)));
    let of_span = |number: usize, key: &str| view["spans"][number][key].clone();
    assert_eq!(
        (of_span(0, "payload"), of_span(1, "payload"), of_span(0, "at")),
        (json!(0), json!(1), json!(0))
    );
    assert_eq!(view["start"], "1750000000000000000");
}
