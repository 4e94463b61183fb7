//! Finds the rows of the [table](super::table) by their keys: each has a number, by which it is found among a span's
//! attributes without looking at the others.

use super::limits::MAX_KEY_BYTES;
use super::table::{Class, HEADERS, TABLE};

/// How many keys mean something.
pub(super) const COUNT: usize = TABLE.len();

/// How many places there are for keys: the bits of a filter.
pub(super) const PLACES: usize = 512;

/// The keys and classes of the rows, apart from what is only read about: these are read for each attribute.
static KEYS: [&[u8]; COUNT] = {
    let (mut keys, mut number): ([&[u8]; COUNT], _) = ([b""; COUNT], 0);
    while number < COUNT {
        keys[number] = TABLE[number].key.as_bytes();
        number += 1;
    }
    keys
};
static CLASSES: [Class; COUNT] = {
    let (mut classes, mut number) = ([Class::Same; COUNT], 0);
    while number < COUNT {
        classes[number] = TABLE[number].class;
        number += 1;
    }
    classes
};

/// Each has a bit of a `u64`.
const _: () = assert!(COUNT <= 64);

/// Finds the numbers of keys.
struct Numbers {
    /// One more than the number of the first known key at each place; 0 where there is none.
    first: [u8; PLACES],
    /// One more than the number of the next key at the same place.
    next: [u8; COUNT],
}

static NUMBERS: Numbers = {
    let mut numbers = Numbers { first: [0; PLACES], next: [0; COUNT] };
    let mut number = 0;
    while number < COUNT {
        let place = place(KEYS[number]);
        numbers.next[number] = numbers.first[place];
        numbers.first[place] = number as u8 + 1;
        number += 1;
    }
    numbers
};

/// Returns the number of a key at this place, if it is a known one.
#[inline]
pub(super) fn number(key: &[u8], place: usize) -> Option<usize> {
    let mut number = NUMBERS.first[place];
    while number != 0 {
        let index = usize::from(number) - 1;
        if KEYS[index] == key {
            return Some(index);
        }
        number = NUMBERS.next[index];
    }
    None
}

/// Returns the number of a known key, when this is compiled; that it is none ends compiling.
pub(super) const fn number_of(name: &str) -> usize {
    let mut number = 0;
    loop {
        let (one, other) = (TABLE[number].key.as_bytes(), name.as_bytes());
        let mut same = 0;
        while one.len() == other.len() && same < one.len() && one[same] == other[same] {
            same += 1;
        }
        if one.len() == other.len() && same == one.len() {
            return number;
        }
        number += 1;
    }
}

/// Returns what is done with an attribute; `number` is its key's.
#[inline]
pub(super) fn class(key: &[u8], number: Option<usize>) -> Class {
    match (number, key) {
        (Some(number), _) => CLASSES[number],
        (None, [b'_', ..]) => Class::Unusual,
        (None, [b'o', ..]) if key.starts_with(b"otel.") => Class::Unusual,
        (None, [b'h', ..]) if key.starts_with(HEADERS.0) => Class::Header,
        (None, _) if key.len() > MAX_KEY_BYTES => Class::Unusual,
        (None, _) => Class::Same,
    }
}

/// Returns what is done with an attribute.
pub(super) fn class_of(key: &[u8]) -> Class {
    class(key, number(key, place(key)))
}

/// Returns where a filter has a key's bit. Known keys differ in their lengths and last letters for the most part.
#[inline]
pub(super) const fn place(key: &[u8]) -> usize {
    let length = key.len();
    if length == 0 {
        return 0;
    }
    let (first, middle, last) =
        (key[0] as usize, key[length / 2] as usize, key[length - 1] as usize);
    let mixed = length.wrapping_mul(37) ^ (first * 5) ^ (last << 2) ^ (middle * 11);
    mixed % PLACES
}
