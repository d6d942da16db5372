//! Groups: their canonical bytes, which order rows and choose who is kept past `max_groups`.
//!
//! What is aggregated per group is not here.

use crate::workload::{Cell, Kind};
use xxhash_rust::xxh3::xxh3_64;

/// Text of the group that takes what does not fit under `max_groups`.
pub const OTHER: &str = "__other__";

/// The canonical bytes of one group: column after column, comparing as the values do, null first.
pub fn encode(cells: &[Cell]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for cell in cells {
        if *cell != Cell::Null {
            bytes.push(1);
        }
        match cell {
            Cell::Null => bytes.push(0),
            Cell::Text(text) => push_text(&mut bytes, text),
            Cell::Int(value) => bytes.extend((*value as u64 ^ 1 << 63).to_be_bytes()),
            Cell::Float(value) => {
                let bits = value.to_bits();
                let ordered = if bits >> 63 == 1 { !bits } else { bits ^ 1 << 63 };
                bytes.extend(ordered.to_be_bytes());
            }
            Cell::Bool(value) => bytes.push(u8::from(*value)),
        }
    }
    bytes
}

/// The bytes by which the row of all other groups is sorted: its name in text columns, after all values in others.
pub fn encode_other(kinds: &[Kind]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for kind in kinds {
        if *kind == Kind::Text {
            bytes.push(1);
            push_text(&mut bytes, OTHER);
        } else {
            bytes.push(2);
        }
    }
    bytes
}

/// Which of the groups are kept when only `max` may be: those with the smallest hashes of their bytes.
pub fn kept<'a>(groups: impl Iterator<Item = &'a Vec<u8>>, max: usize) -> Vec<&'a Vec<u8>> {
    let mut ranked: Vec<(u64, &Vec<u8>)> = groups.map(|bytes| (xxh3_64(bytes), bytes)).collect();
    ranked.sort();
    ranked.truncate(max);
    ranked.into_iter().map(|(_, bytes)| bytes).collect()
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    for &byte in text.as_bytes() {
        bytes.push(byte);
        if byte == 0 {
            bytes.push(0xFF);
        }
    }
    bytes.extend([0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes compare as values do, for all pairs of a list in order.
    #[test]
    fn bytes_keep_the_order() {
        let text = |value: &str| Cell::Text(value.to_owned());
        let ordered: [Vec<Cell>; 4] = [
            vec![Cell::Null, text(""), text("\0"), text("\0\0"), text("\u{1}"), text("a"), text("a\0"), text("ab")],
            [i64::MIN, -1, 0, 1, i64::MAX].map(Cell::Int).to_vec(),
            [f64::NEG_INFINITY, -1e300, -1.0, -5e-324, 0.0, 5e-324, 1.0, f64::INFINITY].map(Cell::Float).to_vec(),
            vec![Cell::Null, Cell::Bool(false), Cell::Bool(true)],
        ];
        for list in ordered {
            for low in 0..list.len() {
                for high in low + 1..list.len() {
                    // A second column must not matter while the first ones differ.
                    let first = encode(&[list[low].clone(), text("zzz")]);
                    let second = encode(&[list[high].clone(), Cell::Null]);
                    assert!(first < second, "{:?} {:?}", list[low], list[high]);
                }
            }
        }
    }

    #[test]
    fn the_other_group_sorts_by_its_own_bytes() {
        assert_eq!(encode_other(&[Kind::Text]), encode(&[Cell::Text(OTHER.into())]));
        assert!(encode_other(&[Kind::Int]) > encode(&[Cell::Int(i64::MAX)]));
        assert_eq!(encode_other(&[Kind::Bool, Kind::Float]), [2, 2]);
    }

    #[test]
    fn the_smallest_hashes_are_kept() {
        let groups: Vec<Vec<u8>> = (0..20).map(|value| encode(&[Cell::Int(value)])).collect();
        let few = kept(groups.iter(), 5);
        let most = kept(groups.iter(), 19);
        assert_eq!((few.len(), most.len(), kept(groups.iter(), 99).len()), (5, 19, 20));
        assert!(few.iter().all(|group| most.contains(group)));
        let worst_kept = few.iter().map(|group| xxh3_64(group)).max();
        assert!(groups.iter().filter(|group| !few.contains(group)).all(|group| Some(xxh3_64(group)) > worst_kept));
    }
}
