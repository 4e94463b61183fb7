//! The page of two runs that were compared.

use serde_json::{Value, json};

use crate::{
    browser::{Browser, is_own},
    reports::reports,
};

#[tokio::test]
async fn differences_are_found_by_what_matters_and_by_any_text() {
    let page = Browser::open(&reports().compared).await;
    page.shows("h1", "different").await;
    page.shows("#view", "Monitors, SLOs and APM stats").await;
    page.shows(".card h4", "`resource`").await;
    page.shows(".card .headline", "In Datadog: Datadog makes another resource of it").await;
    let cards = "return document.querySelectorAll('.card').length";
    let all = page.eval(cards).await.as_u64().unwrap();
    page.click(".card summary").await;
    page.shows(".card details[open]", "GET checkout").await;
    page.go("#/?impact=search").await;
    page.shows(".card h4", "`http.useragent` missing in B").await;
    let of_search = page.eval(cards).await.as_u64().unwrap();
    assert!((1..all).contains(&of_search), "{of_search} of {all}");
    page.go("#/").await;
    page.keys("/").await;
    page.type_into("#search", "useragent").await;
    page.at("#/?q=useragent").await;
    page.shows(".card h4", "`http.useragent` missing in B").await;
    assert_eq!(page.eval(cards).await, 1);
    page.type_into("#search", "nothing of it").await;
    page.shows("#view", "No difference has this text.").await;
    page.end().await;
}

#[tokio::test]
async fn a_comparison_fetches_nothing_keeps_contrast_and_shows_hostile_texts_as_texts() {
    let reports = reports();
    for file in [&reports.compared, &reports.compared_hostile] {
        let page = Browser::open(file).await;
        for scheme in ["light", "dark"] {
            for width in [400, 1600] {
                page.emulate(scheme, width, 900).await;
                for view in ["#/", "#/?impact=monitors"] {
                    page.go(view).await;
                    page.eval("document.querySelectorAll('details').forEach((one) => { one.open = true; })").await;
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
        let foreign: Vec<_> =
            page.fetched().await.into_iter().filter(|url| !is_own(url, "file:")).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
        page.end().await;
    }
    let page = Browser::open(&reports.compared_hostile).await;
    page.shows("#view", "</script><img src=x onerror=").await;
    page.shows("#view", "‹U+202E›").await;
    let markup = "return document.querySelectorAll('img, #view script, iframe').length";
    assert_eq!(page.eval(markup).await, 0);
    assert_eq!(page.eval("return globalThis.hostile ?? null").await, Value::Null);
    page.end().await;
}
