//! Owns input that is nearly right: good texts with pieces cut, doubled, swapped and put in, and
//! now and then nothing but bytes.

use proptest::prelude::*;
use proptest::sample::Index;

/// What readers of JSON, headers and TOML may stumble over.
const PIECES: [&[u8]; 36] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b",",
    b":",
    b"null",
    b"true",
    b"-0",
    b"1e999",
    b"-1e-999",
    b"9223372036854775808",
    b"0.1",
    b"100.5",
    b"\"\\u0000\"",
    b"\"\\ud800\"",
    b"\\u0041",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\0",
    b"\r\n",
    b"\n",
    b" ",
    b"\t",
    b".",
    b"..",
    b"-",
    b";",
    b"=",
    b"\"kind\":\"compliance\",",
    b"\"version\":\"2\",",
    b"\"tenant_id\":\"other\",",
    b"\"metadata\":{\"a\":{\"a\":{}}},",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Cut(Index, usize),
    Double(Index, usize),
    Put(Index, usize),
    Swap(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), 1_u8..=255).prop_map(|(at, bits)| Change::Flip(at, bits)),
        (any::<Index>(), 1_usize..24).prop_map(|(at, length)| Change::Cut(at, length)),
        (any::<Index>(), 1_usize..64).prop_map(|(at, length)| Change::Double(at, length)),
        (any::<Index>(), 0..PIECES.len()).prop_map(|(at, piece)| Change::Put(at, piece)),
        (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Change::Swap(one, other)),
    ]
}

fn apply(text: &mut Vec<u8>, change: &Change) {
    let at = |index: &Index| index.index(text.len() + 1);
    match change {
        Change::Flip(index, bits) => {
            let at = at(index);
            text.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bits);
        }
        Change::Cut(index, length) => {
            let from = at(index);
            text.drain(from..(from + length).min(text.len()));
        }
        Change::Double(index, length) => {
            let from = at(index);
            let part = text[from..(from + length).min(text.len())].to_vec();
            text.splice(from..from, part);
        }
        Change::Put(index, piece) => {
            let from = at(index);
            text.splice(from..from, PIECES[*piece].iter().copied());
        }
        Change::Swap(one, other) if !text.is_empty() => {
            let length = text.len();
            text.swap(one.index(length), other.index(length));
        }
        Change::Swap(..) => {}
    }
}

/// One of the texts as it is or changed in up to six places, or a few bytes of any kind.
pub(super) fn near(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let changed = (prop::sample::select(texts), prop::collection::vec(change(), 0..=6));
    let changed = changed.prop_map(|(text, changes)| {
        let mut text = text.as_bytes().to_vec();
        changes.iter().for_each(|change| apply(&mut text, change));
        text
    });
    prop_oneof![9 => changed, 1 => prop::collection::vec(any::<u8>(), 0..64)]
}
