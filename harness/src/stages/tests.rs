use super::*;

#[test]
fn counters_are_summed_over_their_labels_with_either_name() {
    let text = "# HELP x y\n\
        otelcol_receiver_accepted_spans_total{receiver=\"otlp\",transport=\"grpc\"} 10\n\
        otelcol_receiver_accepted_spans_total{receiver=\"otlp\",transport=\"http\"} 2\n\
        otelcol_receiver_refused_spans{receiver=\"otlp\",transport=\"grpc\"} 3\n\
        otelcol_receiver_failed_spans{receiver=\"otlp\",transport=\"grpc\"} 4\n\
        otelcol_receiver_refused_requests{receiver=\"otlp\",transport=\"grpc\"} 2\n\
        otelcol_exporter_sent_spans{exporter=\"datadog\"} 7\n\
        otelcol_process_uptime 3\n";
    let expected =
        CollectorCounts { accepted: 12, refused: 7, refused_requests: 2, sent: 7, failed: 0 };
    assert_eq!(counted(text), Some(expected));
    assert_eq!(counted("otelcol_process_uptime 3\n"), None);
}

fn taken(accepted: u64) -> Result<CollectorCounts, String> {
    Ok(CollectorCounts { accepted, sent: accepted, ..CollectorCounts::default() })
}

/// Two instances of a service ended 12 spans, the harness sent two of its own to each of three collectors.
fn balanced() -> Stages {
    Stages {
        services: vec![("web".to_owned(), Ok(5)), ("web".to_owned(), Ok(7))],
        collectors: [("c-1", 8), ("c-2", 6), ("c-3", 4)]
            .map(|(name, accepted)| (name.to_owned(), taken(accepted)))
            .to_vec(),
        harness: vec![2, 2, 2],
        harness_undecided: 0,
        captured: Some(18),
        source: "intake took 18 and refused 0 attempts".to_owned(),
    }
}

fn failures(stages: &Stages, collector_instances: u32) -> Vec<String> {
    let findings = stages.judge(BalanceExpect { collector_instances });
    assert_eq!(findings.not_evaluated, []);
    findings.failures.into_iter().map(|failure| failure.detail).collect()
}

#[test]
fn stages_balance_over_the_sums_of_their_instances() {
    assert_eq!(failures(&balanced(), 3), Vec::<String>::new());
    assert!(balanced().is_balanced(BalanceExpect { collector_instances: 3 }));
    assert_eq!(
        balanced().text(),
        "web ended 5; web ended 7; c-1 accepted 8, sent 8; c-2 accepted 6, sent 6; c-3 accepted 4, sent 4; intake took 18 \
         and refused 0 attempts"
    );
}

#[test]
fn a_span_of_the_harness_without_an_ok_may_have_been_taken_or_not() {
    // It was sent, and the answer did not come in time.
    let undecided = Stages { harness: vec![2, 2, 1], harness_undecided: 1, ..balanced() };
    assert_eq!(failures(&undecided, 3), Vec::<String>::new());
    assert!(
        undecided.text().contains("tracecheck had no OK in time for 1"),
        "{}",
        undecided.text()
    );
    let refused = Stages { harness_undecided: 1, ..balanced() };
    assert_eq!(failures(&refused, 3), Vec::<String>::new());
    // One more than can be explained is wrong.
    let lost = Stages { harness: vec![2, 1, 1], harness_undecided: 1, ..balanced() };
    assert!(failures(&lost, 1)[0].contains("ended 16 spans"), "{:?}", failures(&lost, 1));
}

#[test]
fn each_difference_is_reported_with_what_every_stage_says() {
    let lost_before = Stages { services: vec![("web".to_owned(), Ok(13))], ..balanced() };
    let reported = failures(&lost_before, 1);
    assert!(
        reported[0].contains("ended 19 spans") && reported[0].contains("accepted 18"),
        "{reported:?}"
    );
    let lost_after = Stages { captured: Some(17), ..balanced() };
    let reported = failures(&lost_after, 1);
    assert!(reported[0].contains("accepted 18 spans, and the intake took 17"), "{reported:?}");
    let mut given_up = balanced();
    given_up.collectors[0].1 =
        Ok(CollectorCounts { accepted: 8, sent: 7, failed: 1, ..CollectorCounts::default() });
    assert!(failures(&given_up, 1)[0].contains("gave up 1"));
}

#[test]
fn an_instance_that_had_only_the_harnesses_spans_had_no_share() {
    let mut stages = balanced();
    stages.collectors[2].1 = taken(2);
    stages.collectors[0].1 = taken(10);
    assert_eq!(failures(&stages, 2), Vec::<String>::new());
    let reported = failures(&stages, 3);
    assert!(
        reported[0].contains("2 of 3 instances") && reported[0].contains("balances connections"),
        "{reported:?}"
    );
}

#[test]
fn a_stage_that_cannot_report_decides_nothing() {
    let mut stages = balanced();
    stages.collectors[1].1 = Err("it has no port `metrics`".to_owned());
    let findings = stages.judge(BalanceExpect { collector_instances: 1 });
    assert_eq!(findings.failures, []);
    assert!(findings.not_evaluated[0].required, "{findings:?}");
    assert!(findings.not_evaluated[0].because.contains("c-2 is unknown"), "{findings:?}");
    let elsewhere = Stages { captured: None, ..balanced() };
    assert!(!elsewhere.is_balanced(BalanceExpect { collector_instances: 1 }));
}

#[test]
fn what_no_collector_took_was_lost_by_senders() {
    assert_eq!(balanced().lost_by_senders(), Ok(0..=0));
    let mut lossy = balanced();
    lossy.services[1].1 = Ok(10);
    assert_eq!(lossy.lost_by_senders(), Ok(3..=3));
    // Of its own spans the harness may not know.
    lossy.harness_undecided = 2;
    assert_eq!(lossy.lost_by_senders(), Ok(3..=5));
    lossy.collectors[0].1 = Err("it does not answer".to_owned());
    let unknown = lossy.lost_by_senders().unwrap_err();
    assert!(unknown.contains("c-1 is unknown: it does not answer"), "{unknown}");
}
