//! Which row of a pane belongs to a slot. The rows are not here.

/// Slots per chunk: a chunk is taken when the first of its slots gets a row in the pane.
const CHUNK_SLOTS: usize = 512;

/// Rows by slot, plus one; 0 for none.
type Chunk = [u32; CHUNK_SLOTS];

/// Slots to rows of one pane.
#[derive(Debug, Default)]
pub struct RowIndex {
    chunks: Vec<Option<Box<Chunk>>>,
}

/// Chunks that no pane uses, all empty.
#[derive(Debug, Default)]
#[allow(clippy::vec_box, reason = "boxes go from here to a pane and back, as they are")]
pub struct ChunkPool {
    free: Vec<Box<Chunk>>,
    /// Lists of chunks, empty.
    lists: Vec<Vec<Option<Box<Chunk>>>>,
}

impl RowIndex {
    /// No rows, in memory of the pool.
    pub fn new(pool: &mut ChunkPool) -> RowIndex {
        RowIndex { chunks: pool.lists.pop().unwrap_or_default() }
    }

    /// The row of `slot`, if it has one.
    #[inline(always)]
    pub fn get(&self, slot: u32) -> Option<u32> {
        let chunk = self.chunks.get(slot as usize / CHUNK_SLOTS)?.as_ref()?;
        chunk[slot as usize % CHUNK_SLOTS].checked_sub(1)
    }

    /// Where the row of `slot` will be looked up, for fetching it ahead.
    #[inline(always)]
    pub fn place(&self, slot: u32) -> Option<&u32> {
        let chunk = self.chunks.get(slot as usize / CHUNK_SLOTS)?.as_ref()?;
        Some(&chunk[slot as usize % CHUNK_SLOTS])
    }

    /// Gives `slot` a row.
    #[inline]
    pub fn set(&mut self, slot: u32, row: u32, pool: &mut ChunkPool) {
        let at = slot as usize / CHUNK_SLOTS;
        let chunk = match self.chunks.get_mut(at) {
            Some(Some(chunk)) => chunk,
            _ => self.add(at, pool),
        };
        chunk[slot as usize % CHUNK_SLOTS] = row + 1;
    }

    #[cold]
    fn add(&mut self, at: usize, pool: &mut ChunkPool) -> &mut Chunk {
        if self.chunks.len() <= at {
            self.chunks.resize_with(at + 1, || None);
        }
        self.chunks[at].get_or_insert_with(|| match pool.free.pop() {
            Some(mut chunk) => {
                chunk.fill(0);
                chunk
            }
            None => Box::new([0; CHUNK_SLOTS]),
        })
    }

    /// Takes the row of `slot` away.
    pub fn remove(&mut self, slot: u32) {
        if let Some(Some(chunk)) = self.chunks.get_mut(slot as usize / CHUNK_SLOTS) {
            chunk[slot as usize % CHUNK_SLOTS] = 0;
        }
    }

    /// Gives all memory back.
    pub fn recycle(mut self, pool: &mut ChunkPool) {
        pool.free.extend(self.chunks.drain(..).flatten());
        // What was recycled before has no memory left.
        if self.chunks.capacity() > 0 {
            pool.lists.push(self.chunks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn it_is_a_map_and_starts_empty_from_used_memory(
            rounds in prop::collection::vec(prop::collection::vec((0..3_000u32, any::<Option<u16>>()), 0..60), 0..4)
        ) {
            let mut pool = ChunkPool::default();
            for steps in rounds {
                let (mut index, mut model) = (RowIndex::default(), HashMap::new());
                for (slot, row) in steps {
                    match row {
                        Some(row) => {
                            index.set(slot, row.into(), &mut pool);
                            model.insert(slot, u32::from(row));
                        }
                        None => {
                            index.remove(slot);
                            model.remove(&slot);
                        }
                    }
                }
                for slot in 0..3_100 {
                    prop_assert_eq!(index.get(slot), model.get(&slot).copied());
                }
                index.recycle(&mut pool);
            }
        }
    }
}
