//! The ticker: one thread that advances the clock and notifies the subscribers whose deadline may
//! be due.
//!
//! It emulates the real-time clock interrupt in the seed (rule 8), once every one or two seconds.
//! Time in the server is a count of ticks, so a test can advance it ([`Clock::beat`]) and never
//! needs to sleep.
//!
//! A tick is broadcast over one bounded channel per subscriber, because the receivers of a single
//! channel would compete for it. Each subscriber specifies the first tick that it needs. The ticker
//! skips the subscriber until then, so thousands of idle seats cost nothing.
//!
//! A timer thread blocks on a single channel, which carries ticks, notifications of queued output,
//! and the stop signal (`NotifyReceiver`). A thread that waits only for ticks has a channel of
//! ticks, which holds one tick and disconnects when the clock stops.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::notify::{Notifier, NotifyReceiver};
pub use crate::tick::{Deadline, Tick, Ticks};
use portal_net::lock::Mutex;

/// The count of ticks, shared by all threads that read the time.
#[derive(Clone, Default)]
pub struct Clock {
    state: Arc<ClockState>,
}

#[derive(Default)]
struct ClockState {
    now: AtomicU64,
    stopped: AtomicBool,
    /// The subscribers to ticks. Their lock is a leaf: only `try_send` is called under it.
    subscribers: Mutex<Vec<Subscriber>>,
}

struct Subscriber {
    sink: Sink,
    alarm: Alarm,
}

/// The channel on which a subscriber receives ticks and the stop signal.
enum Sink {
    /// A channel of ticks, which holds one: a late subscriber reads the current tick from the
    /// clock. It disconnects when the clock stops.
    Ticks(Sender<Tick>),
    /// The channel that wakes a timer thread for every purpose.
    Timer(Notifier),
}

impl Sink {
    fn tick(&self, now: Tick) {
        match self {
            // Full: a tick is already waiting. Disconnected: the subscriber is about to
            // unsubscribe.
            Sink::Ticks(ticks) => {
                let _ = ticks.try_send(now);
            }
            Sink::Timer(notifier) => notifier.tick(now),
        }
    }

    fn stop(self) {
        match self {
            Sink::Ticks(ticks) => drop(ticks),
            Sink::Timer(notifier) => notifier.stop(),
        }
    }
}

/// The next tick for which a subscription must be woken. It is written under the lock that guards
/// the deadlines it mirrors (a seat's or the rooms'), and read by the ticker.
#[derive(Clone)]
pub struct Alarm(Arc<AtomicU64>);

impl Alarm {
    fn unset() -> Alarm {
        Alarm(Arc::new(AtomicU64::new(u64::MAX)))
    }

    /// Requests the first tick that is past `deadline`, or none.
    pub fn set(&self, deadline: Option<Deadline>) {
        let tick = deadline.map_or(u64::MAX, |deadline| deadline.fires_at().0);
        self.0.store(tick, Ordering::Release);
    }

    fn is_due(&self, now: u64) -> bool {
        self.0.load(Ordering::Acquire) <= now
    }
}

/// A registration with the clock. Dropping it ends the subscription.
struct SubscriptionGuard {
    clock: Clock,
    alarm: Alarm,
}

/// A subscription to ticks. Dropping it ends the subscription.
pub struct Subscription {
    guard: SubscriptionGuard,
    ticks: Receiver<Tick>,
}

/// A timer thread's subscription: its notifications, and the alarm that selects the next tick.
pub struct TimerSubscription {
    guard: SubscriptionGuard,
    notifications: NotifyReceiver,
}

impl TimerSubscription {
    /// The notifications that wake the timer thread.
    pub fn notifications(&self) -> &NotifyReceiver {
        &self.notifications
    }

    /// A handle for threads that queue output for the timer thread.
    pub fn notifier(&self) -> Notifier {
        self.notifications.notifier()
    }

    /// The handle that sets the tick to wait for.
    pub fn alarm(&self) -> Alarm {
        self.guard.alarm.clone()
    }
}

impl Subscription {
    /// The channel of ticks. It disconnects when the clock stops.
    pub fn ticks(&self) -> &Receiver<Tick> {
        &self.ticks
    }

    /// Blocks until the time is past `tick`. Returns `false` if the clock stops first.
    pub fn wait_past(&self, tick: Tick) -> bool {
        // Set the alarm before reading the time, so that no tick in between is missed.
        let SubscriptionGuard { clock, alarm } = &self.guard;
        alarm.set(Some(Deadline::at(tick)));
        while clock.now() <= tick && !clock.is_stopped() {
            if self.ticks.recv().is_err() {
                return false;
            }
        }
        alarm.set(None);
        !clock.is_stopped()
    }

    /// The handle that sets the tick to wait for.
    pub fn alarm(&self) -> Alarm {
        self.guard.alarm.clone()
    }
}

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        let mine = &self.alarm.0;
        let mut subscribers = self.clock.state.subscribers.lock();
        subscribers.retain(|subscriber| !Arc::ptr_eq(&subscriber.alarm.0, mine));
    }
}

impl Clock {
    /// Creates a clock at tick 0, which only [`Clock::beat`] advances.
    pub fn new() -> Clock {
        Clock::default()
    }

    /// The number of ticks so far.
    pub fn now(&self) -> Tick {
        Tick(self.state.now.load(Ordering::Acquire))
    }

    /// Returns whether the clock has been stopped, which means that the server is shutting down.
    pub fn is_stopped(&self) -> bool {
        self.state.stopped.load(Ordering::Acquire)
    }

    /// Subscribes to ticks. On a stopped clock, the channel is disconnected immediately.
    pub fn subscribe(&self) -> Subscription {
        let (sender, ticks) = bounded(1);
        Subscription {
            guard: self.join(Sink::Ticks(sender)),
            ticks,
        }
    }

    /// Like [`Clock::subscribe`], for a timer thread, which is also woken for other reasons. On a
    /// stopped clock, it receives the stop signal immediately.
    pub fn subscribe_timer(&self) -> TimerSubscription {
        let notifications = NotifyReceiver::new();
        TimerSubscription {
            guard: self.join(Sink::Timer(notifications.notifier())),
            notifications,
        }
    }

    fn join(&self, sink: Sink) -> SubscriptionGuard {
        let alarm = Alarm::unset();
        let mut subscribers = self.state.subscribers.lock();
        if self.is_stopped() {
            sink.stop();
        } else {
            let alarm = alarm.clone();
            subscribers.push(Subscriber { sink, alarm });
        }
        drop(subscribers);
        SubscriptionGuard {
            clock: self.clone(),
            alarm,
        }
    }

    /// Advances the clock by one tick and notifies every subscriber whose alarm is due. Returns the
    /// new time and the number of notified subscribers.
    pub fn beat(&self) -> (Tick, usize) {
        let now = self.state.now.fetch_add(1, Ordering::AcqRel) + 1;
        let subscribers = self.state.subscribers.lock();
        let mut notified = 0;
        for subscriber in subscribers
            .iter()
            .filter(|subscriber| subscriber.alarm.is_due(now))
        {
            subscriber.sink.tick(Tick(now));
            notified += 1;
        }
        (Tick(now), notified)
    }

    /// Stops the clock: all subscribers receive the stop signal, including those that subscribe
    /// later.
    pub fn stop(&self) {
        let mut subscribers = self.state.subscribers.lock();
        // Set this under the lock, so that no subscription is added between setting the flag and
        // draining.
        self.state.stopped.store(true, Ordering::Release);
        for subscriber in subscribers.drain(..) {
            subscriber.sink.stop();
        }
    }
}

/// Scales `time` by `CHAT_TEST_CLOCK` from the environment: `CHAT_TEST_CLOCK=100` makes every tick
/// and every timeout a hundred times longer. Tests set it for the programs that they start, so that
/// no timeout depends on the speed of the machine.
pub fn slowed(time: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    let factor = FACTOR.get_or_init(|| {
        let factor = std::env::var("CHAT_TEST_CLOCK").ok();
        factor.and_then(|factor| factor.parse().ok()).unwrap_or(1)
    });
    time.saturating_mul(*factor)
}

/// The thread that advances a [`Clock`] at regular intervals.
pub struct Ticker {
    /// Nothing is ever sent; dropping it is the signal to stop.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    clock: Clock,
}

impl Ticker {
    /// Starts the thread `ticker`, which advances the clock every `period`. After each tick it
    /// calls `beaten` with the time and the number of notified subscribers.
    ///
    /// Each tick is a whole period after the previous one, and missed ticks are not made up for:
    /// after a laptop has slept, there is one tick, not an hour's worth at once.
    ///
    /// # Errors
    /// The system's error if the thread can't be started.
    pub fn start(
        clock: Clock,
        period: Duration,
        beaten: impl Fn(Tick, usize) + Send + 'static,
    ) -> io::Result<Ticker> {
        let (stop, stopped) = bounded::<()>(0);
        let beating = clock.clone();
        let thread = portal_net::threads::start("ticker", move || {
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                let (now, sink) = beating.beat();
                beaten(now, sink);
            }
        })?;
        Ok(Ticker {
            stop: Some(stop),
            thread: Some(thread),
            clock,
        })
    }

    /// Stops the thread, waits for it to exit, and stops the clock, so that every subscription
    /// disconnects.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A ticker that panicked no longer ticks, so it has stopped, too.
            let _ = thread.join();
        }
        self.clock.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::Notification;

    #[test]
    fn only_due_alarms_are_notified_each_with_its_own_tick() {
        let clock = Clock::new();
        let (due, also_due, later, unset) = (
            clock.subscribe(),
            clock.subscribe(),
            clock.subscribe(),
            clock.subscribe(),
        );
        due.alarm().set(Some(Deadline::at(Tick(0))));
        also_due.alarm().set(Some(Deadline::at(Tick(0))));
        later.alarm().set(Some(Deadline::at(Tick(1))));
        assert_eq!(clock.beat(), (Tick(1), 2));
        assert_eq!(due.ticks().try_recv(), Ok(Tick(1)));
        assert_eq!(also_due.ticks().try_recv(), Ok(Tick(1)));
        assert!(later.ticks().is_empty() && unset.ticks().is_empty());
        assert_eq!(clock.beat(), (Tick(2), 3));
        assert_eq!(later.ticks().try_recv(), Ok(Tick(2)));
    }

    #[test]
    fn a_late_subscriber_finds_one_tick_and_reads_the_time_from_the_clock() {
        let clock = Clock::new();
        let late = clock.subscribe();
        late.alarm().set(Some(Deadline::at(Tick(0))));
        for _ in 0..3 {
            clock.beat();
        }
        assert_eq!(late.ticks().try_recv(), Ok(Tick(1)));
        assert!(late.ticks().is_empty());
        assert_eq!(clock.now(), Tick(3));
    }

    #[test]
    fn stopping_disconnects_all_subscribers_even_later_ones() {
        let clock = Clock::new();
        let before = clock.subscribe();
        clock.stop();
        let after = clock.subscribe();
        assert!(before.ticks().recv().is_err());
        assert!(after.ticks().recv().is_err());
    }

    #[test]
    fn a_timer_receives_its_tick_and_the_stop_signal() {
        let clock = Clock::new();
        let mine = clock.subscribe_timer();
        mine.alarm().set(Some(Deadline::at(Tick(1))));
        clock.beat();
        assert_eq!(mine.notifications().try_next(), None, "not yet");
        clock.beat();
        clock.beat();
        assert_eq!(
            mine.notifications().next(),
            Notification::Tick(Tick(3)),
            "the latest one"
        );
        clock.stop();
        assert_eq!(mine.notifications().next(), Notification::Stop);
        assert_eq!(
            clock.subscribe_timer().notifications().next(),
            Notification::Stop
        );
    }

    #[test]
    fn wait_past_blocks_until_the_tick_is_past() {
        let clock = Clock::new();
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| {
                let returned = clock.subscribe().wait_past(Tick(3));
                (returned, clock.now())
            });
            while !waiting.is_finished() {
                let subscribers = clock.state.subscribers.lock();
                let waits = subscribers
                    .iter()
                    .any(|subscriber| subscriber.alarm.is_due(4));
                drop(subscribers);
                if waits {
                    clock.beat();
                }
            }
            let (returned, at) = waiting.join().unwrap();
            assert!(returned && at > Tick(3), "{at:?}");
            let mine = clock.subscribe();
            assert!(mine.wait_past(Tick(3)), "it is past already");
            assert_eq!(clock.beat().1, 0, "it no longer waits for any tick");
            let now = clock.now();
            let waiting = threads.spawn(move || mine.wait_past(now));
            clock.stop();
            assert!(!waiting.join().unwrap());
        });
    }

    #[test]
    fn a_dropped_subscription_is_removed() {
        let clock = Clock::new();
        drop(clock.subscribe());
        assert!(clock.state.subscribers.lock().is_empty());
    }

    #[test]
    fn the_ticker_ticks_until_it_is_stopped() {
        let clock = Clock::new();
        let listening = clock.subscribe();
        listening.alarm().set(Some(Deadline::at(Tick(0))));
        let ticker = Ticker::start(clock.clone(), Duration::from_millis(1), |_, _| {}).unwrap();
        listening.ticks().recv().unwrap();
        ticker.stop();
        let stopped_at = clock.now();
        assert!(clock.is_stopped());
        assert_eq!(clock.now(), stopped_at);
    }
}
