//! How entries of a journal stand in its files, and how they are found again in files that are damaged.
//!
//! A frame is a mark, the length of its body, a checksum and the body. The checksum begins with a number from the file's name,
//! so that bytes of a sender that look like a frame are none. Where a frame is not whole, the next whole one is looked for.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Begins each frame.
const MARK: [u8; 4] = *b"\xf1tcJ";
/// Mark, length and checksum.
pub(super) const HEAD: usize = 12;
/// The longest body: above the largest request that a receiver can be configured to accept.
const MAX_BODY: usize = 1 << 30;
/// The beginning of a record's body: kind, number, spans.
const RECORD_HEAD: usize = 13;
/// How much of a file is read at a time.
const WINDOW_BYTES: usize = if cfg!(test) { 64 } else { 64 << 10 };

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    /// The first of each file: the number that the next record gets.
    Begin { next: u64 },
    /// Spans that were accepted.
    Record { number: u64, spans: u32, body: &'a [u8] },
    /// A record that was written before, and is written again because its file is to go.
    Moved { number: u64, spans: u32, body: &'a [u8] },
    /// Progress of records.
    Progress { progress: Progress, numbers: Vec<u64> },
}

/// Progress of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    /// All its spans are sent or dropped; their stats are not sent yet.
    Sent,
    /// Stats of its spans that ended before this time, in nanoseconds since the epoch, are sent.
    Counted(u64),
    /// Nothing is to be done any more.
    Done,
}

/// Writes a frame.
pub(super) fn put(out: &mut Vec<u8>, seed: u32, entry: &Entry<'_>) {
    let start = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[0; HEAD - 4]);
    match entry {
        Entry::Begin { next } => {
            out.push(0);
            out.extend_from_slice(&next.to_le_bytes());
        }
        Entry::Record { number, spans, body } | Entry::Moved { number, spans, body } => {
            out.push(if matches!(entry, Entry::Record { .. }) { 1 } else { 2 });
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&spans.to_le_bytes());
            out.extend_from_slice(body);
        }
        Entry::Progress { progress, numbers } => {
            let (kind, until) = match progress {
                Progress::Sent => (3, 0),
                Progress::Counted(until) => (4, *until),
                Progress::Done => (5, 0),
            };
            out.push(kind);
            out.extend_from_slice(&until.to_le_bytes());
            for number in numbers {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
    let length = u32::try_from(out.len() - start - HEAD).unwrap_or(u32::MAX).to_le_bytes();
    let checksum = checksum(seed, length, &out[start + HEAD..]).to_le_bytes();
    out[start + 4..start + 8].copy_from_slice(&length);
    out[start + 8..start + HEAD].copy_from_slice(&checksum);
}

fn checksum(seed: u32, length: [u8; 4], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&length);
    hasher.update(body);
    hasher.finalize()
}

/// Reads the frame at the beginning of these bytes, and how long it is; `None` if there is no whole one.
pub(super) fn read(bytes: &[u8], seed: u32) -> Option<(Entry<'_>, usize)> {
    let rest = bytes.strip_prefix(&MARK)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let size = u32::from_le_bytes(*length) as usize;
    let body = rest.get(..size).filter(|_| size <= MAX_BODY)?;
    if u32::from_le_bytes(*sum) != checksum(seed, *length, body) {
        return None;
    }
    Some((entry(body)?, HEAD + size))
}

/// Reads the body of a frame.
fn entry(body: &[u8]) -> Option<Entry<'_>> {
    let (kind, rest) = body.split_first()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let number = u64::from_le_bytes(*number);
    Some(match kind {
        0 => Entry::Begin { next: number },
        1 | 2 => {
            let (spans, body) = rest.split_first_chunk::<4>()?;
            let spans = u32::from_le_bytes(*spans);
            match kind {
                1 => Entry::Record { number, spans, body },
                _ => Entry::Moved { number, spans, body },
            }
        }
        3..=5 => {
            let progress = match kind {
                3 => Progress::Sent,
                4 => Progress::Counted(number),
                _ => Progress::Done,
            };
            let numbers = rest.as_chunks::<8>().0.iter();
            Entry::Progress {
                progress,
                numbers: numbers.map(|raw| u64::from_le_bytes(*raw)).collect(),
            }
        }
        _ => return None,
    })
}

/// Bytes in a file that are no whole frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) places: u64,
    pub(super) bytes: u64,
}

/// Gives each whole frame of a file to `found`, with its place and size, and returns what else is in the file. The bodies of
/// records are left out: the file is read piece by piece, and only once where it is whole.
pub(super) fn scan(
    file: &(impl Source + ?Sized),
    seed: u32,
    mut found: impl FnMut(Entry<'_>, u64, u64),
) -> io::Result<Damage> {
    let mut window = Window::new(file)?;
    let mut damage = Damage::default();
    let mut at = 0;
    while at < window.len {
        if let Some((head, size)) = whole(&mut window, seed, at)? {
            if let Some(entry) = without_body(&head) {
                found(entry, at, size);
            }
            at += size;
            continue;
        }
        let mut next = at + 1;
        while next < window.len {
            let Some(mark) = find(&mut window, next)? else {
                next = window.len;
                break;
            };
            next = mark;
            if whole(&mut window, seed, next)?.is_some() {
                break;
            }
            next += 1;
        }
        damage.places += 1;
        damage.bytes += next - at;
        at = next;
    }
    Ok(damage)
}

/// Returns the frame that begins there, if it is whole: its body, of a record only the beginning, and the frame's size.
fn whole(
    window: &mut Window<'_, impl Source + ?Sized>,
    seed: u32,
    at: u64,
) -> io::Result<Option<(Vec<u8>, u64)>> {
    let Some((MARK, rest)) =
        window.at(at)?.split_first_chunk::<4>().map(|(mark, rest)| (*mark, rest))
    else {
        return Ok(None);
    };
    let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let Some(sum) = rest.first_chunk::<4>().map(|sum| u32::from_le_bytes(*sum)) else {
        return Ok(None);
    };
    let length = *length;
    let size = u64::from(u32::from_le_bytes(length));
    let body = at + HEAD as u64;
    let end = body + size;
    if size > MAX_BODY as u64 || end > window.len {
        return Ok(None);
    }
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&length);
    let (mut head, mut read) = (Vec::new(), body);
    while read < end {
        let piece = window.at(read)?;
        let piece = &piece[..piece.len().min(usize::try_from(end - read).unwrap_or(usize::MAX))];
        // What became of records is there whole, however many they are; of a record, number and spans are.
        let is_record = matches!(head.first().or(piece.first()), Some(1 | 2));
        let wanted = if is_record { RECORD_HEAD.saturating_sub(head.len()) } else { usize::MAX };
        head.extend_from_slice(&piece[..piece.len().min(wanted)]);
        hasher.update(piece);
        read += piece.len() as u64;
    }
    let is_whole = hasher.finalize() == sum && entry(&head).is_some();
    Ok(is_whole.then_some((head, HEAD as u64 + size)))
}

/// Decodes a frame, of a record without its content.
fn without_body(head: &[u8]) -> Option<Entry<'_>> {
    let entry = entry(head)?;
    Some(match entry {
        Entry::Record { number, spans, .. } => Entry::Record { number, spans, body: &[] },
        Entry::Moved { number, spans, .. } => Entry::Moved { number, spans, body: &[] },
        entry => entry,
    })
}

/// Finds the next mark, from there on.
fn find(window: &mut Window<'_, impl Source + ?Sized>, from: u64) -> io::Result<Option<u64>> {
    let mut at = from;
    while at < window.len {
        let piece = window.at(at)?;
        if let Some(step) = piece.windows(MARK.len()).position(|window| window == MARK) {
            return Ok(Some(at + step as u64));
        }
        // The end of this piece may be the beginning of one.
        at += (piece.len().saturating_sub(MARK.len() - 1)).max(1) as u64;
    }
    Ok(None)
}

/// Source of bytes.
pub(super) trait Source {
    /// How many there are.
    fn len(&self) -> io::Result<u64>;

    /// Fills the buffer from that place on; there are as many.
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
}

impl Source for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, at)
    }
}

/// A part of a file, in memory.
struct Window<'a, S: ?Sized> {
    source: &'a S,
    /// The length of the whole file.
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a, S: Source + ?Sized> Window<'a, S> {
    fn new(source: &'a S) -> io::Result<Self> {
        Ok(Self { source, len: source.len()?, start: 0, bytes: Vec::new() })
    }

    /// Bytes from that place on: at least a frame's head, or all that there are.
    fn at(&mut self, at: u64) -> io::Result<&[u8]> {
        let left = self.len.saturating_sub(at);
        let known = (at.checked_sub(self.start))
            .and_then(|skip| self.bytes.get(usize::try_from(skip).ok()?..))
            .map_or(0, <[u8]>::len);
        if (known as u64) < left.min(HEAD as u64) {
            let size = usize::try_from(left).unwrap_or(usize::MAX).min(WINDOW_BYTES);
            self.bytes.resize(size, 0);
            self.start = at;
            self.source.read_exact_at(&mut self.bytes, at)?;
        }
        Ok(&self.bytes[usize::try_from(at - self.start).unwrap_or_default()..])
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Damage, Entry, Progress, Source, put, read, scan};

    impl Source for [u8] {
        fn len(&self) -> io::Result<u64> {
            Ok(self.len() as u64)
        }

        fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
            let at = usize::try_from(at).unwrap();
            buffer.copy_from_slice(&self[at..at + buffer.len()]);
            Ok(())
        }
    }

    /// A file of three records and a progress, and where each frame ends.
    fn file(seed: u32) -> (Vec<u8>, Vec<usize>) {
        let (mut file, mut ends) = (Vec::new(), Vec::new());
        let bodies = [vec![1; 100], vec![2; 1000], Vec::new()];
        put(&mut file, seed, &Entry::Begin { next: 7 });
        ends.push(file.len());
        for (number, body) in (7..).zip(&bodies) {
            put(&mut file, seed, &Entry::Record { number, spans: 3, body });
            ends.push(file.len());
        }
        put(
            &mut file,
            seed,
            &Entry::Progress { progress: Progress::Counted(5), numbers: vec![7, 9] },
        );
        ends.push(file.len());
        (file, ends)
    }

    /// The records found, and the damage.
    fn records(file: &[u8], seed: u32) -> (Vec<u64>, Damage) {
        let mut numbers = Vec::new();
        let damage = scan(file, seed, |entry, at, size| match entry {
            Entry::Record { number, spans, body } => {
                assert_eq!((spans, body), (3, &[][..]), "the body is left out");
                let (whole, length) = read(&file[usize::try_from(at).unwrap()..], seed).unwrap();
                assert_eq!(length as u64, size);
                let Entry::Record { body, .. } = whole else { panic!("{whole:?}") };
                assert!(body.iter().all(|byte| u64::from(*byte) == number - 6), "{number}");
                numbers.push(number);
            }
            Entry::Progress { progress, numbers } => {
                assert_eq!((progress, numbers), (Progress::Counted(5), vec![7, 9]));
            }
            Entry::Begin { next } => assert_eq!(next, 7),
            Entry::Moved { .. } => panic!("there is none"),
        });
        (numbers, damage.unwrap())
    }

    #[test]
    fn what_is_written_is_found() {
        let (file, _) = file(1);
        assert_eq!(records(&file, 1), (vec![7, 8, 9], Damage::default()));
        let (numbers, damage) = records(&file, 2);
        assert!(numbers.is_empty(), "frames of another file are none");
        assert_eq!(damage, Damage { places: 1, bytes: file.len() as u64 });
    }

    #[test]
    fn a_changed_byte_costs_the_frame_it_is_in_and_no_other() {
        let (whole, ends) = file(1);
        for at in 0..whole.len() {
            let mut file = whole.clone();
            file[at] ^= 0x10;
            let hit = ends.iter().position(|end| at < *end).unwrap();
            let expected: Vec<_> = (7..10).filter(|number| number - 6 != hit as u64).collect();
            let (numbers, damage) = records(&file, 1);
            assert_eq!(numbers, expected, "byte {at}");
            let begin = if hit == 0 { 0 } else { ends[hit - 1] };
            assert_eq!(
                damage,
                Damage { places: 1, bytes: (ends[hit] - begin) as u64 },
                "byte {at}"
            );
        }
    }

    #[test]
    fn a_file_cut_anywhere_gives_what_is_whole() {
        let (whole, ends) = file(1);
        for at in 0..whole.len() {
            let last = ends.iter().filter(|end| **end <= at).count();
            let (numbers, damage) = records(&whole[..at], 1);
            assert_eq!(numbers.len(), last.saturating_sub(1).min(3), "cut at {at}");
            let rest = at - ends[..last].last().copied().unwrap_or_default();
            assert_eq!(damage.bytes, rest as u64, "cut at {at}");
        }
    }

    #[test]
    fn a_missing_or_doubled_piece_is_skipped() {
        let (whole, ends) = file(1);
        let without = [&whole[..ends[0] + 20], &whole[ends[1] - 5..]].concat();
        assert_eq!(records(&without, 1).0, [8, 9]);
        let zeros = [&whole[..ends[1]], &[0; 4096][..], &whole[ends[1]..]].concat();
        assert_eq!(records(&zeros, 1), (vec![7, 8, 9], Damage { places: 1, bytes: 4096 }));
    }
}
