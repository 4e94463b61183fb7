//! Running `eksctl` and `aws`: their words as they come, their end, and their end when it does not come by itself.

use std::{collections::VecDeque, io, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{super::kind::Progress, unavailable};
use crate::EnvironmentError;

/// Advice for each program where it is missing or fails.
const PROGRAMS: [(&str, &str, &str); 2] = [
    (
        "eksctl",
        "install it (eksctl.io), or use `--env cluster` with a cluster that is there",
        "see what it says; do the credentials for AWS hold, and may they make clusters?",
    ),
    (
        "aws",
        "install the AWS CLI",
        "see what it says; may the credentials read and update roles of IAM?",
    ),
];
/// How long it may take to end after SIGTERM.
const END_GRACE: Duration = Duration::from_secs(5);
/// How long its output is read after its end; programs that it started may hold it open.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);
/// Lines that wait to be reported.
const LINES: usize = 256;
/// The last lines that an error has.
const TAIL: usize = 12;
/// Most bytes of its answer that are kept.
const ANSWER_LIMIT: usize = 8 << 20;

/// Text that it wrote to stdout.
pub(super) struct Said {
    pub(super) stdout: String,
}

/// A process group that ends with this value.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        let _may_be_gone = killpg(self.0, Signal::SIGKILL);
    }
}

/// Runs `eksctl`, and waits for its end. Its lines are reported as they come, where somebody asked for them.
pub(super) async fn eksctl(
    words: &[&str],
    limit: Duration,
    progress: Option<Progress<'_>>,
) -> Result<Said, EnvironmentError> {
    run(PROGRAMS[0], words, limit, progress).await
}

/// Runs `aws`, and waits for its end.
pub(super) async fn aws(words: &[&str], limit: Duration) -> Result<Said, EnvironmentError> {
    run(PROGRAMS[1], words, limit, None).await
}

async fn run(
    (program, how_to_get_it, when_it_fails): (&str, &str, &str),
    words: &[&str],
    limit: Duration,
    progress: Option<Progress<'_>>,
) -> Result<Said, EnvironmentError> {
    let line = format!("{program} {}", words.join(" "));
    let mut command = Command::new(program);
    // A group of its own: Ctrl-C is for us, who then delete what it made.
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).process_group(0);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            unavailable(format!("there is no program `{program}`"), how_to_get_it)
        }
        _ => unavailable(format!("`{line}` cannot be run: {error}"), "look at the program"),
    })?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let _group = id.map(Group);
    let (send, mut lines) = mpsc::channel(LINES);
    for_each_line(child.stdout.take(), true, &send);
    for_each_line(child.stderr.take(), false, &send);
    drop(send);
    let mut stdout = String::new();
    let mut tail = VecDeque::new();
    let mut take = |(is_answer, line): (bool, String)| {
        if let Some(progress) = progress
            && !line.trim().is_empty()
        {
            progress(&format!("{program}: {line}"));
        }
        if is_answer && stdout.len() < ANSWER_LIMIT {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        if !line.trim().is_empty() {
            tail.push_back(line);
            if tail.len() > TAIL {
                tail.pop_front();
            }
        }
    };
    let ended = async {
        loop {
            tokio::select! {
                Some(line) = lines.recv() => take(line),
                status = child.wait() => break status,
            }
        }
    };
    let ended = timeout(limit, ended).await;
    if ended.is_err()
        && let Some(id) = id
    {
        let _may_be_gone = killpg(id, Signal::SIGTERM);
        tokio::select! {
            _ = child.wait() => {}
            () = sleep(END_GRACE) => {}
        }
    }
    let rest = async {
        while let Some(line) = lines.recv().await {
            take(line);
        }
    };
    let _somebody_holds_it_open = timeout(OUTPUT_GRACE, rest).await;
    let last = tail.iter().map(|line| format!("\n  {line}")).collect::<String>();
    match ended {
        Err(_) => Err(unavailable(
            format!(
                "`{line}` did not end within {}; its last lines:{}\n",
                humantime::format_duration(limit),
                if last.is_empty() { " none" } else { &last }
            ),
            "look at the stacks of CloudFormation; `--eks-limit` gives more time for making a cluster",
        )),
        Ok(Err(error)) => {
            Err(unavailable(format!("the end of `{line}` was missed: {error}"), "start again"))
        }
        Ok(Ok(status)) if status.success() => Ok(Said { stdout }),
        Ok(Ok(status)) => {
            Err(unavailable(format!("`{line}` failed ({status}):{last}\n"), when_it_fails))
        }
    }
}

/// Sends each line; a line that is no UTF-8 as far as it is.
fn for_each_line(
    output: Option<impl AsyncRead + Unpin + Send + 'static>,
    is_answer: bool,
    send: &mpsc::Sender<(bool, String)>,
) {
    let Some(output) = output else { return };
    let send = send.clone();
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if send.send((is_answer, line)).await.is_err() {
                return;
            }
        }
    });
}
