//! The JUnit report as others read it: Jenkins' xUnit schema (junit-10.xsd), and the subset that GitLab documents.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails the test")]

use std::{collections::BTreeMap, fs};

use quick_xml::{Reader, events::Event};

use crate::support::{ScenarioFile, TRACECHECK, root};

/// Elements by their names: the attributes they may have and must have, and the elements they may hold.
struct Rule {
    name: &'static str,
    may: &'static [&'static str],
    must: &'static [&'static str],
    holds: &'static [&'static str],
}

/// Jenkins' schema. Beyond it, and ignored by it where it is not strict: `skipped` of all suites, and of a test case its `file`, which
/// GitLab links, and its properties, which Surefire's schema has and the `junit` step keeps.
const RULES: [Rule; 9] = [
    Rule {
        name: "testsuites",
        may: &["name", "time", "tests", "failures", "errors", "skipped"],
        must: &[],
        holds: &["testsuite"],
    },
    Rule {
        name: "testsuite",
        may: &["name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname"],
        must: &["name", "tests", "failures", "errors"],
        holds: &["properties", "testcase", "system-out", "system-err"],
    },
    Rule {
        name: "testcase",
        may: &["name", "classname", "time", "file"],
        must: &["name", "classname"],
        holds: &["properties", "skipped", "error", "failure", "system-out", "system-err"],
    },
    Rule { name: "properties", may: &[], must: &[], holds: &["property"] },
    Rule { name: "property", may: &["name", "value"], must: &["name", "value"], holds: &[] },
    Rule { name: "failure", may: &["type", "message"], must: &["message"], holds: &[] },
    Rule { name: "error", may: &["type", "message"], must: &["message"], holds: &[] },
    Rule { name: "skipped", may: &["type", "message"], must: &[], holds: &[] },
    Rule { name: "system-out", may: &[], must: &[], holds: &[] },
];

#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: BTreeMap<String, String>,
    children: Vec<Element>,
    text: String,
}

impl Element {
    fn all<'a>(&'a self, name: &'a str) -> Box<dyn Iterator<Item = &'a Element> + 'a> {
        let own = self.children.iter().filter(move |child| child.name == name);
        Box::new(own.chain(self.children.iter().flat_map(move |child| child.all(name))))
    }

    fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

fn read(xml: &str) -> Element {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().check_comments = true;
    let mut open = vec![Element::default()];
    let made = |start: &quick_xml::events::BytesStart<'_>| {
        let attributes = start.attributes().map(|attribute| {
            let attribute = attribute.unwrap();
            let value = attribute
                .decoded_and_normalized_value(quick_xml::XmlVersion::Implicit1_0, start.decoder());
            (String::from_utf8(attribute.key.0.to_vec()).unwrap(), value.unwrap().into_owned())
        });
        let name = String::from_utf8(start.name().0.to_vec()).unwrap();
        Element { name, attributes: attributes.collect(), ..Element::default() }
    };
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => open.push(made(&start)),
            Event::Empty(start) => open.last_mut().unwrap().children.push(made(&start)),
            Event::End(_) => {
                let done = open.pop().unwrap();
                open.last_mut().unwrap().children.push(done);
            }
            Event::Text(text) => open.last_mut().unwrap().text += &text.decode().unwrap(),
            Event::CData(text) => open.last_mut().unwrap().text += &text.decode().unwrap(),
            Event::GeneralRef(name) => {
                open.last_mut().unwrap().text += &format!("&{};", name.decode().unwrap());
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(open.len(), 1, "an element is not closed");
    let mut all = open.pop().unwrap();
    assert_eq!(all.children.len(), 1, "there is one root");
    all.children.remove(0)
}

/// Returns what a strict reader would refuse.
fn problems(element: &Element, found: &mut Vec<String>) {
    let name = &element.name;
    let Some(rule) = RULES.iter().find(|rule| rule.name == name) else {
        found.push(format!("there is no element <{name}>"));
        return;
    };
    for key in element.attributes.keys().filter(|key| !rule.may.contains(&key.as_str())) {
        found.push(format!("<{name}> has no attribute `{key}`"));
    }
    for key in rule.must.iter().filter(|key| !element.attributes.contains_key(**key)) {
        found.push(format!("<{name}> lacks `{key}`"));
    }
    if let Some(time) = element.attributes.get("time") {
        let is_number = time.parse::<f64>().is_ok_and(|time| time >= 0.0);
        if !is_number || time.contains(['e', '+', ',']) {
            found.push(format!("<{name}> has the time `{time}`"));
        }
    }
    for child in &element.children {
        if !rule.holds.contains(&child.name.as_str()) {
            found.push(format!("<{name}> holds <{}>", child.name));
        }
        problems(child, found);
    }
    if name == "testsuite" {
        for (attribute, child) in [
            ("tests", "testcase"),
            ("failures", "failure"),
            ("errors", "error"),
            ("skipped", "skipped"),
        ] {
            let counted = element.all(child).count().to_string();
            if element.attribute(attribute) != counted {
                found.push(format!(
                    "<testsuite> says {attribute}=\"{}\", and has {counted}",
                    element.attribute(attribute)
                ));
            }
        }
        let mut names: Vec<_> =
            element.all("testcase").map(|case| case.attribute("name")).collect();
        names.sort_unstable();
        // GitLab takes the first of a name, and leaves out all others.
        if names.windows(2).any(|two| two[0] == two[1]) {
            found.push("two test cases have one name".to_owned());
        }
    }
}

#[test]
fn jenkins_and_gitlab_read_passed_failed_undecided_and_skipped_scenarios() {
    let scenario = |name: &str, expect: &str, more: &str| {
        format!(
            "name: {name}\ndescription: \"It is <b> & ]]> \\u202e.\"\nrequests:\n  - {{ get: /outgoing-sampleapp, times: 2 }}\n\
             expect: {{ within: 5s{expect} }}\n{more}"
        )
    };
    let lost = "faults:\n  - { at: sample-app-2, status: 503 }\n";
    let otlp = "system: { chain: { collector_config: collector.yaml } }\n";
    let beyond = "requires:\n  - { collector: otlphttp-exporter, because: 'it & <others>' }\n";
    let config = fs::read_to_string(root().join("scenarios/collector/otlp-intake.yaml")).unwrap();
    let file = ScenarioFile::new(&scenario("good", "", ""));
    let folder = file.path().replace("/scenario.yaml", "");
    let file = |name: &str, text: &str| fs::write(format!("{folder}/{name}"), text).unwrap();
    file("bad.yaml", &scenario("bad", ", spans: [{ at: sample-app-1, count: 7 }]", lost));
    // Of OTLP Datadog computes the stats.
    file("undecided.yaml", &scenario("undecided", ", stats: [{ hits: 1 }]", otlp));
    file("skipped.yaml", &scenario("skipped", "", beyond));
    fs::create_dir(format!("{folder}/collector")).unwrap();
    fs::rename(format!("{folder}/undecided.yaml"), format!("{folder}/collector/undecided.yaml"))
        .unwrap();
    file("collector/collector.yaml", &config);
    let report = format!("{folder}/junit.xml");
    let collector = format!("{TRACECHECK} collector");
    let undecided = format!("{folder}/collector/undecided.yaml");
    let ran = crate::support::tracecheck(&[
        "run",
        &folder,
        &undecided,
        "--junit",
        &report,
        "--collector-command",
        &collector,
    ]);
    assert_ne!(ran.code, Some(2), "{}", ran.stderr);
    let xml = fs::read_to_string(&report).unwrap();
    let root = read(&xml);
    assert_eq!(root.name, "testsuites");
    let mut found = Vec::new();
    problems(&root, &mut found);
    assert!(found.is_empty(), "{}\n{xml}", found.join("\n"));
    assert_eq!(root.all("testcase").count(), 4);
    for one in ["failure", "error", "skipped"] {
        assert_eq!(root.all(one).count(), 1, "{one}: {xml}");
    }
    for case in root.all("testcase") {
        assert!(case.attribute("file").ends_with(".yaml"), "{case:?}");
    }
    let traces = root.all("property").filter(|one| one.attribute("name").starts_with("trace."));
    for trace in traces {
        let id = trace.attribute("value");
        assert!(id.len() == 32 && xml.matches(id).count() > 1, "{id} is in `system-out`, too");
    }
    assert!(root.all("system-out").any(|out| out.text.contains("expected")), "{xml}");
}

#[test]
fn what_a_strict_reader_refuses_is_found() {
    let refused = |xml: &str| {
        let mut found = Vec::new();
        problems(&read(xml), &mut found);
        found
    };
    let suite = "<testsuite name=\"a\" tests=\"1\" failures=\"0\" errors=\"0\" skipped=\"0\">";
    let case = "<testcase name=\"b\" classname=\"c\" time=\"0.1\"/>";
    assert_eq!(refused(&format!("<testsuites>{suite}{case}</testsuite></testsuites>")), [""; 0]);
    assert_eq!(
        refused(&format!("<testsuites x=\"y\">{suite}{case}{case}<z/></testsuite></testsuites>")),
        [
            "<testsuites> has no attribute `x`",
            "<testsuite> holds <z>",
            "there is no element <z>",
            "<testsuite> says tests=\"1\", and has 2",
            "two test cases have one name",
        ]
    );
}
