//! The stamp of a batch, and where it lies among the bytes. Columns and their checks are not here.

use corefold_aggregator::time::EventTime;

use super::BATCH_ROWS_MAX;
use super::batch_generated::corefold::batch as fb;
use super::error::BatchError;

pub use super::aligned::AlignedBytes;
pub use super::encode::{Encoder, encode};
pub use super::error::EncodeError;
pub use super::integers::Integers;
pub use super::verify::UnverifiedBatch;
pub use super::view::{BatchView, Column, Indices, StrDictionary};

/// Producer of all batches that come from inputs of the engine itself; everyone else has another number.
pub const LOCAL_PRODUCER: u64 = 0;

/// What a batch says of itself besides its rows; written when it is dealt, so in place of an older stamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Who sends.
    pub producer: u64,
    /// The sub-stream of the producer.
    pub lane: u32,
    /// Which part of the whole batch this is, below `parts`.
    pub part: u16,
    /// Into how many parts the whole batch was split; 1 when it was not.
    pub parts: u16,
    /// Number of the whole batch in its lane.
    pub sequence: u64,
    /// Ordinal in the lane of the whole batch's first row.
    pub first_row: u64,
    /// Where the source goes on after this batch.
    pub position: u64,
    /// The lane's watermark at the start of the whole batch.
    pub watermark: EventTime,
    /// The smallest watermark of all lanes of the dealer.
    pub frontier: EventTime,
    /// When the batch loses its use; [`EventTime::MAX`] for never.
    pub deadline: EventTime,
    /// Rows that were skipped as bad input. Of a split batch one part alone carries them.
    pub rejected: u32,
}

impl Stamp {
    /// The stamp of a whole batch that knows and promises nothing else.
    pub const fn of_lane(producer: u64, lane: u32, sequence: u64) -> Stamp {
        Stamp {
            producer,
            lane,
            part: 0,
            parts: 1,
            sequence,
            first_row: 0,
            position: 0,
            watermark: EventTime::MIN,
            frontier: EventTime::MIN,
            deadline: EventTime::MAX,
            rejected: 0,
        }
    }

    /// Why no batch can carry these numbers, if none can: adding to them must not overflow, here and wherever stamps
    /// are read back.
    pub fn fault(&self) -> Option<&'static str> {
        if self.parts == 0 {
            return Some("it counts no parts; a whole batch is part 0 of 1");
        }
        if self.part >= self.parts {
            return Some("its part is not below its number of parts");
        }
        if self.sequence == u64::MAX {
            return Some("its sequence leaves no number for the next batch");
        }
        if self.first_row > u64::MAX - BATCH_ROWS_MAX as u64 {
            return Some("its first row leaves no ordinals for the rows after it");
        }
        None
    }

    pub(super) fn to_wire(self) -> fb::Stamp {
        fb::Stamp::new(
            self.producer,
            self.sequence,
            self.first_row,
            self.position,
            self.watermark.0,
            self.frontier.0,
            self.deadline.0,
            self.lane,
            self.rejected,
            self.part,
            self.parts,
        )
    }

    pub(super) fn from_wire(wire: &fb::Stamp) -> Stamp {
        Stamp {
            producer: wire.producer(),
            lane: wire.lane(),
            part: wire.part(),
            parts: wire.parts(),
            sequence: wire.sequence(),
            first_row: wire.first_row(),
            position: wire.position(),
            watermark: EventTime(wire.watermark()),
            frontier: EventTime(wire.frontier()),
            deadline: EventTime(wire.deadline()),
            rejected: wire.rejected(),
        }
    }
}

/// Replaces the stamp of an encoded batch.
///
/// The bytes need not be verified: whatever they are, at most the bytes of one stamp are written.
pub fn patch_stamp(bytes: &mut [u8], stamp: &Stamp) -> Result<(), BatchError> {
    let place = root_position(bytes)
        .and_then(|root| field_position(bytes, root, fb::Batch::VT_STAMP))
        .and_then(|start| bytes.get_mut(start..start.checked_add(size_of::<fb::Stamp>())?));
    let Some(place) = place else {
        return Err(BatchError::Malformed { what: "the stamp cannot be found".to_owned() });
    };
    place.copy_from_slice(&stamp.to_wire().0);
    Ok(())
}

/// Where the root table lies.
pub(super) fn root_position(bytes: &[u8]) -> Option<usize> {
    read_u32(bytes, 0).map(|root| root as usize)
}

/// Where the field with vtable entry `entry` of the table at `table` lies; `None` when it has no such field.
pub(super) fn field_position(bytes: &[u8], table: usize, entry: u16) -> Option<usize> {
    let to_vtable = read_u32(bytes, table)?.cast_signed();
    let vtable = usize::try_from(i64::try_from(table).ok()? - i64::from(to_vtable)).ok()?;
    let vtable_size = read_u16(bytes, vtable)?;
    if usize::from(entry) + size_of::<u16>() > usize::from(vtable_size) {
        return None;
    }
    match read_u16(bytes, vtable.checked_add(usize::from(entry))?)? {
        0 => None,
        offset => table.checked_add(usize::from(offset)),
    }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}
