//! The sockets of one shard's connections: which of them are to be looked at, and bytes between each and its session, as
//! long as there is room.
//!
//! No call here waits. The kernel tells the core's [`Poller`] what is ready, others tell by [`ReadyMark`]; what events of a
//! session lead to is in [`super::feed`].

use super::connection::Connection;
use super::feed::NetFeed;
use super::transport::{Transport, uninterrupted};
use crate::poller::{Poller, Ready};
use corefold_shards::session::{Code, Refusal, credit_cost};
use slab::Slab;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;

/// Bytes read before the shard gets its turn, and before another connection does.
const READ_BUDGET: usize = 1 << 20;
const READ_BUDGET_EACH: usize = 1 << 18;

/// What a read takes of it at least: whoever sends small frames only makes many of them.
const READ_COST_MIN: usize = 1 << 12;

/// How long a connection that is refused is still read from, so that the reason arrives and is not swept away; and how often
/// that is looked at.
const LINGER_NS: u64 = 500_000_000;
const LINGER_CHECK_NS: u64 = 100_000_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Sockets {
    served: Slab<Served>,
    ready: Rc<ReadyList>,
    lingering: usize,
    checked_ns: u64,
}

/// Tokens of sockets that are to be looked at, each once, in order.
#[derive(Debug, Default)]
struct ReadyList {
    tokens: RefCell<VecDeque<usize>>,
}

/// The place of one socket in the list of those that are to be looked at.
#[derive(Debug)]
pub struct ReadyMark {
    list: Rc<ReadyList>,
    token: usize,
    is_set: bool,
}

impl ReadyMark {
    /// Has the socket looked at in the next turn.
    pub fn set(&mut self) {
        if !std::mem::replace(&mut self.is_set, true) {
            self.list.tokens.borrow_mut().push_back(self.token);
        }
    }

    fn clear(&mut self) {
        self.is_set = false;
    }
}

/// One socket, and what its bytes go through.
#[derive(Debug)]
struct Served {
    socket: TcpStream,
    transport: Transport,
    connection: Rc<RefCell<Connection>>,
    /// Whether a read may bring something. The kernel tells once, so this stays until a read has brought less than there
    /// was room for.
    is_readable: bool,
    /// Nothing will be sent any more; what was sent may still be read, and then the end.
    is_ending: bool,
    /// All is said, and until then what still comes is thrown away.
    lingers_until_ns: Option<u64>,
}

/// What came of a look at a connection, or at one half of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Goes,
    Waits,
    Over,
}

impl Sockets {
    /// Takes a connection in.
    pub fn add(
        &mut self,
        socket: TcpStream,
        transport: Transport,
        connection: Rc<RefCell<Connection>>,
        poller: &Poller,
    ) -> io::Result<()> {
        let entry = self.served.vacant_entry();
        poller.watch(&socket, entry.key() as u64)?;
        let mut mark = ReadyMark { list: Rc::clone(&self.ready), token: entry.key(), is_set: false };
        // There is a greeting to be said.
        mark.set();
        connection.borrow_mut().mark = Some(mark);
        let (is_readable, is_ending, lingers_until_ns) = (false, false, None);
        entry.insert(Served { socket, transport, connection, is_readable, is_ending, lingers_until_ns });
        Ok(())
    }

    /// Takes note of what the kernel tells.
    pub fn note(&mut self, ready: Ready) {
        if let Some(served) = self.served.get_mut(ready.token as usize) {
            served.is_readable |= ready.is_readable;
            served.is_ending |= ready.is_ending;
            served.connection.borrow_mut().wake();
        }
    }

    /// Whether any is to be looked at.
    pub fn has_ready(&self) -> bool {
        !self.ready.tokens.borrow().is_empty()
    }

    /// Looks at those that are to be looked at, until enough has been read; true if there was any.
    pub fn serve(&mut self, feed: &mut NetFeed) -> bool {
        self.check_lingering(feed.now().steady_ns);
        let count = self.ready.tokens.borrow().len();
        let mut budget = READ_BUDGET;
        for _ in 0..count {
            let next = self.ready.tokens.borrow_mut().pop_front();
            let Some(token) = next else { break };
            // One that is gone may still be in the list.
            let Some(served) = self.served.get_mut(token) else { continue };
            if let Some(mark) = &mut served.connection.borrow_mut().mark {
                mark.clear();
            }
            let lingered = served.lingers_until_ns.is_some();
            let share = budget.min(READ_BUDGET_EACH);
            let mut rest = share;
            let look = served.turn(feed, &mut rest);
            budget -= share - rest;
            match look {
                Look::Waits => {}
                Look::Goes => served.connection.borrow_mut().wake(),
                Look::Over => {
                    // Closing it ends the watch.
                    self.served.remove(token);
                    self.lingering -= usize::from(lingered);
                    continue;
                }
            }
            self.lingering += usize::from(served.lingers_until_ns.is_some() && !lingered);
            if budget == 0 {
                break;
            }
        }
        count > 0
    }

    fn check_lingering(&mut self, now_ns: u64) {
        if self.lingering == 0 || now_ns.saturating_sub(self.checked_ns) < LINGER_CHECK_NS {
            return;
        }
        self.checked_ns = now_ns;
        for (_, served) in &mut self.served {
            if served.lingers_until_ns.is_some() {
                served.connection.borrow_mut().wake();
            }
        }
    }
}

impl Served {
    fn turn(&mut self, feed: &mut NetFeed, budget: &mut usize) -> Look {
        let now_ns = feed.now().steady_ns;
        if let Some(until_ns) = self.lingers_until_ns {
            return if now_ns < until_ns { self.discard(budget) } else { Look::Over };
        }
        match self.exchange(feed, budget) {
            Look::Over => {}
            look => return look,
        }
        feed.close(&self.connection);
        self.transport.close();
        // Nothing depends on the other end from here on.
        let _ = self.transport.flush(|bytes| uninterrupted(|| self.socket.write(bytes)));
        if self.socket.shutdown(Shutdown::Write).is_err() {
            return Look::Over;
        }
        self.lingers_until_ns = Some(now_ns + LINGER_NS);
        self.discard(budget)
    }

    /// Reads until the other end closes too: closing with bytes unread would take back what was said last.
    fn discard(&mut self, budget: &mut usize) -> Look {
        let mut bytes = [0; READ_COST_MIN];
        while *budget > 0 {
            match uninterrupted(|| self.socket.read(&mut bytes)) {
                Ok(count) if count > 0 => *budget = budget.saturating_sub(READ_COST_MIN),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Look::Waits,
                Ok(_) | Err(_) => return Look::Over,
            }
        }
        Look::Goes
    }

    fn exchange(&mut self, feed: &mut NetFeed, budget: &mut usize) -> Look {
        loop {
            if self.write() == Look::Over {
                return Look::Over;
            }
            match self.read(feed, budget) {
                Look::Over => return Look::Over,
                Look::Goes if *budget > 0 => {}
                Look::Goes => return Look::Goes,
                // What was read may have wanted an answer by TLS itself.
                Look::Waits => return self.write(),
            }
        }
    }

    fn write(&mut self) -> Look {
        let mut connection = self.connection.borrow_mut();
        let socket = &mut self.socket;
        let mut write = |bytes: &[u8]| uninterrupted(|| socket.write(bytes));
        let waits = if connection.is_given_up() { Look::Over } else { Look::Waits };
        loop {
            match self.transport.flush(&mut write) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return waits,
                Err(_) => return Look::Over,
            }
            let output = connection.session.output();
            if output.is_empty() {
                return if connection.session.is_done() { Look::Over } else { Look::Waits };
            }
            match self.transport.write(output, &mut write) {
                Ok(count) if count > 0 => connection.session.sent(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return waits,
                Ok(_) | Err(_) => return Look::Over,
            }
        }
    }

    fn read(&mut self, feed: &mut NetFeed, budget: &mut usize) -> Look {
        let mut connection = self.connection.borrow_mut();
        if feed.is_stopping() || !may_read(&mut connection, feed) {
            return Look::Waits;
        }
        let Some(space) = connection.session.space() else { return Look::Waits };
        let Served { socket, transport, is_readable, is_ending, .. } = self;
        match transport.read(space, |space| read_now(socket, is_readable, *is_ending, space)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Look::Waits,
            Ok(count) if count > 0 => {
                *budget = budget.saturating_sub(count.max(READ_COST_MIN));
                let filled = connection.session.filled(count, feed.now());
                match filled {
                    Ok(None) => {}
                    Ok(Some(event)) => {
                        connection.charge_rows(&event, feed.now().steady_ns);
                        feed.on_event(&self.connection, &mut connection, event);
                    }
                    Err(refusal) => feed.count_refusal(&connection, &refusal),
                }
                Look::Goes
            }
            Ok(_) => Look::Over,
            Err(error) => {
                if error.kind() == ErrorKind::InvalidData {
                    feed.count_refusal(&connection, &Refusal::new(Code::Protocol, error.to_string()));
                }
                Look::Over
            }
        }
    }
}

/// Whether there is room for what comes next; room for a batch is held from here on.
fn may_read(connection: &mut Connection, feed: &mut NetFeed) -> bool {
    let Some(size) = connection.session.batch_ahead().filter(|_| connection.held == 0) else { return true };
    let cost = credit_cost(size);
    let now_ns = feed.now().steady_ns;
    let quota = connection.quota.clone();
    if let Some(wait_ns) = quota.as_ref().and_then(|quota| quota.wait_ns(now_ns)) {
        feed.wake_at(now_ns.saturating_add(wait_ns));
        (connection.is_blocked, connection.wants_room) = (true, false);
        return false;
    }
    connection.is_blocked = !feed.hold(cost);
    connection.wants_room = connection.is_blocked;
    if connection.is_blocked {
        return false;
    }
    if let Some(quota) = quota {
        quota.charge_bytes(size as u64, now_ns);
    }
    connection.held = cost;
    let memory = feed.spare();
    connection.session.lend(memory);
    true
}

/// Reads what there is. A read that brings less than there is room for has taken all, and the kernel tells when more comes;
/// of an end it has told for the last time.
fn read_now(socket: &mut TcpStream, is_readable: &mut bool, is_ending: bool, space: &mut [u8]) -> io::Result<usize> {
    if !*is_readable {
        return Err(ErrorKind::WouldBlock.into());
    }
    let read = uninterrupted(|| socket.read(space));
    *is_readable = match &read {
        Ok(count) => is_ending || *count == space.len(),
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    };
    read
}
