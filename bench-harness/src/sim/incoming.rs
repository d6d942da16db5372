//! Where the batches of a simulated life come from: the engine's own inputs, or producers elsewhere. Which of them a seed
//! has is not decided here.

use super::Failure;
use super::elsewhere::Elsewhere;
use super::faults::Faults;
use super::site::Site;
use crate::entropy::Entropy;
use crate::local::dealer::Dealer;

/// See the module.
pub enum Incoming<'a> {
    /// Files, dealt.
    Files(Box<Dealer<'a>>),
    /// Sessions.
    Elsewhere(Box<Elsewhere<'a>>),
}

impl Incoming<'_> {
    /// One turn.
    pub fn turn(&mut self, sites: &mut [Site], faults: &mut Faults, entropy: &mut Entropy) -> Result<(), Failure> {
        match self {
            Incoming::Files(dealer) => Ok(dealer.turn(sites, |site| &mut site.arrivals, entropy)?),
            Incoming::Elsewhere(elsewhere) => elsewhere.turn(sites, faults, entropy),
        }
    }

    /// Whether all was taken.
    pub fn has_dealt(&self) -> bool {
        match self {
            Incoming::Files(dealer) => dealer.has_dealt(),
            Incoming::Elsewhere(elsewhere) => elsewhere.has_dealt(),
        }
    }

    /// Takes no more.
    pub fn stop(&mut self) {
        match self {
            Incoming::Files(dealer) => dealer.stop(),
            Incoming::Elsewhere(elsewhere) => elsewhere.stop(),
        }
    }

    /// Whether nothing more will come.
    pub fn has_ended(&self) -> bool {
        match self {
            Incoming::Files(dealer) => dealer.has_ended(),
            Incoming::Elsewhere(elsewhere) => elsewhere.has_ended(),
        }
    }
}
