//! The decision table of recovery: from what is found at a place of the log to what is done about it. Exactly one
//! row matches.
//!
//! Finding the facts is [`mod@super::scan`]'s business; nothing is read here.

/// What the successor segment says about where this one ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// There is no successor, or its first block is not sound.
    Silent,
    /// Further on.
    Ahead,
    /// Right here, with the LSN and the checksum that reading has reached.
    Here,
    /// Somewhere that does not fit what was read.
    Broken,
}

/// What is at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A sound block that continues the one before.
    Next,
    /// A sound block that does not.
    Stranger,
    /// No sound block.
    Bad,
    /// The end of the segment.
    SegmentEnd,
}

/// What lies behind this place, in this segment and all later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Not looked at, since it does not matter.
    NotLookedAt,
    /// No sound block.
    Nothing,
    /// Sound blocks; none says that what is missing here had been durable.
    Unclaimed,
    /// A sound block says that what is missing here had been durable.
    Claimed,
}

/// Everything that the decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The successor's word.
    pub link: Link,
    /// What is here.
    pub found: Found,
    /// What is behind.
    pub behind: Behind,
    /// Whether the last block read in this segment was a SEAL.
    pub sealed: bool,
    /// Whether a file that matters here is shorter than its header says: this one unless sealed, and all later ones.
    pub short: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the block and go on.
    TakeBlock,
    /// Go on with the next segment.
    NextSegment,
    /// The log ends here, shut down in order.
    EndSealed,
    /// The log ends here; cut off what follows.
    CutTail,
    /// Stop: a durable block is damaged.
    RefuseInterior,
    /// Stop: a block does not continue the one before.
    RefuseChain,
    /// Stop: two segments disagree.
    RefuseLink,
    /// Stop: a file was shortened.
    RefuseShort,
}

/// One row: which values of each fact it takes.
pub struct Row {
    /// What the row is about.
    pub name: &'static str,
    link: &'static [Link],
    found: &'static [Found],
    behind: &'static [Behind],
    sealed: &'static [bool],
    short: &'static [bool],
    action: Action,
}

const ANY: &[bool] = &[false, true];
const NOT_LOOKED_AT: &[Behind] = &[Behind::NotLookedAt];
const UNLINKED: &[Link] = &[Link::Silent, Link::Ahead];
const STOPPED: &[Found] = &[Found::Bad, Found::SegmentEnd];

/// The table. Rows are in the order of a reader's questions; their order means nothing.
pub static TABLE: &[Row] = &[
    // The successor is the witness of where a segment ends: what lies behind that place is a tail that an earlier
    // recovery has cut, or stale, or the unused rest.
    Row {
        name: "the successor begins here",
        link: &[Link::Here],
        found: &[Found::Next, Found::Stranger, Found::Bad, Found::SegmentEnd],
        behind: NOT_LOOKED_AT,
        sealed: ANY,
        short: ANY,
        action: Action::NextSegment,
    },
    Row {
        name: "the successor names a place that reading has passed or reached differently",
        link: &[Link::Broken],
        found: &[Found::Next, Found::Stranger, Found::Bad, Found::SegmentEnd],
        behind: NOT_LOOKED_AT,
        sealed: ANY,
        short: ANY,
        action: Action::RefuseLink,
    },
    // A seal is the last block of its session, and a session begins with a new segment.
    Row {
        name: "the successor begins behind a seal",
        link: &[Link::Ahead],
        found: &[Found::Next, Found::Stranger, Found::Bad, Found::SegmentEnd],
        behind: NOT_LOOKED_AT,
        sealed: &[true],
        short: ANY,
        action: Action::RefuseLink,
    },
    Row {
        name: "the next block",
        link: UNLINKED,
        found: &[Found::Next],
        behind: NOT_LOOKED_AT,
        sealed: &[false],
        short: ANY,
        action: Action::TakeBlock,
    },
    Row {
        name: "a block behind a seal",
        link: &[Link::Silent],
        found: &[Found::Next, Found::Stranger],
        behind: NOT_LOOKED_AT,
        sealed: &[true],
        short: ANY,
        action: Action::RefuseChain,
    },
    // Each place of a segment's life is written once, so a sound block there is the right one or its predecessor
    // is wrong.
    Row {
        name: "a sound block that does not continue the log",
        link: UNLINKED,
        found: &[Found::Stranger],
        behind: NOT_LOOKED_AT,
        sealed: &[false],
        short: ANY,
        action: Action::RefuseChain,
    },
    Row {
        name: "interior corruption",
        link: UNLINKED,
        found: STOPPED,
        behind: &[Behind::Claimed],
        sealed: &[false],
        short: ANY,
        action: Action::RefuseInterior,
    },
    Row {
        name: "a session after the seal whose beginning is damaged",
        link: &[Link::Silent],
        found: STOPPED,
        behind: &[Behind::Claimed],
        sealed: &[true],
        short: ANY,
        action: Action::RefuseInterior,
    },
    // No crash shortens a file that was written full length before it got its name.
    Row {
        name: "a shortened file",
        link: UNLINKED,
        found: STOPPED,
        behind: &[Behind::Nothing, Behind::Unclaimed],
        sealed: &[false],
        short: &[true],
        action: Action::RefuseShort,
    },
    Row {
        name: "a shortened file behind a seal",
        link: &[Link::Silent],
        found: STOPPED,
        behind: &[Behind::Nothing, Behind::Unclaimed],
        sealed: &[true],
        short: &[true],
        action: Action::RefuseShort,
    },
    Row {
        name: "shut down in order",
        link: &[Link::Silent],
        found: STOPPED,
        behind: &[Behind::Nothing],
        sealed: &[true],
        short: &[false],
        action: Action::EndSealed,
    },
    Row {
        name: "torn beginning of a session after a seal",
        link: &[Link::Silent],
        found: STOPPED,
        behind: &[Behind::Unclaimed],
        sealed: &[true],
        short: &[false],
        action: Action::CutTail,
    },
    Row {
        name: "torn, zero or stale tail, perhaps with writes that overtook it",
        link: UNLINKED,
        found: STOPPED,
        behind: &[Behind::Nothing, Behind::Unclaimed],
        sealed: &[false],
        short: &[false],
        action: Action::CutTail,
    },
];

impl Row {
    fn matches(&self, facts: &Facts) -> bool {
        self.link.contains(&facts.link)
            && self.found.contains(&facts.found)
            && self.behind.contains(&facts.behind)
            && self.sealed.contains(&facts.sealed)
            && self.short.contains(&facts.short)
    }
}

impl Facts {
    /// Whether the decision depends on what lies behind: only then is it looked for.
    pub fn needs_behind(&self) -> bool {
        let stopped = STOPPED.contains(&self.found);
        stopped && (self.link == Link::Silent || (self.link == Link::Ahead && !self.sealed))
    }
}

/// The rows that match: always exactly one for facts that can occur.
pub fn matching_rows(facts: &Facts) -> impl Iterator<Item = &'static Row> + use<'_> {
    TABLE.iter().filter(|row| row.matches(facts))
}

/// Looks the action up.
///
/// Panics if not exactly one row matches; `wal_recovery_table.rs` proves that this cannot happen for any facts.
pub fn decide(facts: &Facts) -> Action {
    assert_eq!(facts.needs_behind(), facts.behind != Behind::NotLookedAt);
    let mut rows = matching_rows(facts);
    let row = rows.next().unwrap_or_else(|| panic!("no row for {facts:?}"));
    if let Some(other) = rows.next() {
        panic!("both `{}` and `{}` match {facts:?}", row.name, other.name);
    }
    row.action
}
