//! The steps that outputs and their manifest take in a file system, in order: what a crash may fall between.
//!
//! Nothing happens here in a running engine. Tests listen, and look at what each crash would leave behind.

use std::path::Path;

/// A step that has been taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step<'a> {
    /// A file was made, written, cut, renamed or removed; nothing is durable by that.
    Changed(&'a Path),
    /// The bytes of a file are durable.
    Synced(&'a Path),
    /// The names in a directory are durable.
    NamesSynced(&'a Path),
}

/// Tells that a step has been taken.
#[cfg(not(test))]
pub(crate) fn taken(_step: Step<'_>) {}

#[cfg(test)]
pub(crate) use listening::{listen, taken};

#[cfg(test)]
mod listening {
    use super::Step;
    use std::cell::RefCell;

    /// Hears of every step that the thread takes.
    pub(crate) type Listener = Box<dyn FnMut(Step<'_>)>;

    thread_local! {
        static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
    }

    pub(crate) fn taken(step: Step<'_>) {
        LISTENER.with_borrow_mut(|listener| listener.iter_mut().for_each(|listener| listener(step)));
    }

    /// Lets `listener` hear the steps of this thread from now on; returns who listened before.
    pub(crate) fn listen(listener: Option<Listener>) -> Option<Listener> {
        LISTENER.replace(listener)
    }
}
