//! The rows of a partial aggregate as words, in memory that an archive can follow.
//!
//! What the words of a row mean is the layout's.

use rkyv::rancor::Fallible;
use rkyv::rend::u64_le;
use rkyv::ser::{Allocator, Writer};
use rkyv::util::AlignedVec;
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::{Archive, Place, Serialize};
use std::fmt;
use std::ops::{Deref, DerefMut};

// Numbers of archives are little-endian, and read as the machine's own, here and in `partial_ref`.
const _: () = assert!(cfg!(target_endian = "little"));

/// Growable words; archived as a vector of them.
#[derive(Clone, Default)]
pub struct Words {
    bytes: AlignedVec,
}

impl Words {
    /// Appends `words`.
    pub fn extend_from_slice(&mut self, words: &[u64]) {
        self.bytes.extend_from_slice(bytemuck::cast_slice(words));
    }

    /// Forgets all, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Gives the words as bytes, memory and all, and goes on in that of `spare`.
    pub fn take(&mut self, spare: AlignedVec) -> AlignedVec {
        let bytes = std::mem::replace(&mut self.bytes, spare);
        self.bytes.clear();
        bytes
    }
}

impl Deref for Words {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        // Without memory there is not even an aligned place.
        if self.bytes.is_empty() { &[] } else { bytemuck::cast_slice(&self.bytes) }
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u64] {
        if self.bytes.is_empty() { &mut [] } else { bytemuck::cast_slice_mut(&mut self.bytes) }
    }
}

impl From<&[u64]> for Words {
    fn from(words: &[u64]) -> Words {
        let mut all = Words::default();
        all.extend_from_slice(words);
        all
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Words) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Archive for Words {
    type Archived = ArchivedVec<u64_le>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: VecResolver, out: Place<ArchivedVec<u64_le>>) {
        ArchivedVec::resolve_from_len(self.len(), resolver, out);
    }
}

impl<S: Fallible + Allocator + Writer + ?Sized> Serialize<S> for Words {
    fn serialize(&self, serializer: &mut S) -> Result<VecResolver, S::Error> {
        ArchivedVec::<u64_le>::serialize_from_slice(self, serializer)
    }
}
