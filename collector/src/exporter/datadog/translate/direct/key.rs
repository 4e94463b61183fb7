//! Keys of a span that were seen.

/// Keys that were seen, so that one that comes again is noticed without comparing it with all others.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// One more than the index of an entry; 0 where there is none. Its length is a power of two.
    slots: Vec<u16>,
    len: usize,
}

impl Table {
    /// Empties the table, and makes room for so many keys.
    pub(super) fn reset(&mut self, keys: usize) {
        let size = (2 * keys).next_power_of_two().max(32);
        self.slots.clear();
        self.slots.resize(size, 0);
        self.len = 0;
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a key, unless it is there: then its index. `key_at` gives the key of an index.
    pub(super) fn insert<'k>(
        &mut self,
        key: &[u8],
        key_at: impl Fn(usize) -> &'k [u8],
    ) -> Option<usize> {
        match self.seek(key, key_at) {
            Ok(index) => Some(index),
            Err(slot) => {
                self.len += 1;
                self.slots[slot] = self.len as u16;
                None
            }
        }
    }

    /// The index of a key.
    pub(super) fn find<'k>(&self, key: &[u8], key_at: impl Fn(usize) -> &'k [u8]) -> Option<usize> {
        self.seek(key, key_at).ok()
    }

    fn seek<'k>(&self, key: &[u8], key_at: impl Fn(usize) -> &'k [u8]) -> Result<usize, usize> {
        let mut slot = hash(key) as usize & (self.slots.len() - 1);
        loop {
            match self.slots[slot] {
                0 => return Err(slot),
                index if key_at(usize::from(index) - 1) == key => return Ok(usize::from(index) - 1),
                _ => slot = (slot + 1) & (self.slots.len() - 1),
            }
        }
    }
}

/// Of a key's length, beginning, middle and end.
fn hash(key: &[u8]) -> u64 {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let word = |at: usize| {
        key.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    let (first, middle, last) = match key.len() {
        0 => (0, 0, 0),
        length @ 1..8 => {
            let mut word = [0; 8];
            word[..length].copy_from_slice(key);
            (u64::from_le_bytes(word), 0, 0)
        }
        length => (word(0), word((length - 8) / 2), word(length - 8)),
    };
    let mixed = (first ^ middle.rotate_left(21) ^ last.rotate_left(43) ^ key.len() as u64)
        .wrapping_mul(MIX);
    mixed ^ (mixed >> 32)
}
