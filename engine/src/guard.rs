//! What stands between a panic and a hanging engine.
//!
//! A panic is a bug, ours or a library's. A thread that panics tells the others, so that the process ends with a
//! sentence and an exit code; and code that reads damaged files through libraries is called so that its panics
//! become errors about the file. Errors that are expected have nothing to do with this.

use crate::error::EngineError;
use crate::links::Shared;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};

thread_local! {
    /// Whether a panic of this thread is about to become an error, and need not be printed.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Lives as long as a thread's work; stops the engine if the work ends by a panic.
pub struct PanicGuard {
    shared: Arc<Shared<EngineError>>,
}

impl PanicGuard {
    /// Guards the work of the calling thread from now on.
    pub fn new(shared: &Arc<Shared<EngineError>>) -> PanicGuard {
        PanicGuard { shared: Arc::clone(shared) }
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(EngineError::Bug("a thread of the engine panicked (see above)"));
        }
    }
}

/// Calls `body`; a panic in it becomes `Err` with the panic's words, and nothing is printed.
///
/// For calls into libraries with data from outside; what they leave half done must not be used again.
pub fn catch<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                before(info);
            }
        }));
    });
    let outer = EXPECTED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(body));
    EXPECTED.set(outer);
    result.map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast::<&str>().map_or_else(|_| "no reason given".to_owned(), |text| (*text).to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_words() {
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(catch(|| panic!("number {}", 3)), Err::<(), _>("number 3".to_owned()));
        assert_eq!(catch(|| panic!("plain")), Err::<(), _>("plain".to_owned()));
    }

    #[test]
    fn a_panicking_thread_stops_the_engine() {
        let shared: Arc<Shared<EngineError>> = Arc::default();
        let guarded = Arc::clone(&shared);
        let body = move || {
            let _guard = PanicGuard::new(&guarded);
            panic!("as expected by this test");
        };
        assert!(catch(body).is_err());
        assert!(shared.has_failed());
        assert!(matches!(shared.take_failure(), Some(EngineError::Bug(_))));
    }
}
