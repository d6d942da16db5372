//! The body of a request: read within its limits, unpacked within them too.
//!
//! What it means is in `requests`.

use super::answers::Trouble;
use crate::config::ways::WayLimits;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room is counted in steps of so many bytes.
pub const STEP: usize = 1024;

/// How long a body may take whatever its rate.
const GRACE: Duration = Duration::from_secs(5);

/// How often a body that is on its way is held against the clock.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a body is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip
    Gzip,
    /// zstd
    Zstd,
}

impl Packing {
    /// By the header; refused if it is another one.
    pub fn of(headers: &HeaderMap) -> Result<Packing, Trouble> {
        let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(Packing::Plain) };
        match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Packing::Plain),
            "gzip" | "x-gzip" => Ok(Packing::Gzip),
            "zstd" => Ok(Packing::Zstd),
            other => Err(Trouble::packing(other)),
        }
    }
}

/// Room that one request holds, until its rows are in batches.
#[derive(Debug)]
pub struct Room {
    all: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    steps: usize,
    wait_max: Duration,
}

impl Room {
    /// None yet, of `all`.
    pub fn new(all: &Arc<Semaphore>, wait_max: Duration) -> Room {
        Room { all: Arc::clone(all), held: None, steps: 0, wait_max }
    }

    /// Holds room for `bytes` in all; waits for it, but not for ever.
    pub async fn grow(&mut self, bytes: usize) -> Result<(), Trouble> {
        let more = bytes.div_ceil(STEP).saturating_sub(self.steps);
        if more == 0 {
            return Ok(());
        }
        let count = u32::try_from(more).unwrap_or(u32::MAX);
        let waited = tokio::time::timeout(self.wait_max, Arc::clone(&self.all).acquire_many_owned(count)).await;
        let Ok(Ok(permit)) = waited else { return Err(Trouble::full()) };
        self.steps += more;
        match &mut self.held {
            None => self.held = Some(permit),
            Some(held) => held.merge(permit),
        }
        Ok(())
    }

    /// What is held, to be given back with the last row.
    pub fn into_permit(self) -> Option<Arc<OwnedSemaphorePermit>> {
        self.held.map(Arc::new)
    }
}

/// Reads a body as it is, holding room for it.
pub async fn collect(mut body: Incoming, limits: &WayLimits, room: &mut Room) -> Result<Vec<u8>, Trouble> {
    let max = limits.body_size_max as usize;
    if body.size_hint().lower() > max as u64 {
        return Err(Trouble::too_large(max));
    }
    let mut bytes = Vec::new();
    let (began, mut waited) = (Instant::now(), Duration::ZERO);
    loop {
        let frame = match tokio::time::timeout(LOOK_EVERY, body.frame()).await {
            Ok(None) => return Ok(bytes),
            Ok(Some(Ok(frame))) => frame.into_data().ok(),
            Ok(Some(Err(error))) => return Err(Trouble::broken(&error.to_string())),
            Err(_) => None,
        };
        if let Some(data) = frame {
            if bytes.len() + data.len() > max {
                return Err(Trouble::too_large(max));
            }
            let asked = Instant::now();
            room.grow(bytes.len() + data.len()).await?;
            waited += asked.elapsed();
            bytes.extend_from_slice(&data);
        }
        // What was waited for room is not the sender's doing.
        let lasted = began.elapsed().saturating_sub(waited);
        if lasted > GRACE && (bytes.len() as f64) < lasted.as_secs_f64() * limits.byte_rate_min as f64 {
            return Err(Trouble::slow());
        }
    }
}

/// Unpacks a body to at most `max` bytes.
pub fn unpack(packing: Packing, bytes: Vec<u8>, max: usize) -> Result<Vec<u8>, Trouble> {
    let mut plain = Vec::new();
    // One byte more, to see whether there is more.
    let limit = max as u64 + 1;
    let read = match packing {
        Packing::Plain => return Ok(bytes),
        Packing::Gzip => flate2::read::MultiGzDecoder::new(&bytes[..]).take(limit).read_to_end(&mut plain),
        Packing::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(&bytes[..]);
            decoder.and_then(|decoder| decoder.take(limit).read_to_end(&mut plain))
        }
    };
    match read {
        Ok(_) if plain.len() > max => Err(Trouble::too_large(max)),
        Ok(_) => Ok(plain),
        Err(error) => Err(Trouble::unpacking(&error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn bombs_and_torn_bodies_are_refused() {
        let plain = vec![7_u8; 1 << 20];
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&plain).expect("packed");
        let gzip = encoder.finish().expect("packed");
        let zstd = zstd::stream::encode_all(&plain[..], 3).expect("packed");
        for (packing, packed) in [(Packing::Gzip, gzip), (Packing::Zstd, zstd)] {
            let unpacked = unpack(packing, packed.clone(), plain.len()).map(|bytes| bytes == plain);
            assert!(matches!(unpacked, Ok(true)), "{packing:?}");
            assert_eq!(unpack(packing, packed.clone(), plain.len() - 1).map_err(|t| t.status()), Err(413));
            let torn = packed[..packed.len() / 2].to_vec();
            assert_eq!(unpack(packing, torn, plain.len()).map_err(|t| t.status()), Err(400));
        }
    }
}
