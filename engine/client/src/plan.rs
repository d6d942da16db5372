//! How many lanes a producer has that wants one for each shard, and by which door each comes.
//!
//! The number must stay the same for good, or rows that are sent again would take other lanes and count twice. The
//! server remembers it, in a lane of its own: that lane's batches are empty, their number is the number of lanes, and
//! then it ends. What lanes do is in [`crate::client`].

use crate::client::Client;
use crate::config::{ClientConfig, LANES_MAX};
use crate::error::SendError;
use crate::routing::{Lanes, Resume};
use crate::state::Kind;
use corefold_aggregator::spec::Field;
use corefold_shards::session::Place;

/// See the module.
pub struct Plan {
    /// For each lane the address where it is tried first, if that is another one than everybody's.
    pub doors: Vec<Option<String>>,
}

impl Plan {
    /// So many lanes by the common door.
    pub fn of(count: u32) -> Plan {
        Plan { doors: vec![None; count as usize] }
    }
}

/// Asks the server, and has it remember the answer.
pub async fn learn(config: &ClientConfig, fields: &[Field]) -> Result<Plan, SendError> {
    let mut own = config.clone();
    own.lane.lane = plan_lane(config.lane.lane);
    (own.lanes, own.lane_step, own.resume) = (Lanes::Of(1), 1, Resume::GoOn);
    let client = Client::start(own, fields, vec![None])?;
    let greeting = client.greeting().await?;
    let place = greeting.place;
    let lanes = match greeting.has_ended {
        true => greeting.next.saturating_sub(1),
        // Cut off while it was being written: what is there stays.
        false => greeting.next.max(u64::from(lanes_wanted(place))),
    };
    if !greeting.has_ended {
        for _ in greeting.next..lanes {
            client.send_empty(Kind::Opening).await?;
        }
        client.end_lane_async(0).await?;
    }
    client.close_async().await?;
    if !(1..=u64::from(LANES_MAX)).contains(&lanes) {
        let text = format!("the server remembers {lanes} lanes of this producer; 1 to {LANES_MAX} make sense");
        return Err(SendError::Settings(text));
    }
    Ok(Plan { doors: (0..lanes as u32).map(|lane| door(&config.server, place, lane)).collect() })
}

/// The lane that holds the plan of a client whose first lane is `first`.
pub const fn plan_lane(first: u32) -> u32 {
    u32::MAX - first
}

/// One for each shard, if there may be so many beside the plan.
fn lanes_wanted(place: Place) -> u32 {
    let may = if place.lanes_max == 0 { u32::MAX } else { place.lanes_max.saturating_sub(1) };
    place.shards.min(may).clamp(1, LANES_MAX)
}

/// The address of the shard of a lane, if shards have addresses.
fn door(server: &str, place: Place, lane: u32) -> Option<String> {
    let (host, _) = server.rsplit_once(':')?;
    let port = u32::from(place.port_first) + lane % place.shards.max(1);
    (place.port_first > 0 && port <= u32::from(u16::MAX)).then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_lanes_as_shards_unless_fewer_are_allowed() {
        let place = |shards, lanes_max| Place { shards, shard: 0, port_first: 0, lanes_max };
        assert_eq!(lanes_wanted(place(4, 0)), 4);
        assert_eq!(lanes_wanted(place(4, 3)), 2, "the plan takes one of three");
        assert_eq!(lanes_wanted(place(4, 1)), 1);
        assert_eq!(lanes_wanted(place(0, 0)), 1, "a server that does not say");
    }

    #[test]
    fn each_lane_has_the_door_of_a_shard() {
        let place = Place { shards: 3, shard: 1, port_first: 7601, lanes_max: 0 };
        let doors = (0..4).map(|lane| door("host.example:7600", place, lane)).collect::<Option<Vec<_>>>();
        let at = |port: u32| format!("host.example:{port}");
        assert_eq!(doors, Some(vec![at(7601), at(7602), at(7603), at(7601)]));
        assert_eq!(door("[::1]:7600", place, 2), Some("[::1]:7603".to_owned()));
        assert_eq!(door("host.example:7600", Place { port_first: 0, ..place }, 0), None);
        assert_eq!(door("host.example:7600", Place { port_first: 65_535, ..place }, 1), None);
    }
}
