//! Why connections and sessions are refused, as far as they are counted apart.
//!
//! What a client is told is the refusal itself; how often each reason came is in [`super::counts`].

use corefold_shards::session::{Code, Overdue, Refusal};

/// A reason to refuse a connection, a session, or a batch and its session with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Reason {
    /// As many connections as an address that is listened on takes.
    Connections,
    /// As many as one address of clients may have.
    AddressConnections,
    /// As many as one shard takes, or it takes none at the moment.
    ShardConnections,
    /// As many lanes as a shard remembers.
    Lanes,
    /// No hello in time.
    HelloTimeout,
    /// Nothing came for too long.
    SilenceTimeout,
    /// A frame came too slowly.
    ByteRate,
    /// A batch held room for which others waited.
    Room,
    /// A frame larger than it may be.
    FrameSize,
    /// TLS did not come about, or there was TLS where there is none.
    Tls,
    /// Bytes that are not the protocol.
    Protocol,
    /// A version that is not spoken.
    Version,
    /// Who is not let in.
    Denied,
    /// A stream that is not taken.
    Stream,
    /// A batch that is not what its schema asks for.
    Batch,
    /// More than there was credit for.
    Credit,
    /// A sequence was left out.
    Gap,
    /// Something behind the end of a lane.
    LaneEnded,
    /// A newer connection of the lane.
    Superseded,
    /// The server stops.
    Stopping,
    /// The system has no room, or a socket failed.
    System,
}

impl Reason {
    /// All of them, each at its own number.
    pub const ALL: [Reason; 21] = [
        Reason::Connections,
        Reason::AddressConnections,
        Reason::ShardConnections,
        Reason::Lanes,
        Reason::HelloTimeout,
        Reason::SilenceTimeout,
        Reason::ByteRate,
        Reason::Room,
        Reason::FrameSize,
        Reason::Tls,
        Reason::Protocol,
        Reason::Version,
        Reason::Denied,
        Reason::Stream,
        Reason::Batch,
        Reason::Credit,
        Reason::Gap,
        Reason::LaneEnded,
        Reason::Superseded,
        Reason::Stopping,
        Reason::System,
    ];

    /// What a refusal of a session or one of its frames is counted as.
    pub fn of(refusal: &Refusal) -> Reason {
        match refusal.code {
            Code::Protocol => Reason::Protocol,
            Code::Version => Reason::Version,
            Code::Denied => Reason::Denied,
            Code::UnknownStream => Reason::Stream,
            Code::Superseded => Reason::Superseded,
            Code::Gap => Reason::Gap,
            // One that is late ends nothing, and is counted as shed where events are counted.
            Code::Batch | Code::Expired => Reason::Batch,
            Code::Credit => Reason::Credit,
            Code::TooSlow => Reason::ByteRate,
            Code::Busy => Reason::ShardConnections,
            Code::Stopping => Reason::Stopping,
            Code::LaneEnded => Reason::LaneEnded,
            Code::Limit => Reason::FrameSize,
        }
    }

    /// The limit of time that was exceeded.
    pub fn of_time(overdue: Overdue) -> Reason {
        match overdue {
            Overdue::Hello => Reason::HelloTimeout,
            Overdue::Silence => Reason::SilenceTimeout,
            Overdue::Rate => Reason::ByteRate,
            Overdue::Room => Reason::Room,
        }
    }

    /// A word or two for the summary.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Connections => "connections",
            Reason::AddressConnections => "connections of an address",
            Reason::ShardConnections => "connections of a shard",
            Reason::Lanes => "lanes",
            Reason::HelloTimeout => "hello timeout",
            Reason::SilenceTimeout => "silence timeout",
            Reason::ByteRate => "byte rate",
            Reason::Room => "room held too long",
            Reason::FrameSize => "frame size",
            Reason::Tls => "TLS",
            Reason::Protocol => "protocol",
            Reason::Version => "version",
            Reason::Denied => "denied",
            Reason::Stream => "unknown stream",
            Reason::Batch => "bad batch",
            Reason::Credit => "credit",
            Reason::Gap => "gap",
            Reason::LaneEnded => "lane ended",
            Reason::Superseded => "superseded",
            Reason::Stopping => "stopping",
            Reason::System => "system",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_number_and_its_name() {
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
            assert_eq!(Reason::ALL.iter().filter(|other| other.name() == reason.name()).count(), 1);
        }
    }
}
