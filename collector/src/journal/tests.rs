//! A journal from outside: what is kept over restarts, what a full or broken disk does to it, and that its room is bounded.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{AppendError, Journal, Options, Progress, Recovery};

fn options() -> Options {
    Options { max_bytes: 64 << 20, fsync: false, lock_timeout: Duration::from_secs(10) }
}

fn open(directory: &Path, options: Options) -> (Journal, Recovery) {
    Journal::open(directory, options).unwrap()
}

/// A body with its number.
fn body(number: u64, size: usize) -> Vec<u8> {
    number.to_le_bytes().repeat(size.div_ceil(8))
}

async fn append(journal: &Journal, number: u64, size: usize) -> Result<(), AppendError> {
    let appended = journal.append(2, |out| out.extend(body(number, size))).await?;
    assert_eq!(appended.keep(), number);
    Ok(())
}

/// Forgets a journal as a process that is killed does: nothing more is written.
async fn kill(journal: Journal) {
    journal.close().await;
}

fn numbers(recovery: &Recovery) -> Vec<u64> {
    recovery.found.iter().map(|found| found.number).collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|it| it == "journal")).collect();
    files.sort();
    files
}

#[tokio::test]
async fn records_are_kept_until_they_are_done_also_over_restarts() {
    for fsync in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { fsync, ..options() };
        let (journal, recovery) = open(directory.path(), options.clone());
        assert_eq!(recovery, Recovery::default());
        for number in 1..=5 {
            append(&journal, number, 1000).await.unwrap();
        }
        journal.mark(2, Progress::Done);
        journal.mark(3, Progress::Sent);
        journal.mark(4, Progress::Counted(70));
        journal.mark(4, Progress::Counted(60));
        kill(journal).await;

        let (journal, recovery) = open(directory.path(), options.clone());
        assert_eq!(numbers(&recovery), [1, 3, 4, 5]);
        assert_eq!((recovery.damaged_bytes, recovery.lost_records), (0, 0));
        let known: Vec<_> =
            recovery.found.iter().map(|found| (found.is_sent, found.counted_until)).collect();
        assert_eq!(known, [(false, 0), (true, 0), (false, 70), (false, 0)]);
        assert_eq!(journal.unsent_spans(), 6);
        for number in [1, 3, 4, 5] {
            assert_eq!(journal.read(number).unwrap(), body(number, 1000));
        }
        assert!(journal.read(2).is_err());
        append(&journal, 6, 10).await.unwrap();
        for number in [1, 3, 4, 5, 6] {
            journal.mark(number, Progress::Done);
        }
        kill(journal).await;
        let (_, recovery) = open(directory.path(), options);
        assert_eq!(recovery, Recovery::default());
        assert_eq!(files(directory.path()).len(), 1, "only the one that is written to");
    }
}

#[tokio::test]
async fn a_record_that_nobody_keeps_is_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(directory.path(), options());
    drop(journal.append(1, |out| out.push(1)).await.unwrap());
    {
        // Its sender goes away before it hears that the record is written.
        let append = journal.append(1, |out| out.push(2));
        let mut append = std::pin::pin!(append);
        let waker = std::task::Waker::noop();
        let pending = append.as_mut().poll(&mut std::task::Context::from_waker(waker));
        assert!(pending.is_pending() || matches!(pending, std::task::Poll::Ready(Ok(_))));
    }
    append(&journal, 3, 1).await.unwrap();
    // The answer that nobody waits for is dropped by a thread of its own here.
    let deadline = Instant::now() + Duration::from_secs(30);
    while journal.unsent_spans() != 2 {
        assert!(Instant::now() < deadline, "{} spans are kept", journal.unsent_spans());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    kill(journal).await;
    assert_eq!(numbers(&open(directory.path(), options()).1), [3]);
}

#[tokio::test]
async fn a_journal_is_opened_once() {
    let directory = tempfile::tempdir().unwrap();
    let (_journal, _) = open(directory.path(), options());
    let again = Options { lock_timeout: Duration::ZERO, ..options() };
    let error = Journal::open(directory.path(), again).unwrap_err().to_string();
    assert!(error.contains("another collector has it open"), "{error}");
}

#[tokio::test]
async fn its_files_are_bounded_and_go_when_they_are_done() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { max_bytes: 1 << 20, ..options() };
    let (journal, _) = open(directory.path(), options);
    let mut written = 0;
    let full = loop {
        match append(&journal, written + 1, 10_000).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full, AppendError::Full);
    assert!((95..=105).contains(&written), "{written}");
    assert!(journal.bytes() <= 1 << 20);
    for number in 1..=written {
        journal.mark(number, Progress::Done);
    }
    append(&journal, written + 1, 10_000).await.unwrap();
    assert!(journal.bytes() <= (1 << 17) + 20_000, "{}", journal.bytes());
}

#[tokio::test]
async fn one_record_that_stays_does_not_keep_what_came_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { max_bytes: 1 << 20, ..options() };
    let (journal, _) = open(directory.path(), options.clone());
    append(&journal, 1, 5_000).await.unwrap();
    journal.mark(1, Progress::Counted(9));
    for number in 2..1000 {
        append(&journal, number, 10_000).await.unwrap();
        journal.mark(number, Progress::Done);
    }
    assert_eq!(journal.read(1).unwrap(), body(1, 5_000));
    kill(journal).await;
    let (journal, recovery) = open(directory.path(), options);
    assert_eq!((numbers(&recovery), recovery.lost_records), (vec![1], 0));
    assert_eq!(recovery.found[0].counted_until, 9);
    assert_eq!(journal.read(1).unwrap(), body(1, 5_000));
}

#[tokio::test]
async fn what_is_kept_for_stats_only_gives_way_to_spans() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { max_bytes: 1 << 20, ..options() };
    let (journal, _) = open(directory.path(), options);
    for number in 1..500 {
        append(&journal, number, 10_000).await.unwrap();
        journal.mark(number, Progress::Sent);
    }
    assert!(journal.given_up_spans() >= 2 * 390, "{}", journal.given_up_spans());
    assert!(journal.bytes() <= 1 << 20);
}

#[tokio::test]
async fn a_full_disk_refuses_and_what_was_written_stays_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(directory.path(), options());
    append(&journal, 1, 1000).await.unwrap();
    for room in [0, 5, 500] {
        journal.limit_disk(journal.bytes() + room);
        let error = append(&journal, 2, 1000).await.unwrap_err();
        assert!(
            matches!(&error, AppendError::Io(reason) if reason.contains("no storage space")),
            "{error}"
        );
    }
    // A mark that cannot be written is written later.
    journal.mark(1, Progress::Done);
    assert!(append(&journal, 2, 1000).await.is_err());
    journal.limit_disk(u64::MAX);
    append(&journal, 2, 1000).await.unwrap();
    kill(journal).await;
    let (journal, recovery) = open(directory.path(), options());
    assert_eq!((numbers(&recovery), recovery.damaged_bytes), (vec![2], 0));
    assert_eq!(journal.read(2).unwrap(), body(2, 1000));
}

#[tokio::test]
async fn damage_anywhere_costs_what_it_hits_and_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(directory.path(), options());
    for number in 1..=20 {
        append(&journal, number, 300).await.unwrap();
    }
    journal.mark(4, Progress::Done);
    kill(journal).await;
    let file = files(directory.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] = !bytes[at];
        fs::write(&file, &bytes).unwrap();
        let (journal, recovery) = open(directory.path(), options());
        assert_eq!(recovery.damaged_places, 1, "byte {at}");
        // One of 19 that were there, or the mark of the 4th, which is then sent again, or what begins the file.
        let left = recovery.found.len() as u64 + recovery.lost_records;
        assert!(left == 19 || left == 20 && recovery.lost_records == 0, "byte {at}: {recovery:?}");
        assert!(recovery.lost_records <= 1, "byte {at}: {recovery:?}");
        for number in numbers(&recovery) {
            assert_eq!(journal.read(number).unwrap(), body(number, 300), "byte {at}");
        }
        kill(journal).await;
    }
    for cut in (0..whole.len()).step_by(13) {
        fs::write(&file, &whole[..cut]).unwrap();
        let (_, recovery) = open(directory.path(), options());
        let expected: Vec<_> = (1..=recovery.found.len() as u64).collect();
        assert_eq!(numbers(&recovery), expected, "cut at {cut}");
    }
}

#[tokio::test]
async fn a_record_that_is_damaged_later_is_not_taken_for_another() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(directory.path(), options());
    append(&journal, 1, 300).await.unwrap();
    append(&journal, 2, 300).await.unwrap();
    let file = files(directory.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let error = journal.read(1).unwrap_err().to_string();
    assert_eq!(error, "record 1 cannot be read: its bytes were changed");
    assert_eq!(journal.read(2).unwrap(), body(2, 300));
}
