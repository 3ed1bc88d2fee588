//! A panic in any thread costs the one client that it was about: it is caught where the client is
//! served, told as an event, and the thread goes on.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::event::{ChatEvent, Events};
use portal_wire::CloseReason;

thread_local! {
    /// Where this thread has panicked last, for the event line.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Catches panics for one server and tells of them.
#[derive(Clone)]
pub struct Panics {
    events: Events,
    /// Where the next panic is to be, in a test.
    #[cfg(any(test, feature = "test-support"))]
    pub next_at: std::sync::Arc<std::sync::Mutex<Option<&'static str>>>,
}

impl Panics {
    /// From now on every panic's place in the source is known. What was done about panics before (a
    /// message on standard error) still is.
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

    /// Does something for one client. Should it panic, that costs this one client.
    pub fn caught(&self, work: impl FnOnce()) {
        self.ended_by(|| {
            work();
            CloseReason::PeerClosed
        });
    }

    /// As [`Panics::caught`], for work that returns why the client's session is over.
    pub(crate) fn ended_by(&self, work: impl FnOnce() -> CloseReason) -> CloseReason {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| self.report(panic.as_ref()))
    }

    fn report(&self, panic: &(dyn Any + Send)) -> CloseReason {
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without words".to_owned());
        let place = PLACE.take().unwrap_or_else(|| "?".to_owned());
        self.events.emit(|| ChatEvent::Panicked { message, place });
        CloseReason::Panicked
    }

    /// A place at which a test may make this thread panic, to see that it costs one client alone.
    /// Outside of tests there is nothing here.
    pub fn may_panic(&self, place: &'static str) {
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
