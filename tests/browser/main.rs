//! The page in a real browser: the report of a run, and the intake's own page.
//!
//! Needs Debian's `chromium` and `chromium-driver`; run by `tests/browser/run`. With
//! `TRACECHECK_SCREENSHOTS` it writes the pictures of docs/how-to/report.md into that folder.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails the test")]

mod browser;
mod compared;
mod live;
mod reports;
mod screenshots;

use serde_json::{Value, json};

use self::{
    browser::{Browser, is_own},
    reports::{Reports, reports},
};

/// Every view of a report, as addresses.
fn views(of: &Reports) -> Vec<String> {
    let trace = format!("#/trace/{}", of.trace);
    let mut views =
        ["#/", "#/traces", "#/map", "#/ledger", "#/stats", "#/nowhere"].map(str::to_owned).to_vec();
    views.push(format!("#/scenario/{}", of.scenario));
    views.extend([format!("{trace}/{}", of.span), trace]);
    views
}

#[tokio::test]
async fn verdicts_come_first_and_every_view_has_its_own_address() {
    let reports = reports();
    let page = Browser::open(&reports.broken).await;
    page.shows("#view .card.fail .headline", "missing-hop").await;
    page.shows("h1", "fail").await;
    page.go(&format!("#/trace/{}", reports.trace)).await;
    page.shows(".diagnosis .first", "the link sample-app-1 -> sample-app-2 is broken").await;
    page.shows(".waterfall", "broken hop: sample-app-1 → sample-app-2").await;
    page.shows(".trees", "expected").await;
    page.go(&format!("#/trace/{}/{}", reports.trace, reports.span)).await;
    page.shows(".panel", "span.kind").await;
    page.shows(".panel", "Raw Datadog payload").await;
    page.shows(".panel", "what services send to the collector is not captured").await;
    let raw = page.text(".panel .raw").await;
    let raw = raw.replace(char::is_whitespace, "");
    assert!(raw.contains("\"agentPayload\":{") && raw.contains("\"spanID\":"), "{raw}");
    page.go(&format!("#/scenario/{}", reports.scenario)).await;
    page.shows("#view", "Service map").await;
    page.shows(".graph", "missing").await;
    page.go("#/map").await;
    page.shows(".graph", "missing").await;
    // An address as the intake's page once had it.
    page.go(&format!("#{}", reports.trace)).await;
    page.shows("h2", &reports.trace).await;
    page.go("#/trace/00000000000000000000000000000000").await;
    page.shows("#view", "is not in this report").await;
    page.end().await;
}

#[tokio::test]
async fn search_and_filter_find_by_id_service_and_the_text_of_any_span() {
    let reports = reports();
    let page = Browser::open(&reports.many).await;
    page.go("#/traces").await;
    page.shows("[role=status]", "10,000 traces of 10,000").await;
    page.type_into("#search", &reports.one_of_many).await;
    page.shows("[role=status]", "1 trace of 10,000, by their spans too").await;
    page.type_into("#search", "needle in no list").await;
    page.shows("[role=status]", "1 trace of 10,000, by their spans too").await;
    page.type_into("#search", "sample-app-2").await;
    page.shows("[role=status]", "10,000 traces of 10,000").await;
    page.type_into("#search", "").await;
    page.shows("[role=status]", "10,000 traces of 10,000").await;
    page.end().await;
    let page = Browser::open(&reports.broken).await;
    page.go("#/traces?verdict=fail").await;
    let failing = page.eval("return document.querySelectorAll('.trow.fail').length").await;
    page.click(".chip[aria-current]").await;
    page.shows("[role=status]", &format!("{failing} traces of ")).await;
    page.go("#/traces?verdict=pass").await;
    page.shows("[role=status]", " traces of ").await;
    assert_eq!(page.eval("return document.querySelectorAll('.trow.fail').length").await, 0);
    page.go("#/?verdict=pass").await;
    assert_eq!(page.eval("return document.querySelectorAll('.card').length").await, 0);
    page.end().await;
}

#[tokio::test]
async fn the_keyboard_is_enough() {
    let reports = reports();
    let page = Browser::open(&reports.broken).await;
    // The second key comes before the browser can say that the address changed.
    let both = "const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
        press('2'); return Promise.resolve().then(() => press('ArrowDown'))";
    page.eval(both).await;
    page.at("#/traces").await;
    page.shows(".chosen", "").await;
    page.keys("\u{e007}").await;
    page.at("#/trace/").await;
    page.shows(".waterfall", "sample-app-1").await;
    // To the first span, and open it.
    page.keys("j").await;
    page.keys("\u{e007}").await;
    page.shows(".panel", "Meta").await;
    assert!(page.address().await.matches('/').count() > 2, "{}", page.address().await);
    page.keys("\u{e00c}").await;
    page.gone(".panel").await;
    // Fold all that is below the first span, and unfold it.
    let rows = "return document.querySelectorAll('.waterfall .list .wrow').length";
    let all = page.eval(rows).await;
    page.keys("\u{e011}").await;
    page.keys("\u{e012}").await;
    assert!(page.eval(rows).await.as_u64() < all.as_u64());
    page.keys("\u{e014}").await;
    assert_eq!(page.eval(rows).await, all);
    page.keys("n").await;
    page.at("#/trace/").await;
    page.keys("/").await;
    assert_eq!(page.eval("return document.activeElement.id").await, "search");
    page.keys("\u{e00c}").await;
    page.keys("?").await;
    page.shows("dialog[open]", "search").await;
    page.keys("\u{e00c}").await;
    page.gone("dialog[open]").await;
    page.keys("1").await;
    page.at("#/").await;
    page.end().await;
}

#[tokio::test]
async fn nothing_is_fetched_and_texts_keep_contrast_in_light_and_dark() {
    let reports = reports();
    for file in [&reports.broken, &reports.passed, &reports.hostile] {
        let page = Browser::open(file).await;
        for scheme in ["light", "dark"] {
            for width in [400, 1600] {
                page.emulate(scheme, width, 900).await;
                for view in views(reports) {
                    page.go(&view).await;
                    let low = page.eval(include_str!("contrast.js")).await;
                    assert_eq!(low, json!([]), "{} {view} {scheme} {width}", file.display());
                    let wide =
                        page.eval("return document.documentElement.scrollWidth - innerWidth").await;
                    assert!(
                        wide.as_i64().unwrap() <= 0,
                        "{view} is {wide} pixels too wide at {width}"
                    );
                }
            }
        }
        let fetched = page.fetched().await;
        assert!(!fetched.is_empty(), "the browser says nothing of what it fetches");
        let foreign: Vec<_> = fetched.iter().filter(|url| !is_own(url, "file:")).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
        page.end().await;
    }
}

#[tokio::test]
async fn hostile_texts_are_shown_as_texts() {
    let reports = reports();
    let page = Browser::open(&reports.hostile).await;
    page.go(&format!("#/trace/{}", reports.trace)).await;
    page.shows(".waterfall", "</script><img src=x onerror=").await;
    assert_eq!(
        page.eval("return document.querySelectorAll('img, #view script, iframe').length").await,
        0
    );
    assert_eq!(page.eval("return globalThis.hostile ?? null").await, Value::Null);
    // The order of what is around a text from right to left does not change, and control characters are seen.
    page.shows(".waterfall", "‹U+202E›").await;
    page.shows(".waterfall", "␀␇").await;
    page.go(&format!("#/trace/{}/{}", reports.trace, reports.span)).await;
    page.shows(".panel", "show all 25,000 characters").await;
    let long = "return [...document.querySelectorAll('.panel td')].some((one) => one.textContent.length >= 25000)";
    assert_eq!(page.eval(long).await, false);
    page.click(".panel .pairs .more").await;
    assert_eq!(page.eval(long).await, true);
    let policy = "try { document.body.innerHTML = '<b>x</b>'; return 'set' } catch (error) { return error.name }";
    assert_eq!(page.eval(policy).await, "TypeError");
    page.end().await;
}

#[tokio::test]
async fn a_trace_of_10_000_spans_and_a_run_of_10_000_traces_stay_usable() {
    let reports = reports();
    let page = Browser::open(&reports.long).await;
    let took = page.timed(&format!("#/trace/{}", reports.trace)).await;
    println!("first picture of 10,000 spans after {took} ms");
    assert!(took < 500.0 * reports::slack(), "{took} ms");
    let drawn =
        page.eval("return document.querySelectorAll('.waterfall .list .wrow').length").await;
    assert!((10..200).contains(&drawn.as_u64().unwrap()), "{drawn} rows are drawn");
    page.keys("\u{e010}").await;
    page.shows(".waterfall .list", "span 9,999").await;
    page.end().await;
    let page = Browser::open(&reports.many).await;
    let opened = page.eval("return Number(document.documentElement.dataset.shown)").await;
    println!("a run of 10,000 traces is open after {opened} ms");
    assert!(opened.as_f64().unwrap() < 2_000.0 * reports::slack(), "{opened} ms");
    let took = page.timed("#/traces").await;
    println!("the list of 10,000 traces after {took} ms");
    assert!(took < 500.0 * reports::slack(), "{took} ms");
    page.end().await;
}
