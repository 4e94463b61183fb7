//! The pictures of docs/how-to/report.md.

use std::path::PathBuf;

use crate::{browser::Browser, reports::reports};

#[tokio::test]
async fn pictures_are_written_where_they_are_asked_for() {
    let reports = reports();
    let folder = match std::env::var_os("TRACECHECK_SCREENSHOTS") {
        Some(folder) => PathBuf::from(folder),
        None => reports.passed.with_file_name("pictures"),
    };
    std::fs::create_dir_all(&folder).unwrap();
    let scenes = [
        ("passed", &reports.passed, "#/scenario/checkout".to_owned()),
        ("broken-hop", &reports.broken, format!("#/trace/{}", reports.trace)),
        ("compared", &reports.compared, "#/".to_owned()),
        ("long-trace", &reports.long, format!("#/trace/{}", reports.trace)),
    ];
    for (name, file, hash) in scenes {
        let page = Browser::open(file).await;
        for scheme in ["light", "dark"] {
            for (width, height) in [(400, 1400), (1600, 1000)] {
                page.emulate(scheme, width, height).await;
                page.go("#/nowhere").await;
                page.go(&hash).await;
                let picture = folder.join(format!("report-{name}-{width}-{scheme}.png"));
                page.picture(&picture).await;
                let bytes = std::fs::metadata(&picture).unwrap().len();
                assert!(bytes > 5_000, "{} has {bytes} bytes only", picture.display());
            }
        }
        page.end().await;
    }
}
