//! A partial aggregate read where its archive lies: nothing of it is copied but what does not fit into words.
//!
//! Partials that have to outlive their archive, or to be put together, are [`Partial`]s.

use crate::partial::{ArchivedPartial, Partial, PartialError};
use crate::rows::{RowsRef, Sides};
use rkyv::rancor;
use rkyv::rend::{u32_le, u64_le};
use std::borrow::Cow;

/// See the module; the fields are those of [`Partial`].
#[derive(Clone, Debug, PartialEq)]
pub struct PartialRef<'a> {
    /// Index of the view.
    pub view: u32,
    /// The pane.
    pub pane: i64,
    /// Slots whose key follows.
    pub announced: &'a [u32],
    /// End of each announced key within `keys`.
    pub key_ends: &'a [u32],
    /// Encoded keys, one after the other.
    pub keys: &'a [u8],
    /// Slots that name no group any more.
    pub retired: &'a [u32],
    /// Slot of each row.
    pub slots: &'a [u32],
    /// The rows.
    pub words: &'a [u64],
    /// What does not fit into words; copied, if there is any.
    pub sides: Cow<'a, Sides>,
}

impl<'a> PartialRef<'a> {
    /// Checks what [`Partial::archive`] has made, and the lengths within. Rows are as wide as `stride` says of the view.
    pub fn open(bytes: &'a [u8], stride: impl Fn(u32) -> Option<usize>) -> Result<PartialRef<'a>, PartialError> {
        PartialRef::read(bytes, stride, |_| Ok(&[]))
    }

    /// The same of what [`Partial::send`] has made.
    pub fn open_sent(bytes: &'a [u8], stride: impl Fn(u32) -> Option<usize>) -> Result<PartialRef<'a>, PartialError> {
        PartialRef::read(bytes, stride, |words| {
            let words = bytes.get(..words * size_of::<u64>()).and_then(|words| bytemuck::try_cast_slice(words).ok());
            words.ok_or(PartialError::Shape("one row per slot"))
        })
    }

    /// `rows_ahead` finds so many words of rows where the archive has none.
    fn read(
        bytes: &'a [u8],
        stride: impl Fn(u32) -> Option<usize>,
        rows_ahead: impl FnOnce(usize) -> Result<&'a [u64], PartialError>,
    ) -> Result<PartialRef<'a>, PartialError> {
        let damaged = |error: rancor::Error| PartialError::Archive(error.to_string());
        let archived = rkyv::access::<ArchivedPartial, rancor::Error>(bytes).map_err(damaged)?;
        let has_sides = !archived.sides.items.is_empty() || !archived.sides.spills.is_empty();
        let sides = match has_sides {
            true => rkyv::deserialize::<Sides, rancor::Error>(&archived.sides).map_err(damaged)?,
            false => Sides::default(),
        };
        let view = archived.view.to_native();
        let stride = stride(view).ok_or(PartialError::Shape("a view that exists"))?;
        let words = match bytemuck::cast_slice::<u64_le, u64>(&archived.words) {
            [] => rows_ahead(archived.slots.len() * stride)?,
            words => words,
        };
        let partial = PartialRef {
            view,
            pane: archived.pane.to_native(),
            announced: bytemuck::cast_slice::<u32_le, u32>(&archived.announced),
            key_ends: bytemuck::cast_slice::<u32_le, u32>(&archived.key_ends),
            keys: &archived.keys,
            retired: bytemuck::cast_slice::<u32_le, u32>(&archived.retired),
            slots: bytemuck::cast_slice::<u32_le, u32>(&archived.slots),
            words,
            sides: Cow::Owned(sides),
        };
        partial.check(stride)?;
        Ok(partial)
    }

    /// The announced slots with their keys.
    pub fn announcements(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        announcements(self.announced, self.key_ends, self.keys)
    }

    /// Announced slot `index` with its key.
    pub fn announcement(&self, index: usize) -> (u32, &'a [u8]) {
        let start = if index == 0 { 0 } else { self.key_ends[index - 1] as usize };
        (self.announced[index], &self.keys[start..self.key_ends[index] as usize])
    }

    /// The rows.
    pub fn rows(&self) -> RowsRef<'_> {
        RowsRef { words: self.words, sides: &self.sides }
    }

    fn check(&self, stride: usize) -> Result<(), PartialError> {
        if self.announced.len() != self.key_ends.len() {
            return Err(PartialError::Shape("as many keys as announced slots"));
        }
        if self.words.len() != self.slots.len() * stride {
            return Err(PartialError::Shape("one row per slot"));
        }
        if !self.key_ends.is_sorted() || self.key_ends.last().is_some_and(|&end| end as usize != self.keys.len()) {
            return Err(PartialError::Shape("key ends in order, the last at the end of the keys"));
        }
        Ok(())
    }
}

/// Slots with their keys; see the fields of [`Partial`].
pub(crate) fn announcements<'a>(
    announced: &'a [u32],
    key_ends: &'a [u32],
    keys: &'a [u8],
) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
    let starts = std::iter::once(&0).chain(key_ends);
    announced
        .iter()
        .zip(starts.zip(key_ends))
        .map(|(&slot, (&start, &end))| (slot, &keys[start as usize..end as usize]))
}

impl Partial {
    /// Itself, as if it were read from an archive.
    pub fn by_ref(&self) -> PartialRef<'_> {
        PartialRef {
            view: self.view,
            pane: self.pane,
            announced: &self.announced,
            key_ends: &self.key_ends,
            keys: &self.keys,
            retired: &self.retired,
            slots: &self.slots,
            words: &self.words,
            sides: Cow::Borrowed(&self.sides),
        }
    }

    /// Reads an archive after checking it, into `self`, whose memory is used again. Rows are as wide as
    /// `stride` says of the view.
    pub fn read(&mut self, bytes: &[u8], stride: impl Fn(u32) -> Option<usize>) -> Result<(), PartialError> {
        self.clear();
        self.copy(PartialRef::open(bytes, stride)?);
        Ok(())
    }

    /// Becomes a copy of `partial`, in the memory that it has.
    pub fn copy(&mut self, partial: PartialRef<'_>) {
        self.clear();
        (self.view, self.pane) = (partial.view, partial.pane);
        self.announced.extend_from_slice(partial.announced);
        self.key_ends.extend_from_slice(partial.key_ends);
        self.keys.extend_from_slice(partial.keys);
        self.retired.extend_from_slice(partial.retired);
        self.slots.extend_from_slice(partial.slots);
        self.words.extend_from_slice(partial.words);
        self.sides = partial.sides.into_owned();
    }
}
