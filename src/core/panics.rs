//! Containment of panics: a panic affects only the client whose request caused it. It is caught and
//! emitted as an event, and the thread keeps running.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::event::{CoreEvent, Events};
use portal_wire::CloseReason;

thread_local! {
    /// The source location of this thread's last panic, for the event.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Catches and reports the panics of one server.
#[derive(Clone)]
pub struct Panics {
    events: Events,
    /// The fail point at which a test causes the next panic.
    #[cfg(any(test, feature = "test-support"))]
    pub next_at: std::sync::Arc<std::sync::Mutex<Option<&'static str>>>,
}

impl Panics {
    /// Installs a panic hook that records the source location, and then calls the previous hook.
    pub fn catching(events: &Events) -> Panics {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                PLACE.set(info.location().map(ToString::to_string));
                before(info);
            }));
        });
        Panics {
            events: events.clone(),
            #[cfg(any(test, feature = "test-support"))]
            next_at: std::sync::Arc::default(),
        }
    }

    /// Runs `work` for one client. If it panics, only this client is affected.
    pub fn caught(&self, work: impl FnOnce()) {
        self.ended_by(|| {
            work();
            CloseReason::PeerClosed
        });
    }

    /// Like [`Panics::caught`], for work that returns the reason for the session's end.
    pub fn ended_by(&self, work: impl FnOnce() -> CloseReason) -> CloseReason {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| self.report(panic.as_ref()))
    }

    fn report(&self, panic: &(dyn Any + Send)) -> CloseReason {
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".to_owned());
        let place = PLACE.take().unwrap_or_else(|| "?".to_owned());
        self.events.emit(|| CoreEvent::Panicked { message, place });
        CloseReason::Panicked
    }

    /// A point at which a test can make this thread panic, to check that only one client is
    /// affected. Outside of tests, it does nothing.
    pub fn fail_point(&self, place: &'static str) {
        #[cfg(any(test, feature = "test-support"))]
        if let Ok(mut next_at) = self.next_at.lock()
            && next_at.take_if(|at| *at == place).is_some()
        {
            drop(next_at);
            panic!("made to panic at {place}");
        }
        let _ = place;
    }
}
