//! Each exporter against each reply, all at the same time, since they mostly wait; and the tables of what was seen.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::sleep;
use tonic::Code;

use crate::{
    exporters::{self, Case, Exporter, Language, Plan, Sending, install},
    page::{say, table, today, write},
    scripted::{Attempt, Kind, Reply, Scripted},
};

/// How long is looked for attempts: the longest delay that is given, the batch processor's, and some more.
pub(crate) const WATCHED: Duration = Duration::from_secs(140);
/// Longer than any exporter waits for a reply.
const LATE: Duration = Duration::from_secs(15);
const SPANS: u32 = 10;

/// One exporter against one reply.
struct Run {
    exporter: Exporter,
    reply: Reply,
    stand_in: Scripted,
}

/// Returns a partial success's message to this exporter.
fn rejected(exporter: Exporter) -> String {
    format!("one span was rejected over {}", exporter.protocol)
}

pub(crate) const fn at_once(kind: Kind) -> Reply {
    Reply { kind, after: None, delay: Duration::ZERO }
}

const fn after(kind: Kind, seconds: u64) -> Reply {
    Reply { kind, after: Some(Duration::from_secs(seconds)), delay: Duration::ZERO }
}

/// Refusals that are to be tried again, by what they say.
pub(crate) const REFUSALS: [(&str, [Option<Reply>; 2]); 6] = {
    const BUSY: Kind = Kind::Http(503);
    const AWAY: Kind = Kind::Grpc(Code::Unavailable);
    const SPENT: Kind = Kind::Grpc(Code::ResourceExhausted);
    [
        ("no delay given", [Some(at_once(BUSY)), Some(at_once(AWAY))]),
        ("1 s", [Some(after(BUSY, 1)), Some(after(AWAY, 1))]),
        ("3 s", [Some(after(BUSY, 3)), Some(after(AWAY, 3))]),
        ("120 s", [Some(after(BUSY, 120)), Some(after(AWAY, 120))]),
        ("RESOURCE_EXHAUSTED, no delay given", [None, Some(at_once(SPENT))]),
        ("RESOURCE_EXHAUSTED, 3 s", [None, Some(after(SPENT, 3))]),
    ]
};

const STATUSES: [u16; 7] = [400, 408, 429, 500, 502, 503, 504];

const CODES: [(&str, Code); 10] = [
    ("CANCELLED", Code::Cancelled),
    ("UNKNOWN", Code::Unknown),
    ("INVALID_ARGUMENT", Code::InvalidArgument),
    ("DEADLINE_EXCEEDED", Code::DeadlineExceeded),
    ("ABORTED", Code::Aborted),
    ("OUT_OF_RANGE", Code::OutOfRange),
    ("UNIMPLEMENTED", Code::Unimplemented),
    ("INTERNAL", Code::Internal),
    ("UNAVAILABLE", Code::Unavailable),
    ("DATA_LOSS", Code::DataLoss),
];

pub(crate) const TAKEN: Reply = at_once(Kind::Taken);
const PARTIAL: Reply = at_once(Kind::Partial);
const TOO_LATE: Reply = Reply { kind: Kind::Taken, after: None, delay: LATE };

/// Every reply that an exporter is to meet.
fn replies(exporter: Exporter) -> Vec<Reply> {
    let side = usize::from(exporter.is_grpc());
    let mut all: Vec<Reply> = REFUSALS.iter().filter_map(|(_, replies)| replies[side]).collect();
    match exporter.is_grpc() {
        true => all.extend(CODES.map(|(_, code)| at_once(Kind::Grpc(code)))),
        false => all.extend(STATUSES.map(|status| at_once(Kind::Http(status)))),
    }
    all.extend([TAKEN, PARTIAL, TOO_LATE]);
    let mut different: Vec<Reply> = Vec::new();
    for reply in all {
        if !different.contains(&reply) {
            different.push(reply);
        }
    }
    different
}

/// Runs all, and writes the tables into `docs/senders.md`.
pub(crate) async fn run() -> anyhow::Result<bool> {
    let senders = install().await?;
    let mut runs = Vec::new();
    for exporter in exporters::ALL {
        for reply in replies(exporter) {
            let stand_in = Scripted::start(reply, rejected(exporter)).await?;
            runs.push(Run { exporter, reply, stand_in });
        }
    }
    let mut sendings: Vec<(Language, Sending)> = Vec::new();
    for (language, sender) in &senders {
        let of_it = runs.iter().filter(|run| run.exporter.language == *language);
        let cases = of_it.map(|run| Case {
            name: "sender".to_owned(),
            protocol: run.exporter.protocol.to_owned(),
            endpoint: format!("http://{}", run.stand_in.address),
        });
        let plan = Plan { cases: cases.collect(), spans: SPANS, seconds: 0.0 };
        sendings.push((*language, sender.start(&plan).await?));
    }
    say(&format!(
        "{} exporters against {} replies, for {WATCHED:?}",
        exporters::ALL.len(),
        runs.len()
    ));
    for (_, sending) in &mut sendings {
        sending.go().await?;
    }
    sleep(WATCHED).await;
    let mut said = BTreeMap::new();
    for (language, sending) in sendings {
        said.insert(language, sending.kill().await?);
    }
    let seen = Results { runs, said };
    let silent = seen.silent();
    for run in &silent {
        say(&format!(
            "{} sent nothing to the stand-in that replies {:?}",
            run.exporter.name(),
            run.reply
        ));
    }
    write("senders.md", "versions", &seen.versions()?)?;
    write("senders.md", "delays", &seen.delays())?;
    write("senders.md", "statuses", &seen.statuses())?;
    write("senders.md", "codes", &seen.codes())?;
    write("senders.md", "habits", &seen.habits())?;
    say("docs/senders.md is written");
    Ok(silent.is_empty())
}

/// Results of all exporters.
struct Results {
    runs: Vec<Run>,
    said: BTreeMap<Language, String>,
}

impl Results {
    /// Those of whom nothing came, which proves nothing.
    fn silent(&self) -> Vec<&Run> {
        self.runs.iter().filter(|run| run.stand_in.attempts().is_empty()).collect()
    }

    fn attempts(&self, exporter: Exporter, reply: Reply) -> Option<Vec<Attempt>> {
        let run = self.runs.iter().find(|run| run.exporter == exporter && run.reply == reply)?;
        Some(run.stand_in.attempts())
    }

    fn versions(&self) -> anyhow::Result<String> {
        let versions: Result<Vec<String>, _> = Language::ALL
            .map(|language| anyhow::Ok(format!("{} {}", language.name(), language.versions()?)))
            .into_iter()
            .collect();
        Ok(format!("Seen on {}: {}.", today(), versions?.join(", ")))
    }

    /// For how long each exporter keeps a batch that is refused.
    fn delays(&self) -> String {
        let mut head = vec!["exporter".to_owned()];
        head.extend(REFUSALS.map(|(name, _)| name.to_owned()));
        let rows = exporters::ALL.map(|exporter| {
            let cells = REFUSALS.map(|(_, replies)| {
                let reply = replies[usize::from(exporter.is_grpc())];
                let attempts = reply.and_then(|reply| self.attempts(exporter, reply));
                attempts.map_or_else(|| "–".to_owned(), |attempts| kept(&attempts))
            });
            [vec![exporter.name()], cells.to_vec()].concat()
        });
        table(&head, &rows)
    }

    fn statuses(&self) -> String {
        let head: Vec<String> = std::iter::once("exporter".to_owned())
            .chain(STATUSES.map(|status| status.to_string()))
            .collect();
        let http = exporters::ALL.into_iter().filter(|exporter| !exporter.is_grpc());
        let rows: Vec<_> = http
            .map(|exporter| {
                let cells = STATUSES.map(|status| self.again(exporter, Kind::Http(status)));
                [vec![exporter.name()], cells.to_vec()].concat()
            })
            .collect();
        table(&head, &rows)
    }

    fn codes(&self) -> String {
        let grpc: Vec<_> =
            exporters::ALL.into_iter().filter(|exporter| exporter.is_grpc()).collect();
        let mut head = vec!["code".to_owned()];
        head.extend(grpc.iter().map(|exporter| exporter.language.name().to_owned()));
        let rows = CODES.map(|(name, code)| {
            let cells = grpc.iter().map(|exporter| self.again(*exporter, Kind::Grpc(code)));
            std::iter::once(name.to_owned()).chain(cells).collect()
        });
        table(&head, &rows)
    }

    /// How many more attempts follow a reply that gives no delay.
    fn again(&self, exporter: Exporter, kind: Kind) -> String {
        match self.attempts(exporter, at_once(kind)).map(|attempts| attempts.len()) {
            None => "–".to_owned(),
            Some(0 | 1) => "–".to_owned(),
            Some(attempts) => (attempts - 1).to_string(),
        }
    }

    fn habits(&self) -> String {
        let head = [
            "exporter",
            "User-Agent",
            "compressed",
            "says so of a partial success",
            "a reply after 15 s",
        ];
        let rows = exporters::ALL.map(|exporter| {
            let taken = self.attempts(exporter, TAKEN).unwrap_or_default();
            let first = taken.first();
            let compression = first.map_or("", |attempt| attempt.compression.as_str());
            let compression =
                if ["", "identity"].contains(&compression) { "no" } else { compression };
            let late = self.attempts(exporter, TOO_LATE).unwrap_or_default();
            let late = match late.len() {
                1 => "given up: sent once".to_owned(),
                attempts => format!("sent {attempts} times"),
            };
            vec![
                exporter.name(),
                format!("`{}`", first.map_or("", |attempt| attempt.agent.as_str())),
                compression.to_owned(),
                self.reports_partial(exporter),
                late,
            ]
        });
        table(&head.map(str::to_owned), &rows)
    }

    /// Returns whether a language's SDK says what a partial success does, as it is set up without anything further.
    fn reports_partial(&self, exporter: Exporter) -> String {
        let said = self.said.get(&exporter.language).map_or("", String::as_str);
        if said.contains(&rejected(exporter)) { "yes".to_owned() } else { "no".to_owned() }
    }
}

/// From the first refusal to the last attempt, and how many attempts there were.
pub(crate) fn kept(attempts: &[Attempt]) -> String {
    let (Some(first), Some(last)) = (attempts.first(), attempts.last()) else {
        return "nothing came".to_owned();
    };
    let seconds = last.at.duration_since(first.at).as_secs_f64();
    match attempts.len() {
        1 => "**0 s**".to_owned(),
        count => format!("{seconds:.1} s ({count} attempts)"),
    }
}
