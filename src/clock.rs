//! The ticker: one thread that moves the clock on and tells those whose deadline may be due.
//!
//! It stands for the real-time clock interrupt of the seed (rule 8), once every one or two
//! seconds. Time in the server is a count of ticks, so a test can hand ticks out itself
//! ([`Clock::beat`]) and no test ever sleeps.
//!
//! A tick is broadcast over one bounded channel per subscriber, because the receivers of a single
//! channel would compete for it. Each subscriber names the first tick that it wants to hear; the
//! ticker skips the others, so that thousands of idle seats cost nothing each second. A channel
//! holds one tick, and a tick that finds it full is dropped: the clock has the number anyway.
//!
//! When the clock stops, the channels disconnect, and that is how every timer thread learns that
//! the server is going down.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::bell::Bell;
use crate::limits;

/// A moment: how many ticks the clock had made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Tick(pub u64);

/// A length of time in whole ticks, at least one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticks(u64);

impl Ticks {
    /// How many they are.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The ticks that `duration` takes, rounded up, for a clock that ticks every `period`.
    /// A duration of zero is one tick: a deadline in the past would be no deadline.
    pub fn covering(duration: Duration, period: Duration) -> Ticks {
        let ticks = duration.as_nanos().div_ceil(period.as_nanos().max(1));
        Ticks(u64::try_from(ticks).unwrap_or(u64::MAX / 2).max(1))
    }
}

/// The last tick at which something is still in time. It is past from the next tick on, so a
/// timeout of `d` fires between `d` and `d` plus one tick, and never before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Deadline(Tick);

impl Deadline {
    /// The deadline for something that may take `ticks` from `now` on.
    pub fn after(now: Tick, ticks: Ticks) -> Deadline {
        Deadline(Tick(now.0.saturating_add(ticks.0)))
    }

    /// The deadline that fires `ticks` before this one.
    pub fn earlier_by(self, ticks: Ticks) -> Deadline {
        Deadline(Tick((self.0).0.saturating_sub(ticks.0)))
    }

    /// Whether it is too late at `now`.
    pub fn is_past(self, now: Tick) -> bool {
        now > self.0
    }

    /// The first tick at which it is too late.
    pub fn fires_at(self) -> Tick {
        Tick((self.0).0.saturating_add(1))
    }

    /// How many ticks are left at `now` before it fires; 0 when it is past.
    pub fn left(self, now: Tick) -> u64 {
        self.fires_at().0.saturating_sub(now.0)
    }
}

/// The count of ticks, shared by everyone who looks at the time.
#[derive(Clone, Default)]
pub struct Clock {
    face: Arc<Face>,
}

#[derive(Default)]
struct Face {
    now: AtomicU64,
    stopped: AtomicBool,
    /// Who is told of ticks. Guarded by its own lock, a leaf: only `try_send` happens under it.
    subscribers: Mutex<Vec<Subscriber>>,
}

struct Subscriber {
    ticks: Sender<Tick>,
    alarm: Alarm,
    /// Rung after a tick was sent, and at the end.
    bell: Option<Bell>,
}

/// When its subscription wants to be woken next. Written under the lock of the seat whose
/// deadlines it mirrors, read by the ticker.
#[derive(Clone)]
pub struct Alarm(Arc<AtomicU64>);

impl Alarm {
    fn unset() -> Alarm {
        Alarm(Arc::new(AtomicU64::new(u64::MAX)))
    }

    /// Asks for the first tick from `deadline` on that is past it, or for none.
    pub fn set(&self, deadline: Option<Deadline>) {
        let tick = deadline.map_or(u64::MAX, |deadline| deadline.fires_at().0);
        self.0.store(tick, Ordering::Release);
    }

    fn is_due(&self, now: u64) -> bool {
        self.0.load(Ordering::Acquire) <= now
    }
}

/// One listener to the ticks. Dropping it ends the subscription.
pub struct Subscription {
    clock: Clock,
    ticks: Receiver<Tick>,
    alarm: Alarm,
}

impl Subscription {
    /// The channel of ticks. It disconnects when the clock stops.
    pub fn ticks(&self) -> &Receiver<Tick> {
        &self.ticks
    }

    /// Blocks until it is later than `tick`. Returns `false` if the clock stops before.
    pub fn wait_past(&self, tick: Tick) -> bool {
        // Set before the look at the time, so that a tick that comes in between is not missed.
        self.alarm.set(Some(Deadline(tick)));
        while self.clock.now() <= tick && !self.clock.is_stopped() {
            if self.ticks.recv().is_err() {
                return false;
            }
        }
        self.alarm.set(None);
        !self.clock.is_stopped()
    }

    /// The handle that says which tick this subscription waits for.
    pub fn alarm(&self) -> Alarm {
        self.alarm.clone()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mine = &self.alarm.0;
        let mut subscribers = self.clock.face.subscribers.lock();
        subscribers.retain(|subscriber| !Arc::ptr_eq(&subscriber.alarm.0, mine));
    }
}

impl Clock {
    /// A clock at tick 0 that moves only when somebody calls [`Clock::beat`].
    pub fn new() -> Clock {
        Clock::default()
    }

    /// How many ticks there have been.
    pub fn now(&self) -> Tick {
        Tick(self.face.now.load(Ordering::Acquire))
    }

    /// Whether the clock has been stopped, which means that the server is going down.
    pub fn is_stopped(&self) -> bool {
        self.face.stopped.load(Ordering::Acquire)
    }

    /// Joins those who are told of ticks. On a stopped clock the channel is disconnected at once.
    pub fn subscribe(&self) -> Subscription {
        self.subscribe_with(None)
    }

    /// As [`Clock::subscribe`], for a thread that sleeps by `bell`: it is rung whenever there is
    /// something new about the channel.
    pub fn subscribe_ringing(&self, bell: &Bell) -> Subscription {
        self.subscribe_with(Some(bell.clone()))
    }

    fn subscribe_with(&self, bell: Option<Bell>) -> Subscription {
        // One tick fits: whoever is late reads the number off the clock, so a second one in the
        // channel would tell nothing.
        let (sender, ticks) = bounded(1);
        let alarm = Alarm::unset();
        let mut subscribers = self.face.subscribers.lock();
        if !self.is_stopped() {
            subscribers.push(Subscriber {
                ticks: sender,
                alarm: alarm.clone(),
                bell,
            });
        } else if let Some(bell) = bell {
            bell.ring();
        }
        drop(subscribers);
        Subscription {
            clock: self.clone(),
            ticks,
            alarm,
        }
    }

    /// Moves the clock on by one tick and tells everyone whose alarm is due. Returns the new time
    /// and how many were told.
    pub fn beat(&self) -> (Tick, usize) {
        let now = self.face.now.fetch_add(1, Ordering::AcqRel) + 1;
        let subscribers = self.face.subscribers.lock();
        let mut told = 0;
        for subscriber in subscribers
            .iter()
            .filter(|subscriber| subscriber.alarm.is_due(now))
        {
            // Full: it has a tick to read already. Disconnected: it is about to unsubscribe.
            let _ = subscriber.ticks.try_send(Tick(now));
            if let Some(bell) = &subscriber.bell {
                bell.ring();
            }
            told += 1;
        }
        (Tick(now), told)
    }

    /// Ends time: every subscription's channel disconnects, now and for those to come.
    pub fn stop(&self) {
        let mut subscribers = self.face.subscribers.lock();
        // Under the lock, so that no subscription slips in between the flag and the clearing.
        self.face.stopped.store(true, Ordering::Release);
        for Subscriber { ticks, bell, .. } in subscribers.drain(..) {
            drop(ticks);
            if let Some(bell) = bell {
                bell.ring();
            }
        }
    }
}

/// The thread that beats a [`Clock`] at a steady pace.
pub struct Ticker {
    /// Nothing is ever sent: dropping it is the signal to stop.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    clock: Clock,
}

impl Ticker {
    /// Starts the thread `ticker`: one beat every `period`, after which `beaten` is called with
    /// the time and with how many were told.
    ///
    /// A beat comes a whole period after the one before and is never made up for: after a laptop's
    /// sleep there is one tick, not an hour of them at once.
    ///
    /// # Errors
    /// What the system says when it has no thread to give.
    pub fn start(
        clock: Clock,
        period: Duration,
        beaten: impl Fn(Tick, usize) + Send + 'static,
    ) -> io::Result<Ticker> {
        let (stop, stopped) = bounded::<()>(0);
        let beating = clock.clone();
        let thread = Builder::new()
            .name("ticker".to_owned())
            .stack_size(limits::THREAD_STACK)
            .spawn(move || {
                while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                    let (now, told) = beating.beat();
                    beaten(now, told);
                }
            })?;
        Ok(Ticker {
            stop: Some(stop),
            thread: Some(thread),
            clock,
        })
    }

    /// Stops the thread, waits for its end and stops the clock, so that every subscription
    /// disconnects.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A ticker that panicked has stopped ticking, which is all that is wanted here.
            let _ = thread.join();
        }
        self.clock.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_duration_is_rounded_up_to_ticks() {
        assert_eq!(Ticks::covering(SECOND * 2, SECOND), Ticks(2));
        assert_eq!(Ticks::covering(SECOND * 3, SECOND * 2), Ticks(2));
        assert_eq!(Ticks::covering(Duration::ZERO, SECOND), Ticks(1));
    }

    #[test]
    fn a_deadline_fires_between_its_duration_and_one_tick_more() {
        let deadline = Deadline::after(Tick(10), Ticks(2));
        assert!(!deadline.is_past(Tick(12)));
        assert!(deadline.is_past(Tick(13)));
        assert_eq!(deadline.fires_at(), Tick(13));
        assert_eq!((deadline.left(Tick(10)), deadline.left(Tick(14))), (3, 0));
    }

    #[test]
    fn only_a_due_alarm_is_told_and_everyone_gets_their_own_tick() {
        let clock = Clock::new();
        let (due, also_due, later, unset) = (
            clock.subscribe(),
            clock.subscribe(),
            clock.subscribe(),
            clock.subscribe(),
        );
        due.alarm().set(Some(Deadline(Tick(0))));
        also_due.alarm().set(Some(Deadline(Tick(0))));
        later.alarm().set(Some(Deadline(Tick(1))));
        assert_eq!(clock.beat(), (Tick(1), 2));
        assert_eq!(due.ticks().try_recv(), Ok(Tick(1)));
        assert_eq!(also_due.ticks().try_recv(), Ok(Tick(1)));
        assert!(later.ticks().is_empty() && unset.ticks().is_empty());
        assert_eq!(clock.beat(), (Tick(2), 3));
        assert_eq!(later.ticks().try_recv(), Ok(Tick(2)));
    }

    #[test]
    fn a_late_subscriber_finds_one_tick_and_reads_the_time_off_the_clock() {
        let clock = Clock::new();
        let late = clock.subscribe();
        late.alarm().set(Some(Deadline(Tick(0))));
        for _ in 0..3 {
            clock.beat();
        }
        assert_eq!(late.ticks().try_recv(), Ok(Tick(1)));
        assert!(late.ticks().is_empty());
        assert_eq!(clock.now(), Tick(3));
    }

    #[test]
    fn stopping_disconnects_everyone_also_those_who_come_later() {
        let clock = Clock::new();
        let before = clock.subscribe();
        clock.stop();
        let after = clock.subscribe();
        assert!(before.ticks().recv().is_err());
        assert!(after.ticks().recv().is_err());
    }

    #[test]
    fn who_is_rung_once_for_a_tick_and_the_end_finds_the_end() {
        let (clock, bell) = (Clock::new(), Bell::new());
        let mine = clock.subscribe_ringing(&bell);
        mine.alarm().set(Some(Deadline(Tick(0))));
        clock.beat();
        clock.stop();
        bell.wait();
        assert!(clock.is_stopped() && !bell.was_rung());
        assert_eq!(
            mine.ticks().try_recv(),
            Ok(Tick(1)),
            "so it is not the channel that tells"
        );
        let late = Bell::new();
        clock.subscribe_ringing(&late);
        late.wait();
    }

    #[test]
    fn one_can_wait_for_a_tick() {
        let clock = Clock::new();
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| clock.subscribe().wait_past(Tick(3)));
            while !waiting.is_finished() {
                clock.beat();
            }
            assert!(waiting.join().unwrap() && clock.now() > Tick(3));
            let mine = clock.subscribe();
            assert!(mine.wait_past(Tick(3)), "it is past already");
            assert_eq!(clock.beat().1, 0, "it waits for no tick any more");
            let now = clock.now();
            let waiting = threads.spawn(move || mine.wait_past(now));
            clock.stop();
            assert!(!waiting.join().unwrap());
        });
    }

    #[test]
    fn a_dropped_subscription_is_forgotten() {
        let clock = Clock::new();
        drop(clock.subscribe());
        assert!(clock.face.subscribers.lock().is_empty());
    }

    #[test]
    fn the_ticker_beats_until_it_is_stopped() {
        let clock = Clock::new();
        let listening = clock.subscribe();
        listening.alarm().set(Some(Deadline(Tick(0))));
        let ticker = Ticker::start(clock.clone(), Duration::from_millis(1), |_, _| {}).unwrap();
        listening.ticks().recv().unwrap();
        ticker.stop();
        let stopped_at = clock.now();
        assert!(clock.is_stopped());
        assert_eq!(clock.now(), stopped_at);
    }
}
